"""A click table in memory: compact arrays, and the numbers that its ids and categories were given."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recattn.data.click_tables.columns import ClickColumns
from recattn.data.features import FeatureEncoder, Field
from recattn.data.histories import Histories
from recattn.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class ClickVocabulary:
    """What was learnt from the training file, and from nothing else.

    columns: what its columns were called.
    users, items: raw ids. Items are numbered 1 to ``len(items)``, and one number more, ``num_items``, stands for every
        item that the training file does not have: 0 is padding, in a history too. Its features are unknown.
    features: the categories of each feature of items.
    codes: (num_items + 1, features) int32 codes of each item's features, 0 for unknown and for padding.
    context: how what is known of a row alone was coded; context_columns: its columns, those too that hold nothing to
        code (text that differs in every row).
    """

    columns: ClickColumns
    users: Vocabulary
    items: Vocabulary
    features: tuple[Field, ...]
    codes: NDArray[np.int32]
    context: FeatureEncoder
    context_columns: tuple[str, ...]

    @property
    def num_items(self) -> int:
        """The size of a model's catalogue, and the number of the unknown item."""
        return len(self.items) + 1

    @property
    def met(self) -> NDArray[np.bool_]:
        """(num_items + 1,) which items have been met in training, as `ItemEmbedding.set_features` asks."""
        return np.arange(self.num_items + 1) < self.num_items


@dataclass(frozen=True)
class ClickTable:
    """The rows of a click table, each history of a user kept once.

    labels: (rows,) float32, 0 or 1.
    candidates: (rows,) int32 item numbers, 1 to num_items.
    owners: (rows,) int32; row r was asked after all events of history ``owners[r]``.
    histories: the different histories, with the items' features; what `Histories` calls a user is one of them here.
    users: (histories,) int32 number of the user whose history it is; 0 for one that the training file does not have.
    context: (rows, columns) int32 codes of what is known of a row alone.
    vocabulary: the numbers' meaning.
    unknown: how many there are of candidates, of events in histories and of histories whose item or user is unknown.

    As flat arrays for others: (owners, histories.lengths[owners], candidates, labels) is user, visible, item, label.
    """

    labels: NDArray[np.float32]
    candidates: NDArray[np.int32]
    owners: NDArray[np.int32]
    histories: Histories
    users: NDArray[np.int32]
    context: NDArray[np.int32]
    vocabulary: ClickVocabulary
    unknown: dict[str, int]

    def __len__(self) -> int:
        return len(self.labels)

    def __str__(self) -> str:
        lines = [
            f"{len(self)} rows, {self.labels.mean():.4f} of them clicks; {len(self.users)} histories of "
            f"{self.histories.lengths.mean():.1f} events in the mean; {len(self.vocabulary.items)} items known"
        ]
        lines += [f"{count} {what} unknown from training" for what, count in self.unknown.items() if count]
        return "\n".join(lines)


def as_ids(texts: "pd.Series[str]") -> "pd.Series[Any]":
    """Whole numbers where all texts are written as such, else the texts.

    >>> as_ids(pd.Series(["12", "-3"])).tolist(), as_ids(pd.Series(["12", "007"])).tolist()
    ([12, -3], ['12', '007'])
    """
    return texts.astype("int64") if texts.str.fullmatch(r"0|-?[1-9][0-9]{0,17}").all() else texts
