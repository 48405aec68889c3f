"""The two tables of a training: one to train on, one that chooses the epoch."""

import hashlib
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recattn.data.click_tables.table import ClickTable
from recattn.errors import ConfigError, DataError


@dataclass(frozen=True)
class ClickTables:
    """Rows to train on and rows to validate, under the same numbers.

    train: the vocabulary is its own. validation: read with it (``fitted``), or held out of the same file (`hold_out`).
    Raises DataError where all rows of a part have the same label, ConfigError for tables of different vocabularies.
    """

    train: ClickTable
    validation: ClickTable

    def __post_init__(self) -> None:
        if self.validation.vocabulary is not self.train.vocabulary:
            raise ConfigError("the validation table was read without the training table's vocabulary (fitted=)")
        for part in ("train", "validation"):
            labels = getattr(self, part).labels
            if labels.min() == labels.max():
                raise DataError(f"all {len(labels)} labels of the {part} rows are {labels[0]:g}: both are needed")

    @classmethod
    def hold_out(cls, table: ClickTable, share: float) -> Self:
        """All rows of a share of the users to validate, the others to train on; the same users whenever it is done.

        Ids, categories and bins are still those of the whole table. Raises ConfigError for a share that is not between
        0 and 1, DataError where too few users leave a part without rows.

        >>> ClickTables.hold_out(None, 1.5)
        Traceback (most recent call last):
        recattn.errors.ConfigError: validation_share must be between 0 and 1, got 1.5
        """
        if not 0 < share < 1:
            raise ConfigError(f"validation_share must be between 0 and 1, got {share!r}")
        users, of_rows = np.unique(table.of_users, return_inverse=True)
        count = round(share * len(users))
        if not 0 < count < len(users):
            raise DataError(f"validation_share {share} of {len(users)} users leaves a part without any")
        held = np.zeros(len(users), bool)
        held[np.random.default_rng(0).permutation(len(users))[:count]] = True
        return cls(table.take(~held[of_rows]), table.take(held[of_rows]))

    @property
    def hash(self) -> str:
        """sha256 of both tables."""
        return hashlib.sha256(f"{self.train.hash} {self.validation.hash}".encode()).hexdigest()

    @property
    def met(self) -> NDArray[np.bool_]:
        """(num_items + 1,) which items the rows to train on hold, as candidates or in histories."""
        histories = self.train.histories
        read = np.zeros(histories.num_users, bool)
        read[self.train.owners] = True
        found = np.zeros(histories.num_items + 1, bool)
        found[self.train.candidates] = True
        found[histories.items[np.repeat(read, histories.lengths)]] = True
        return found

    def lines(self) -> list[str]:
        """Lines to print."""
        of_train, of_validation = (str(table).splitlines() for table in (self.train, self.validation))
        return [f"to train on: {of_train[0]}", *(f"to validate: {line}" for line in of_validation)]
