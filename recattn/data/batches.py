"""Histories -> the padded tensors that models read, by flat-array gathers."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recattn.batch import History, TargetBatch
from recattn.data.histories import Histories
from recattn.data.split import Targets
from recattn.errors import ConfigError


def pad_histories(
    histories: Histories,
    users: NDArray[np.int64],
    ends: NDArray[np.int64],
    *,
    max_length: int | NDArray[np.int64] | None = None,
) -> History:
    """What each user had done before event ``ends`` of their own, padded on the right to the longest of the batch.

    Row b holds events ``max(0, ends[b] - max_length) .. ends[b] - 1`` of user ``users[b]``, oldest first: with
    ``ends`` the position of a target, the target and what follows it stay out. Times, ratings and profile come
    along when the histories have them. An empty history is a row of padding, and a batch of nothing but empty
    histories is one column wide, so that no model meets a tensor without a length.

    users: (batch,) user numbers; the same user may come several times.
    ends: (batch,) how many of the user's first events have happened, 0 to the user's length.
    max_length: keep the last events only, one number for all or (batch,); None keeps all.
    Returns a History with tensors (batch, length); padding is 0 everywhere.
    Raises ConfigError where ``ends`` leaves the user's history or ``max_length`` is below 1.

    >>> h = Histories(np.array([3, 1, 2, 4], np.int32), np.array([0, 3, 4]), num_items=4)
    >>> pad_histories(h, np.array([0, 1]), np.array([3, 1]), max_length=2).items.tolist()
    [[1, 2], [4, 0]]
    """
    users, ends = np.asarray(users, np.int64), np.asarray(ends, np.int64)
    if max_length is not None and np.min(max_length, initial=1) < 1:
        raise ConfigError(f"max_length is {max_length}: it must be at least 1, or None for whole histories")
    if users.size and not (users.min() >= 0 and users.max() < histories.num_users):
        raise ConfigError(f"users holds {users.min()} to {users.max()}: allowed are 0 to {histories.num_users - 1}")
    wrong = (ends < 0) | (ends > histories.offsets[users + 1] - histories.offsets[users])
    if wrong.any():
        row = int(wrong.argmax())
        user = int(users[row])
        length = int(histories.offsets[user + 1] - histories.offsets[user])
        raise ConfigError(f"ends[{row}] is {ends[row]}, but user {user} has {length} events: allowed are 0 to {length}")

    lengths = ends if max_length is None else np.minimum(ends, max_length)
    steps = np.arange(max(int(lengths.max(initial=0)), 1))
    mask = steps < lengths[:, None]
    events = ((histories.offsets[users] + ends - lengths)[:, None] + steps)[mask]

    def gather(values: NDArray[np.int32] | NDArray[np.int64] | NDArray[np.float32], dtype: type[np.generic]) -> Tensor:
        padded = np.zeros(mask.shape, dtype)
        padded[mask] = values[events]
        return torch.from_numpy(padded)

    return History(
        items=gather(histories.items, np.int64),
        lengths=torch.from_numpy(lengths.copy()),
        times=None if histories.times is None else gather(histories.times, np.int64),
        ratings=None if histories.ratings is None else gather(histories.ratings, np.float32),
        profile=None if histories.profile is None else torch.from_numpy(histories.profile[users].astype(np.int64)),
    )


def target_batches(
    histories: Histories, targets: Targets, *, batch_size: int, time_aware: bool = False
) -> Iterator[tuple[NDArray[np.int64], TargetBatch]]:
    """The targets with everything before them, in batches of similar history length, the longest first.

    A batch too large for the memory thus fails at once.

    time_aware: tell the time of each target too. Raises ConfigError where the data has no times, or for a batch_size
    below 1.
    Yields the rows of ``targets`` that a batch holds, (batch,), and the batch.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}: it must be at least 1")
    if time_aware and histories.times is None:
        raise ConfigError("time_aware is True, but the data has no times")
    longest_first = np.argsort(-targets.positions, kind="stable")
    for start in range(0, len(longest_first), batch_size):
        rows = longest_first[start : start + batch_size]
        users, positions = targets.users[rows], targets.positions[rows]
        events = histories.offsets[users] + positions
        times = torch.from_numpy(histories.times[events]) if time_aware and histories.times is not None else None
        items = torch.from_numpy(histories.items[events].astype(np.int64))
        yield rows, TargetBatch(pad_histories(histories, users, positions), items, times)
