"""Labelled candidates in steps of a fixed number: a user's successive samples share one copy of the history."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from recattn.batch import RankingBatch
from recattn.data.batches import pad_histories
from recattn.data.click_samples import ClickSamples
from recattn.data.histories import Histories
from recattn.data.ragged import offsets_of, steps_of
from recattn.errors import ConfigError
from recattn.nn.checks import check_count


class ClickLoader:
    """The samples of one epoch as RankingBatches.

    Each sample is a candidate of exactly one batch. A row is a window of up to ``window`` successive moments of one
    user, each with all that is asked then; candidate p of it sees the first ``visible[p]`` events of the row.
    Windows come in random order, and batches are cut off their stream after every ``batch_size`` samples (a window at
    the cut is divided), so that all batches but the last hold exactly that many.
    A short window mixes users better, a long one copies less: a row costs ``context`` events besides those between its
    samples. On ml-100k two epochs of 8 came within .002 AUC of those of 1, with 32 they fell behind
    (experiments/LOG.md).

    histories: of all users. samples: what to ask. batch_size: samples a batch. window: moments a row. context: events
    before the first sample of a row, so many at least are seen by each sample that has them.
    hold_next: let a row go on to the event that its last sample is about, as the rows of a SequenceLoader do; no
    candidate sees it, but a TransitionHead in training then takes each sample's own pair out of its counts.
    seed, epoch: together they fix the order. shuffle: False keeps the order of the samples.
    Raises ConfigError for sizes below 1, samples of events that the histories do not have and no samples.

    >>> histories = Histories(np.arange(1, 6, dtype=np.int32), np.array([0, 5]), num_items=5)
    >>> asked = np.arange(1, 5)
    >>> samples = ClickSamples(np.zeros(4, np.int64), asked, asked.astype(np.int32) + 1, asked % 2 == 0)
    >>> batch = next(iter(ClickLoader(histories, samples, batch_size=4, context=2, shuffle=False)))
    >>> batch.candidates.tolist(), batch.labels.tolist(), batch.visible.tolist()
    ([[2, 3, 4, 5]], [[0.0, 1.0, 0.0, 1.0]], [[1, 2, 3, 4]])
    """

    def __init__(
        self,
        histories: Histories,
        samples: ClickSamples,
        *,
        batch_size: int,
        window: int = 8,
        context: int = 50,
        hold_next: bool = False,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = True,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("window", window), ("context", context)):
            check_count(name, value)
        if not len(samples):
            raise ConfigError("samples is empty: there is nothing to load")
        if samples.users[-1] >= histories.num_users or (samples.visible > histories.lengths[samples.users]).any():
            raise ConfigError("samples speak of users or events that the histories do not have")
        if samples.items.max() > histories.num_items:
            raise ConfigError(f"samples hold item {samples.items.max()}, the histories have {histories.num_items}")
        self.histories, self.samples, self.batch_size, self.context = histories, samples, batch_size, context
        self.hold_next = hold_next
        starts, ends = _windows(samples.users, samples.visible, window)
        if shuffle:
            order = np.random.default_rng([seed, epoch]).permutation(len(starts))
            starts, ends = starts[order], ends[order]
        self._starts, self._ends, self._batches = _cut(starts, ends, batch_size)

    def __len__(self) -> int:
        return len(self._batches) - 1

    def __iter__(self) -> Iterator[RankingBatch]:
        samples = self.samples
        for first, last in zip(self._batches[:-1], self._batches[1:], strict=True):
            starts, ends = self._starts[first:last], self._ends[first:last]
            users = samples.users[starts]
            before = np.maximum(samples.visible[starts] - self.context, 0)
            known = samples.visible[ends - 1]  # what the last sample of a row sees is what the row holds
            if self.hold_next:
                known = np.minimum(known + 1, self.histories.lengths[users])
            history = pad_histories(self.histories, users, known, max_length=np.maximum(known - before, 1))
            steps = np.arange(int((ends - starts).max()))
            real = steps < (ends - starts)[:, None]
            rows = np.where(real, starts[:, None] + steps, 0)
            labels = samples.labels[rows] & real
            times = None if samples.times is None else torch.from_numpy(samples.times[rows] * real)
            yield RankingBatch(
                history,
                candidates=torch.from_numpy(samples.items[rows] * real.astype(np.int64)),
                labels=torch.from_numpy(labels.astype(np.float32)),
                visible=torch.from_numpy((samples.visible[rows] - before[:, None]) * real),
                request_time=times,
                users=torch.from_numpy(users),
            )


def _windows(
    users: NDArray[np.int64], visible: NDArray[np.int64], window: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Windows as (first sample, one past the last): equal shares of each user's moments, no short rests.

    A positive and its negatives are asked at one moment and stay together.
    """
    moments = np.flatnonzero((np.diff(users, prepend=-1) != 0) | (np.diff(visible, prepend=-1) != 0))
    begins = np.flatnonzero(np.diff(users[moments], prepend=-1))
    number_of = np.diff(begins, append=len(moments))
    counts = -(-number_of // window)
    owner = np.repeat(np.arange(len(number_of)), counts)
    number = steps_of(counts)
    first = begins[owner] + number * number_of[owner] // counts[owner]
    last = begins[owner] + (number + 1) * number_of[owner] // counts[owner]
    bounds = np.append(moments, len(users))
    return bounds[first], bounds[last]


def _cut(
    starts: NDArray[np.int64], ends: NDArray[np.int64], batch_size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Windows divided where a batch ends, and the first row of each batch (batches + 1)."""
    stream = offsets_of(ends - starts)  # where each window starts in the stream of samples
    batches = np.arange(0, int(stream[-1]), batch_size)
    cuts = np.union1d(stream, batches)
    window = np.searchsorted(stream, cuts[:-1], side="right") - 1
    moved = starts[window] - stream[window]
    return cuts[:-1] + moved, cuts[1:] + moved, np.append(np.searchsorted(cuts, batches), len(window))
