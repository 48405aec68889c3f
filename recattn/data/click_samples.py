"""Samples of clicks: who was asked about what, at which moment, and the answer."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recattn.data.histories import Histories
from recattn.data.ragged import offsets_of, steps_of
from recattn.data.split import Targets
from recattn.errors import ConfigError, DataError
from recattn.nn.checks import check_count


@dataclass(frozen=True)
class ClickSamples:
    """A table of labelled candidates, sorted by (user, visible); several may stand at one moment.

    users: (samples,) int64 user numbers. visible: (samples,) int64, how many of the user's first events are known when
    the candidate is shown. items: (samples,) int32, 1 to num_items. labels: (samples,) bool, whether it was taken.
    times: (samples,) int64 seconds at which it is shown, or None where unknown.
    Raises ConfigError for columns of other lengths, items below 1, visible below 0 and rows in another order.

    >>> samples = ClickSamples(np.array([0, 0]), np.array([1, 2]), np.array([7, 5], np.int32), np.array([True, False]))
    >>> len(samples)
    2
    """

    users: NDArray[np.int64]
    visible: NDArray[np.int64]
    items: NDArray[np.int32]
    labels: NDArray[np.bool_]
    times: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        for name, column in self.columns().items():
            if column.shape != self.users.shape:
                raise ConfigError(f"{name} is {column.shape}, but users is {self.users.shape}: one entry a sample each")
        if len(self) and (self.items.min() < 1 or self.visible.min() < 0):
            raise ConfigError(
                f"items begin at {self.items.min()} and visible at {self.visible.min()}: allowed are 1 and 0 at least"
            )
        forward = np.diff(self.users)
        if (forward < 0).any() or (np.diff(self.visible)[forward == 0] < 0).any():
            raise ConfigError("samples must be sorted by users, and a user's by visible")

    def __len__(self) -> int:
        return len(self.users)

    def columns(self) -> dict[str, NDArray[Any]]:
        """The columns that there are, by name."""
        found = {name: getattr(self, name) for name in ("users", "visible", "items", "labels", "times")}
        return {name: column for name, column in found.items() if column is not None}

    @property
    def hash(self) -> str:
        """sha256 of all columns, the same on each machine."""
        digest = hashlib.sha256()
        for name, column in self.columns().items():
            digest.update(f"{name}:{len(column)};".encode())
            digest.update(np.ascontiguousarray(column, "<i8").data)
        return digest.hexdigest()


def label_by_rating(histories: Histories, targets: Targets, *, threshold: float = 4.0) -> ClickSamples:
    """Each target is a sample, asked when the events before it are known: label = [rating >= threshold].

    Targets that nothing precedes are no samples.
    Raises ConfigError for histories without ratings and a threshold that is not a number.

    >>> ratings = np.array([5, 1, 4], np.float32)
    >>> histories = Histories(np.array([2, 3, 1], np.int32), np.array([0, 3]), num_items=3, ratings=ratings)
    >>> label_by_rating(histories, Targets(np.array([0, 0]), np.array([1, 2]))).labels.tolist()
    [False, True]
    """
    if histories.ratings is None:
        raise ConfigError("the histories have no ratings to make labels of: sample negatives instead")
    if not np.isfinite(threshold):
        raise ConfigError(f"threshold must be a finite number, got {threshold!r}")
    users, positions, events = _in_order(histories, targets)
    return ClickSamples(
        users,
        positions,
        histories.items[events],
        histories.ratings[events] >= threshold,
        None if histories.times is None else histories.times[events],
    )


def label_by_sampling(histories: Histories, targets: Targets, *, negatives: int = 1, seed: int = 0) -> ClickSamples:
    """Each target is a positive, followed by ``negatives`` sampled items as negatives at the same moment.

    A negative is drawn uniformly, with replacement, from the items that occur nowhere in the user's part of the
    histories, before the target or after it. Targets that nothing precedes are no samples.
    negatives: for each target, at least 1. seed: of the draws.
    Raises ConfigError for negatives below 1, DataError where a user has taken every item.

    >>> histories = Histories(np.array([2, 3, 1], np.int32), np.array([0, 3]), num_items=4)
    >>> label_by_sampling(histories, Targets(np.array([0]), np.array([2])), negatives=2).items.tolist()
    [1, 4, 4]
    """
    check_count("negatives", negatives)
    users, positions, events = _in_order(histories, targets)
    drawn = _never_taken(histories, np.repeat(users, negatives), np.random.default_rng(seed))
    items = np.concatenate([histories.items[events, None], drawn.reshape(-1, negatives)], 1).reshape(-1)
    shown = np.repeat(np.arange(len(events)), negatives + 1)
    labels = np.zeros((len(events), negatives + 1), bool)
    labels[:, 0] = True
    times = None if histories.times is None else histories.times[events][shown]
    return ClickSamples(users[shown], positions[shown], items.astype(np.int32), labels.reshape(-1), times)


def _in_order(histories: Histories, targets: Targets) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Users and positions of the targets that something precedes, sorted, and their places among all events."""
    preceded = np.flatnonzero(targets.positions > 0)
    order = preceded[np.lexsort((targets.positions[preceded], targets.users[preceded]))]
    users, positions = targets.users[order], targets.positions[order]
    return users, positions, histories.offsets[users] + positions


def _never_taken(histories: Histories, users: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """For each entry of ``users`` an item that this user never took, each with the same probability.

    Let s_0 < s_1 < ... be a user's items. s_j - 1 - j items that the user lacks lie below s_j, so the lacking item
    number r (from 0) is r + 1 + #{ j : s_j - 1 - j <= r }: one sorted look-up for all users, no draw thrown away.
    """
    size = histories.num_items + 1
    owners = histories.owners
    taken = np.unique(owners * size + histories.items)
    owners, items = np.divmod(taken, size)
    counts = np.bincount(owners, minlength=histories.num_users)
    lacking = histories.num_items - counts
    if len(users) and lacking[users].min() < 1:
        user = int(users[lacking[users].argmin()])
        raise DataError(f"user number {user} has taken all {histories.num_items} items: there is no negative to sample")
    below = owners * size + items - 1 - steps_of(counts)
    ranks = random.integers(lacking[users])
    return ranks + 1 + np.searchsorted(below, users * size + ranks, side="right") - offsets_of(counts)[users]
