"""A click table as batches: rows that share a history are candidates side by side."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from recattn.batch import RankingBatch
from recattn.data.batches import pad_histories
from recattn.data.click_tables.table import ClickTable
from recattn.data.ragged import offsets_of, spans
from recattn.data.windows import BUCKET_BATCHES
from recattn.nn.checks import check_count


class ClickTableLoader:
    """The rows of one epoch as RankingBatches with labels; every row is in exactly one of them.

    All batches but one hold ``batch_size`` rows of the table. Rows of one history stay together, beside each other
    on the candidates axis, where the end of a batch or ``max_candidates`` does not divide them. Batches are made of
    histories of similar length, which are sorted inside groups of 32 batches, and come in random order. A row's context
    stands beside its candidate.

    batch_size: rows a batch. max_length: the last events of a history that are kept. max_candidates: rows of a history
    in a row of the batch at most. user_as_profile: give the user's number as the last profile field, 0 for one that
    training does not have, with ``profile_sizes`` for the model's constructor. seed, epoch: together they fix the
    order. shuffle: False keeps the order of the table. Raises ConfigError for numbers below 1.

    >>> from recattn.data.histories import Histories
    >>> histories = Histories(np.array([1, 2, 2], np.int32), np.array([0, 2, 3]), num_items=3)
    >>> labels, candidates = np.array([1, 0, 0], np.float32), np.array([2, 1, 1], np.int32)
    >>> context = np.array([[3], [5], [4]])
    >>> table = ClickTable(labels, candidates, np.array([0, 0, 1]), histories, np.array([1, 2]), context, None, {})
    >>> batch = next(iter(ClickTableLoader(table, batch_size=3, shuffle=False)))
    >>> batch.candidates.tolist(), batch.history.items.tolist(), batch.context[..., 0].tolist()
    ([[2, 1], [1, 0]], [[1, 2], [2, 0]], [[3, 5], [4, 0]])
    """

    def __init__(
        self,
        table: ClickTable,
        *,
        batch_size: int,
        max_length: int = 50,
        max_candidates: int = 32,
        user_as_profile: bool = False,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = True,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("max_length", max_length), ("max_candidates", max_candidates)):
            check_count(name, value)
        self.table, self.batch_size = table, batch_size
        self.max_length, self.max_candidates = max_length, max_candidates
        self.profile_sizes: tuple[int, ...] = ()
        self._histories = table.histories
        if user_as_profile:
            known = len(table.vocabulary.users)
            users = np.where(table.users <= known, table.users, 0)[:, None]
            self.profile_sizes = (known + 1,)
            self._histories = replace(table.histories, profile=users, profile_sizes=self.profile_sizes)
        random = np.random.default_rng([seed, epoch])
        self._order = self._arrange(random) if shuffle else np.arange(len(table))
        self._starts = np.arange(0, len(table), batch_size)
        if shuffle:
            self._starts = random.permutation(self._starts)

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[RankingBatch]:
        for start in self._starts:
            yield self._batch(self._order[start : start + self.batch_size])

    def _batch(self, rows: NDArray[np.int64]) -> RankingBatch:
        """Successive rows of one history side by side."""
        owners = self.table.owners[rows]
        steps = np.arange(len(rows))
        first = np.append(True, owners[1:] != owners[:-1])
        place = steps - np.maximum.accumulate(np.where(first, steps, 0))
        first |= place % self.max_candidates == 0
        line, column = np.cumsum(first) - 1, place % self.max_candidates
        whose = owners[first].astype(np.int64)
        history = pad_histories(self._histories, whose, self._histories.lengths[whose], max_length=self.max_length)
        candidates = np.zeros((len(whose), int(column.max()) + 1), np.int64)
        labels = np.zeros(candidates.shape, np.float32)
        context = np.zeros((*candidates.shape, self.table.context.shape[1]), np.int64)
        candidates[line, column] = self.table.candidates[rows]
        labels[line, column] = self.table.labels[rows]
        context[line, column] = self.table.context[rows]
        return RankingBatch(
            history,
            torch.from_numpy(candidates),
            torch.from_numpy(labels),
            users=torch.from_numpy(self.table.users[whose].astype(np.int64)),
            context=torch.from_numpy(context) if context.shape[-1] else None,
        )

    def _arrange(self, random: np.random.Generator) -> NDArray[np.int64]:
        """The rows in their order: histories at random, in each group of batches by length."""
        lengths = np.minimum(self._histories.lengths, self.max_length)
        counts = np.bincount(self.table.owners, minlength=len(lengths))
        histories = random.permutation(len(lengths))
        group = offsets_of(counts[histories])[:-1] // (self.batch_size * BUCKET_BATCHES)
        # Every other group runs from long to short, so that a batch across two groups is of like lengths too.
        by_length = np.where(group % 2 == 0, lengths[histories], -lengths[histories])
        histories = histories[np.lexsort((by_length, group))]
        rows = np.argsort(self.table.owners, kind="stable")
        return rows[spans(offsets_of(counts)[histories], counts[histories])]
