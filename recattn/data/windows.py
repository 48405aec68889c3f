"""Training sequences: each event is read once and is a target once an epoch, however long its history."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from recattn.batch import SequenceBatch
from recattn.data.batches import pad_histories
from recattn.data.histories import Histories
from recattn.data.ragged import steps_of
from recattn.errors import ConfigError
from recattn.nn.checks import check_count

BUCKET_BATCHES = 32
"""Sequences are sorted by length inside groups of this many batches: little padding, and still a random order."""


class SequenceLoader:
    """The training histories of one epoch, cut into sequences of successive targets, as SequenceBatches.

    Every event but a user's first is the target of exactly one sequence. A sequence has up to ``positions`` targets and
    before them up to ``context`` events that are only history, so that even its first target sees that much; the
    history is not copied for each target. Where a user's sequences are cut is drawn anew each epoch.

    histories: what may be trained on (``split.train``). batch_size: sequences a batch. positions, context: see above.
    seed, epoch: together they fix the cuts and the order.
    Raises ConfigError for sizes below 1 and for histories in which no user has two events.

    >>> histories = Histories(np.arange(1, 6, dtype=np.int32), np.array([0, 5]), num_items=5)
    >>> batches = list(SequenceLoader(histories, batch_size=4, positions=8, context=3))
    >>> sum(int(batch.mask.sum()) for batch in batches)
    4
    """

    def __init__(
        self,
        histories: Histories,
        *,
        batch_size: int,
        positions: int = 48,
        context: int = 50,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("positions", positions), ("context", context)):
            check_count(name, value)
        if not (histories.lengths >= 2).any():
            raise ConfigError("no user has two events to learn from: a target needs one event before it")
        self.histories, self.batch_size, self.positions, self.context = histories, batch_size, positions, context
        self._random = np.random.default_rng([seed, epoch])
        self._users, self._starts, self._ends = self._cut()
        self._batches = self._arrange()

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[SequenceBatch]:
        for rows in self._batches:
            users, starts, ends = self._users[rows], self._starts[rows], self._ends[rows]
            first = np.maximum(starts - self.context, 0)
            history = pad_histories(self.histories, users, ends, max_length=ends - first)
            steps = np.arange(int((ends - starts).max()))
            mask = steps < (ends - starts)[:, None]
            positions = np.where(mask, (starts - first)[:, None] + steps, 0)
            yield SequenceBatch(history, torch.from_numpy(positions), torch.from_numpy(mask))

    def _cut(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Sequences as (user, first target, one past the last target)."""
        lengths = self.histories.lengths
        # The first sequence of a user is 1 to `positions` long, the others as long as they may be.
        head = self._random.integers(1, self.positions + 1, len(lengths))
        targets = np.maximum(lengths - 1, 0)
        counts = np.where(targets > 0, 1 + -(-np.maximum(targets - head, 0) // self.positions), 0)
        users = np.repeat(np.arange(len(lengths)), counts)
        number = steps_of(counts)
        ends = np.minimum(1 + head[users] + number * self.positions, lengths[users])
        starts = np.where(number == 0, 1, 1 + head[users] + (number - 1) * self.positions)
        return users, starts, ends

    def _arrange(self) -> list[NDArray[np.int64]]:
        """Batches of similar length in random order."""
        order = self._random.permutation(len(self._users))
        sizes = (self._ends - self._starts) * (self.positions + self.context) + np.minimum(self._starts, self.context)
        batches = []
        for group in np.split(order, range(0, len(order), self.batch_size * BUCKET_BATCHES)[1:]):
            group = group[np.argsort(sizes[group], kind="stable")]
            batches += np.split(group, range(0, len(group), self.batch_size)[1:])
        return [batches[index] for index in self._random.permutation(len(batches))]
