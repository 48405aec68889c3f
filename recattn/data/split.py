"""A split: histories, how much of each a model may train on, and the events it is then asked for."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recattn.data.histories import Histories
from recattn.data.ragged import offsets_of, spans, steps_of
from recattn.errors import DataError


class Targets(NamedTuple):
    """Events to be predicted: event ``positions[i]`` (from 0) of user ``users[i]``, from all events before it.

    users, positions: (targets,) int64.
    """

    users: NDArray[np.int64]
    positions: NDArray[np.int64]

    def items(self, histories: Histories) -> NDArray[np.int32]:
        """(targets,) the items to be predicted."""
        return np.asarray(histories.items[histories.offsets[self.users] + self.positions])


def events_between(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Targets:
    """Each user's events from position ``starts[u]`` up to, not including, ``ends[u]``, user after user.

    starts, ends: (users,); a user whose end does not lie after the start has none.

    >>> events_between(np.array([1, 5, 0]), np.array([3, 5, 1])).positions.tolist()
    [1, 2, 0]
    """
    counts = np.maximum(ends - starts, 0)
    return Targets(np.repeat(np.arange(len(counts)), counts), spans(starts, counts))


@dataclass(frozen=True)
class SplitSummary:
    """Counts of a split.

    train_events: events that may be trained on. validation, test: targets.
    users_without_targets: they only train. cold_validation, cold_test: targets whose item no training event has; they
        stay. no_history_validation, no_history_test: events left out as targets because nothing precedes them.
    """

    train_events: int
    validation: int
    test: int
    users_without_targets: int
    cold_validation: int
    cold_test: int
    no_history_validation: int = 0
    no_history_test: int = 0

    def lines(self) -> list[str]:
        """Lines to print."""
        lines = [f"{self.train_events} events to train on, {self.validation} to validate, {self.test} to test"]
        if self.users_without_targets:
            lines.append(f"{self.users_without_targets} users have no target and are only trained on")
        for part, cold, bare in (
            ("validation", self.cold_validation, self.no_history_validation),
            ("test", self.cold_test, self.no_history_test),
        ):
            if cold:
                lines.append(f"{cold} {part} targets are items that never occur in training (kept)")
            if bare:
                lines.append(f"{bare} {part} targets left out: nothing precedes them")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())


@dataclass(frozen=True)
class Split:
    """Histories divided into what trains, what validates and what tests.

    train_lengths: (users,) int64; models may train on the first ``train_lengths[u]`` events of user u.
    until_test: (users,) int64; the first so many lie before the test part, whether they are targets or not.
    validation, test: the targets. name, arguments: how the split was made.

    >>> import numpy as np
    >>> from recattn.data.splits import leave_one_out
    >>> split = leave_one_out(Histories(np.array([5, 2, 3, 1], np.int32), np.array([0, 4]), num_items=5))
    >>> split.train.items.tolist(), split.test.items(split.histories).tolist()
    ([5, 2], [1])
    """

    histories: Histories
    train_lengths: NDArray[np.int64]
    until_test: NDArray[np.int64]
    validation: Targets
    test: Targets
    name: str
    arguments: Mapping[str, Any]
    summary: SplitSummary

    @property
    def train(self) -> Histories:
        """The training prefix of every user; users without one keep an empty slice."""
        kept = _in_prefix(self.histories, self.train_lengths)
        times, ratings = self.histories.times, self.histories.ratings
        return replace(
            self.histories,
            items=self.histories.items[kept],
            offsets=offsets_of(self.train_lengths),
            times=None if times is None else times[kept],
            ratings=None if ratings is None else ratings[kept],
        )

    @property
    def met(self) -> NDArray[np.bool_]:
        """(num_items + 1,) which items the training part holds."""
        return _occurring(self.histories, self.train_lengths)

    @property
    def before_test(self) -> "Split":
        """The same with all that lies before the test part to train on, validation targets among it."""
        return replace(self, train_lengths=self.until_test)

    @property
    def hash(self) -> str:
        """sha256 of name, arguments and every array, the same on each machine: equal hashes are equal splits."""
        digest = hashlib.sha256(json.dumps([self.name, dict(self.arguments)], sort_keys=True).encode())
        h = self.histories
        arrays: dict[str, tuple[NDArray[Any] | None, str]] = {
            "items": (h.items, "<i4"),
            "offsets": (h.offsets, "<i8"),
            "times": (h.times, "<i8"),
            "ratings": (h.ratings, "<f4"),
            "profile": (h.profile, "<i4"),
            "train_lengths": (self.train_lengths, "<i8"),
            "validation.users": (self.validation.users, "<i8"),
            "validation.positions": (self.validation.positions, "<i8"),
            "test.users": (self.test.users, "<i8"),
            "test.positions": (self.test.positions, "<i8"),
        }
        digest.update(json.dumps([h.num_items, list(h.profile_sizes)]).encode())
        for name, (array, dtype) in arrays.items():
            digest.update(f"{name}:{None if array is None else array.shape};".encode())
            if array is not None:
                digest.update(np.ascontiguousarray(array, dtype).data)
        return digest.hexdigest()


def make_split(
    histories: Histories,
    train_lengths: NDArray[np.int64],
    until_test: NDArray[np.int64],
    validation: Targets,
    test: Targets,
    name: str,
    arguments: Mapping[str, Any],
) -> Split:
    """Drop targets that nothing precedes, count what the summary tells, and put the split together.

    Every protocol ends here, so that they all treat first events and cold items alike.

    Raises DataError when nothing is left to train on, or no target to validate or to test.
    """
    seen = _occurring(histories, train_lengths)
    kept, bare, cold = [], [], []
    for targets in (validation, test):
        preceded = targets.positions > 0
        parts = Targets(targets.users[preceded], targets.positions[preceded])
        kept.append(parts)
        bare.append(int((~preceded).sum()))
        cold.append(int((~seen[parts.items(histories)]).sum()))
    targeted = np.unique(np.concatenate([part.users for part in kept]))
    summary = SplitSummary(
        train_events=int(train_lengths.sum()),
        validation=len(kept[0].users),
        test=len(kept[1].users),
        users_without_targets=histories.num_users - len(targeted),
        cold_validation=cold[0],
        cold_test=cold[1],
        no_history_validation=bare[0],
        no_history_test=bare[1],
    )
    for count, what in (
        (summary.train_events, "event to train on"),
        (summary.validation, "validation target with a history"),
        (summary.test, "test target with a history"),
    ):
        if count == 0:
            raise DataError(f"the split {name} of {len(histories.items)} events leaves no {what} ({dict(arguments)})")
    return Split(histories, train_lengths, until_test, kept[0], kept[1], name, arguments, summary)


def _occurring(histories: Histories, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(num_items + 1,) which items stand in the first ``lengths`` events of each user."""
    seen = np.zeros(histories.num_items + 1, bool)
    seen[histories.items[_in_prefix(histories, lengths)]] = True
    return seen


def _in_prefix(histories: Histories, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(steps_of(histories.lengths) < np.repeat(lengths, histories.lengths))
