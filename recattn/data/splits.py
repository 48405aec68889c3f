"""The protocols by which histories are divided into training, validation and test."""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recattn.data.histories import Histories
from recattn.data.split import Split, SplitSummary, Targets, events_between, make_split
from recattn.errors import ConfigError, DataError

__all__ = ["Split", "SplitSummary", "Targets", "global_time", "leave_last", "leave_one_out"]

TargetChoice: TypeAlias = Literal["first", "last", "all"]
_NEEDED = 3


def leave_one_out(histories: Histories) -> Split:
    """Each user's last event is the test target, the one before it the validation target, the rest trains.

    Users with fewer than three events keep all of theirs in training and are no targets; the summary counts them. The
    protocol looks at no clock: others' training events may lie after a user's test event, which is why its numbers say
    less about live use than those of `global_time`.

    Raises DataError when no user has three events.

    >>> h = Histories(np.array([5, 2, 3, 1, 4], np.int32), np.array([0, 4, 5]), num_items=5)
    >>> split = leave_one_out(h)
    >>> split.train_lengths.tolist(), split.validation.positions.tolist(), split.test.positions.tolist()
    ([2, 1], [2], [3])
    """
    lengths = histories.lengths
    users = np.flatnonzero(lengths >= _NEEDED)
    if len(users) == 0:
        longest = int(lengths.max(initial=0))
        raise DataError(f"leave-one-out needs a user with three events, but the longest history has {longest}")
    asked = (lengths >= _NEEDED).astype(np.int64)
    last = lengths[users] - 1
    return make_split(
        histories,
        lengths - 2 * asked,
        lengths - asked,
        Targets(users, last - 1),
        Targets(users, last),
        "leave_one_out",
        {},
    )


def leave_last(histories: Histories, *, share: float = 0.1) -> Split:
    """Each user's last ``share`` of events tests, as many before them validate, the rest trains.

    Of n events floor(share n), but at least one, are test targets, and as many are validation targets. Users with fewer
    than three events only train. A target's history is everything that the user did before it. Like `leave_one_out`
    the protocol looks at no clock.

    share: above 0 and below 0.5.
    Raises ConfigError for another share, DataError when no user has three events.

    >>> h = Histories(np.arange(1, 11, dtype=np.int32), np.array([0, 10]), num_items=10)
    >>> split = leave_last(h, share=0.2)
    >>> split.train_lengths.tolist(), split.validation.positions.tolist(), split.test.positions.tolist()
    ([6], [6, 7], [8, 9])
    """
    if not 0 < share < 0.5:
        raise ConfigError(f"share must be above 0 and below 0.5, got {share!r}")
    lengths = histories.lengths
    if lengths.max(initial=0) < _NEEDED:
        longest = int(lengths.max(initial=0))
        raise DataError(f"leave_last needs a user with three events, but the longest history has {longest}")
    asked = np.maximum(1, np.floor(lengths * share + 1e-9).astype(np.int64))  # 0.29 * 100 is a little less than 29
    asked = np.where(lengths >= _NEEDED, asked, 0)
    return make_split(
        histories,
        lengths - 2 * asked,
        lengths - asked,
        events_between(lengths - 2 * asked, lengths - asked),
        events_between(lengths - asked, lengths),
        "leave_last",
        {"share": share},
    )


def global_time(
    histories: Histories,
    *,
    validation: float = 0.1,
    test: float = 0.1,
    validation_time: int | None = None,
    test_time: int | None = None,
    target: TargetChoice = "first",
) -> Split:
    """One moment for all: events before ``validation_time`` train, targets lie after it.

    Validation targets are a user's events in [validation_time, test_time), test targets those from test_time on; each
    is predicted from everything that the user did before it. Events before a target but after ``validation_time`` are
    thus history, never training.

    validation, test: shares of the events, which choose the two moments. Events of one second are not divided, so that
        more than the share is taken where many tie.
    validation_time, test_time: the moments in seconds, in place of the shares; both or none.
    target: which of a user's events in each window: the "first", the "last" or "all".

    Raises ConfigError when the histories have no times, are not ordered by them, or an argument is out of range;
    DataError when no event is left to train on, or no target to validate or test.

    >>> h = Histories(np.array([1, 2, 3, 4], np.int32), np.array([0, 4]), 4, times=np.array([10, 20, 30, 40]))
    >>> split = global_time(h, validation_time=30, test_time=40)
    >>> split.train_lengths.tolist(), split.validation.positions.tolist(), split.test.positions.tolist()
    ([2], [2], [3])
    """
    times = histories.times
    if times is None:
        raise ConfigError("global_time needs times, but the histories have none; name time_column, or leave_one_out")
    if target not in {"first", "last", "all"}:
        raise ConfigError(f"target={target!r} is not allowed; choose 'first', 'last' or 'all'")
    owners = histories.owners
    if ((np.diff(times) < 0) & (np.diff(owners) == 0)).any():
        raise ConfigError("the histories are not in the order of their times; make them with encode()")
    start, end = _moments(times, validation, test, validation_time, test_time)
    arguments = {"validation_time": start, "test_time": end, "target": target}
    train_lengths = np.bincount(owners[times < start], minlength=histories.num_users).astype(np.int64)
    until_test = np.bincount(owners[times < end], minlength=histories.num_users).astype(np.int64)
    return make_split(
        histories,
        train_lengths,
        until_test,
        _targets(train_lengths, until_test, target),
        _targets(until_test, histories.lengths, target),
        "global_time",
        arguments,
    )


def _moments(
    times: NDArray[np.int64], validation: float, test: float, validation_time: int | None, test_time: int | None
) -> tuple[int, int]:
    if validation_time is not None and test_time is not None:
        if validation_time >= test_time:
            raise ConfigError(f"validation_time={validation_time} must lie before test_time={test_time}")
        return int(validation_time), int(test_time)
    if validation_time is not None or test_time is not None:
        raise ConfigError(
            f"validation_time={validation_time} and test_time={test_time}: give both, or neither and the shares"
        )
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise ConfigError(f"validation={validation} and test={test} must be above 0 and add up to less than 1")
    if len(times) == 0:
        raise DataError("global_time: the histories hold no event")
    ordered = np.sort(times)
    return _moment(ordered, validation + test), _moment(ordered, test)


def _moment(ordered: NDArray[np.int64], share: float) -> int:
    """The latest second from which on there are at least ``share`` of the events."""
    place = int(np.floor(len(ordered) * (1 - share) + 1e-9))  # 1 - 0.1 - 0.1 is a little less than 0.8
    return int(ordered[min(place, len(ordered) - 1)])


def _targets(starts: NDArray[np.int64], ends: NDArray[np.int64], target: TargetChoice) -> Targets:
    """Positions from ``starts[u]`` up to, not including, ``ends[u]`` of each user: the first, the last or all."""
    counts = ends - starts
    users = np.flatnonzero(counts > 0)
    if target == "first":
        return Targets(users, starts[users])
    if target == "last":
        return Targets(users, ends[users] - 1)
    return events_between(starts, ends)
