"""Labelled targets in steps of a fixed number: a user's successive targets share one copy of the history."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from recattn.batch import RankingBatch
from recattn.data.batches import pad_histories
from recattn.data.histories import Histories
from recattn.errors import ConfigError


class ClickLoader:
    """The rated events of one epoch as RankingBatches, each with a label.

        label_t = [rating_t >= threshold], asked when the events before t are known

    Each event in question, a user's ``starts`` to ``ends - 1``, is a sample of exactly one batch. A row is a window of
    up to ``window`` successive samples of one user; candidate p of it sees the first ``visible[p]`` events of the row.
    Windows come in random order, and batches are cut off their stream after every ``batch_size`` samples (a window at
    the cut is divided), so that all batches but the last hold exactly that many.
    A short window mixes users better, a long one copies less: a row costs ``context`` events besides its samples.
    On ml-100k two epochs of 8 came within .002 AUC of those of 1, with 32 they fell behind (experiments/LOG.md).

    histories: with ratings. batch_size: samples a batch. window: samples a row. context: events before the first
    sample of a row, so many at least are seen by each sample that has them.
    starts, ends: (users,) the positions in each user's history to take, by default 1 and its length. A start of 0 asks
    about a user's first event, which has no history.
    seed, epoch: together they fix the order. shuffle: False keeps the order of the histories.
    Raises ConfigError for sizes below 1, histories without ratings, positions outside of a history and no samples.

    >>> ratings = np.array([5, 1, 4, 3, 5], np.float32)
    >>> histories = Histories(np.arange(1, 6, dtype=np.int32), np.array([0, 5]), num_items=5, ratings=ratings)
    >>> batch = next(iter(ClickLoader(histories, batch_size=4, context=2, shuffle=False)))
    >>> batch.candidates.tolist(), batch.labels.tolist(), batch.visible.tolist()
    ([[2, 3, 4, 5]], [[0.0, 1.0, 0.0, 1.0]], [[1, 2, 3, 4]])
    """

    def __init__(
        self,
        histories: Histories,
        *,
        batch_size: int,
        threshold: float = 4.0,
        window: int = 8,
        context: int = 50,
        starts: NDArray[np.int64] | None = None,
        ends: NDArray[np.int64] | None = None,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = True,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("window", window), ("context", context)):
            if value < 1:
                raise ConfigError(f"{name} must be an integer >= 1, got {value!r}")
        if histories.ratings is None:
            raise ConfigError("the histories have no ratings to make labels of")
        lengths = histories.lengths
        starts = np.minimum(1, lengths) if starts is None else np.asarray(starts, np.int64)
        ends = lengths if ends is None else np.asarray(ends, np.int64)
        if starts.shape != lengths.shape or ends.shape != lengths.shape or (starts < 0).any() or (ends > lengths).any():
            raise ConfigError(
                f"starts and ends must be positions of {len(lengths)} users' own events, from 0 to the length"
            )
        if not (starts < ends).any():
            raise ConfigError("no samples: no user has an event from starts to ends")
        self.histories, self.batch_size, self.threshold = histories, batch_size, threshold
        self.window, self.context, self.shuffle = window, context, shuffle
        self._labels = histories.ratings >= threshold
        self.num_samples = int(np.maximum(ends - starts, 0).sum())
        self._random = np.random.default_rng([seed, epoch])
        self._users, self._starts, self._ends, self._batches = self._cut(*self._windows(starts, ends))

    def __len__(self) -> int:
        return len(self._batches) - 1

    def __iter__(self) -> Iterator[RankingBatch]:
        for first, last in zip(self._batches[:-1], self._batches[1:], strict=True):
            users, starts, ends = self._users[first:last], self._starts[first:last], self._ends[first:last]
            # What the last sample of a row sees is what the row holds.
            before = np.maximum(starts - self.context, 0)
            history = pad_histories(self.histories, users, ends - 1, max_length=np.maximum(ends - 1 - before, 1))
            steps = np.arange(int((ends - starts).max()))
            real = steps < (ends - starts)[:, None]
            events = np.where(real, (self.histories.offsets[users] + starts)[:, None] + steps, 0)
            labels = self._labels[events] & real
            times = None if self.histories.times is None else torch.from_numpy(self.histories.times[events] * real)
            yield RankingBatch(
                history,
                candidates=torch.from_numpy(self.histories.items[events] * real.astype(np.int64)),
                labels=torch.from_numpy(labels.astype(np.float32)),
                visible=torch.from_numpy(np.where(real, (starts - before)[:, None] + steps, 0)),
                request_time=times,
            )

    def _windows(
        self, starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Windows in their order, as (user, first sample, one past the last)."""
        samples = np.maximum(ends - starts, 0)
        counts = -(-samples // self.window)
        users = np.repeat(np.arange(len(samples)), counts)
        number = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
        # Equal shares of each user's samples: no short rests, which would be rows of padding.
        first = starts[users] + number * samples[users] // counts[users]
        last = starts[users] + (number + 1) * samples[users] // counts[users]
        if not self.shuffle:
            return users, first, last
        order = self._random.permutation(len(users))
        return users[order], first[order], last[order]

    def _cut(
        self, users: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Windows divided where a batch ends, and the first row of each batch (batches + 1)."""
        stream = np.concatenate([[0], np.cumsum(ends - starts)])  # where each window starts in the stream of samples
        cuts = np.union1d(stream, np.arange(0, self.num_samples, self.batch_size))
        window = np.searchsorted(stream, cuts[:-1], side="right") - 1
        moved = starts[window] - stream[window]
        first = np.searchsorted(cuts, np.arange(0, self.num_samples, self.batch_size))
        return users[window], cuts[:-1] + moved, cuts[1:] + moved, np.append(first, len(window))
