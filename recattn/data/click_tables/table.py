"""A click table in memory: compact arrays, and the numbers that its ids and categories were given."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recattn.data.click_tables.vocabulary import ClickVocabulary
from recattn.data.histories import Histories
from recattn.data.ragged import offsets_of, spans


@dataclass(frozen=True)
class ClickTable:
    """The rows of a click table, each history of a user kept once.

    labels: (rows,) float32, 0 or 1.
    candidates: (rows,) int32 item numbers, 1 to num_items.
    owners: (rows,) int32; row r was asked after all events of history ``owners[r]``.
    histories: the different histories, with the items' features; what `Histories` calls a user is one of them here.
    users: (histories,) int32 number of the user whose history it is, from 1; those that the training file does not have
        are numbered on from ``len(vocabulary.users) + 1``.
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
        lengths = self.histories.lengths[np.unique(self.owners)]
        lines = [
            f"{len(self)} rows, {self.labels.mean():.4f} of them clicks; {len(lengths)} histories of "
            f"{lengths.mean():.1f} events in the mean; {len(self.vocabulary.items)} items known"
        ]
        lines += [f"{count} {what} unknown from training" for what, count in self.unknown.items() if count]
        return "\n".join(lines)

    @property
    def of_users(self) -> NDArray[np.int32]:
        """(rows,) the number of each row's user."""
        return self.users[self.owners]

    @property
    def hash(self) -> str:
        """sha256 of all arrays, the same on each machine; the numbers in them are the training file's."""
        digest = hashlib.sha256()
        arrays: dict[str, NDArray[Any]] = {
            "labels": self.labels,
            "candidates": self.candidates,
            "owners": self.owners,
            "items": self.histories.items,
            "offsets": self.histories.offsets,
            "users": self.users,
            "context": self.context,
            "codes": self.vocabulary.codes,
        }
        for name, array in arrays.items():
            digest.update(f"{name}:{array.shape};".encode())
            digest.update(np.ascontiguousarray(array, "<i8").data)
        return digest.hexdigest()

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Self:
        """Only these rows; histories and vocabulary stay as they are."""
        return replace(
            self,
            labels=self.labels[rows],
            candidates=self.candidates[rows],
            owners=self.owners[rows],
            context=self.context[rows],
        )

    def longest_histories(self) -> Histories:
        """Each user's longest history, of equally long ones the last; user u + 1 of the vocabulary is user u here."""
        lengths = self.histories.lengths
        order = np.lexsort((np.arange(len(lengths)), lengths, self.users))
        order = order[self.users[order] <= len(self.vocabulary.users)]
        kept = order[np.diff(self.users[order], append=0) != 0]
        events = spans(self.histories.offsets[kept], lengths[kept])
        return replace(self.histories, items=self.histories.items[events], offsets=offsets_of(lengths[kept]))
