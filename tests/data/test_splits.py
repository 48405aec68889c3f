from dataclasses import replace

import numpy as np
import pytest

from recattn.data.histories import Histories
from recattn.data.split import Targets
from recattn.data.splits import global_time, leave_last, leave_one_out
from recattn.errors import ConfigError, DataError


def histories(*users, times=None, num_items=13):
    items = np.concatenate([np.asarray(user, np.int32) for user in users]) if users else np.zeros(0, np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(user) for user in users])]).astype(np.int64)
    flat = None if times is None else np.concatenate([np.asarray(user, np.int64) for user in times])
    return Histories(items.astype(np.int32), offsets, num_items, times=flat)


def test_leave_one_out_tests_on_the_last_event_and_validates_on_the_one_before():
    h = histories([1, 2, 3, 4, 5], [6], [7, 8, 9], [1, 2])
    split = leave_one_out(h)
    assert split.train_lengths.tolist() == [3, 1, 1, 2]
    assert split.before_test.train_lengths.tolist() == [4, 1, 2, 2]
    assert split.test.users.tolist() == split.validation.users.tolist() == [0, 2]
    assert split.test.items(h).tolist() == [5, 9]
    assert split.validation.items(h).tolist() == [4, 8]
    assert split.summary.users_without_targets == 2
    assert split.test.users.dtype == split.test.positions.dtype == split.train_lengths.dtype == np.int64


@pytest.mark.parametrize(("share", "asked"), [(0.1, [1, 1, 0, 3]), (0.29, [2, 1, 0, 9]), (0.49, [4, 1, 0, 15])])
def test_leave_last_tests_on_the_last_share_and_validates_on_as_many_before(share, asked):
    lengths = [9, 3, 2, 32]
    split = leave_last(histories(*([number % 13 + 1 for number in range(length)] for length in lengths)), share=share)
    assert split.arguments == {"share": share}
    assert split.train_lengths.tolist() == [length - 2 * count for length, count in zip(lengths, asked, strict=True)]
    until_test = [length - count for length, count in zip(lengths, asked, strict=True)]
    assert split.before_test.train_lengths.tolist() == until_test
    assert split.summary.users_without_targets == 1
    for user, (length, count) in enumerate(zip(lengths, asked, strict=True)):
        for targets, end in ((split.test, length), (split.validation, length - count)):
            assert targets.positions[targets.users == user].tolist() == list(range(end - count, end))


def test_a_share_that_is_whole_but_for_rounding_is_whole():
    split = leave_last(histories(np.arange(1, 101), num_items=100), share=0.29)  # 0.29 * 100 is 28.999999999999996
    assert len(split.test.users) == 29


def test_leave_last_refuses_what_it_cannot_do():
    for share in (0.0, 0.5, float("nan")):
        with pytest.raises(ConfigError, match=f"share must be above 0 and below 0.5, got {share}"):
            leave_last(histories([1, 2, 3]), share=share)
    with pytest.raises(DataError, match="three events, but the longest history has 2"):
        leave_last(histories([1, 2], [3]))


def test_train_holds_every_prefix_and_an_empty_slice_where_there_is_none():
    h = histories([1, 2, 3], [4, 5], times=[[1, 7, 8], [9, 11]])
    h = replace(h, ratings=np.arange(5, dtype=np.float32))
    train = global_time(h, validation_time=7, test_time=8).train
    assert [train.of(user).tolist() for user in range(2)] == [[1], []]
    assert train.times.tolist() == [1]
    assert train.ratings.tolist() == [0.0]
    assert train.num_items == h.num_items


def test_leave_one_out_without_any_user_of_three_events_is_an_error():
    with pytest.raises(DataError, match="three events, but the longest history has 2"):
        leave_one_out(histories([1, 2], [3]))
    with pytest.raises(DataError, match="longest history has 0"):
        leave_one_out(histories())


def test_cold_targets_stay_and_are_counted():
    split = leave_one_out(histories([1, 2, 3], [1, 3, 2, 3]))
    assert split.summary.cold_validation == 2  # item 2 is a target of both; their training is 1 and 1, 3
    assert split.summary.cold_test == 0
    assert len(split.validation.users) == 2
    assert "2 validation targets are items that never occur in training (kept)" in str(split.summary)


GLOBAL = histories([1, 2, 3, 4], [5, 6], [7, 8, 9], [2, 1], times=[[1, 2, 10, 20], [3, 4], [5, 11, 12], [21, 22]])


@pytest.mark.parametrize(
    ("target", "validation", "test"),
    [
        ("first", [(0, 2), (2, 1)], [(0, 3)]),
        ("last", [(0, 2), (2, 2)], [(0, 3), (3, 1)]),
        ("all", [(0, 2), (2, 1), (2, 2)], [(0, 3), (3, 1)]),
    ],
)
def test_global_time_takes_targets_from_windows(target, validation, test):
    split = global_time(GLOBAL, validation_time=10, test_time=20, target=target)
    assert split.train_lengths.tolist() == [2, 2, 1, 0]
    assert split.before_test.train_lengths.tolist() == [3, 2, 3, 0]  # events 10, 11 and 12, whichever is a target
    assert list(zip(*map(np.ndarray.tolist, split.validation), strict=True)) == validation
    assert list(zip(*map(np.ndarray.tolist, split.test), strict=True)) == test


def test_targets_without_history_are_left_out_and_counted():
    summary = global_time(GLOBAL, validation_time=10, test_time=20).summary
    assert (summary.no_history_validation, summary.no_history_test) == (0, 1)
    assert "1 test targets left out: nothing precedes them" in str(summary)


def test_no_training_event_lies_after_the_validation_time():
    rng = np.random.default_rng(5)
    times = [np.sort(rng.integers(0, 997, rng.integers(1, 41))) for _ in range(37)]
    h = histories(*[rng.integers(1, 14, len(user)) for user in times], times=times)
    split = global_time(h, validation=0.2, test=0.1, target="all")
    start, end = split.arguments["validation_time"], split.arguments["test_time"]
    assert split.train.times.max() < start
    for targets, low, high in ((split.validation, start, end), (split.test, end, 10**9)):
        when = h.times[h.offsets[targets.users] + targets.positions]
        assert ((when >= low) & (when < high)).all()
    events = len(h.items)
    assert np.isclose((h.times >= end).sum() / events, 0.1, atol=0.02)
    assert np.isclose((h.times >= start).sum() / events, 0.3, atol=0.02)


def test_events_of_one_second_are_not_divided():
    times = [[1, 2, 3, 5, 5, 5, 5, 5, 5, 6]]
    split = global_time(histories(range(1, 11), times=times), validation=0.5, test=0.1, target="all")
    assert split.arguments == {"validation_time": 5, "test_time": 6, "target": "all"}
    assert (split.summary.train_events, split.summary.validation, split.summary.test) == (3, 6, 1)


def test_global_time_refuses_what_it_cannot_do():
    with pytest.raises(ConfigError, match="needs times"):
        global_time(histories([1, 2, 3]))
    with pytest.raises(ConfigError, match="target='random' is not allowed"):
        global_time(GLOBAL, target="random")
    with pytest.raises(ConfigError, match=r"validation=0.7 and test=0.3 must"):
        global_time(GLOBAL, validation=0.7, test=0.3)
    with pytest.raises(ConfigError, match="give both"):
        global_time(GLOBAL, test_time=5)
    with pytest.raises(ConfigError, match="must lie before test_time=5"):
        global_time(GLOBAL, validation_time=7, test_time=5)
    with pytest.raises(ConfigError, match="not in the order of their times"):
        global_time(histories([1, 2, 3], times=[[3, 1, 2]]), validation_time=2, test_time=3)
    with pytest.raises(DataError, match="hold no event"):
        global_time(histories(times=[[]]))
    with pytest.raises(DataError, match="leaves no event to train on"):
        global_time(GLOBAL, validation_time=0, test_time=20)
    with pytest.raises(DataError, match="leaves no test target"):
        global_time(GLOBAL, validation_time=10, test_time=1000)


def test_equal_splits_have_equal_hashes_whatever_the_dtypes():
    split = leave_one_out(GLOBAL)
    same = replace(split, histories=replace(GLOBAL, items=GLOBAL.items.astype(">i4")))
    assert split.hash == same.hash == leave_one_out(GLOBAL).hash


@pytest.mark.parametrize(
    "change",
    ["items", "times", "ratings", "profile", "train_lengths", "validation", "test", "name", "arguments", "num_items"],
)
def test_the_hash_depends_on_everything(change):
    split = leave_one_out(GLOBAL)
    other = {
        "items": lambda: replace(split, histories=replace(GLOBAL, items=GLOBAL.items[::-1])),
        "times": lambda: replace(split, histories=replace(GLOBAL, times=None)),
        "num_items": lambda: replace(split, histories=replace(GLOBAL, num_items=17)),
        "ratings": lambda: replace(split, histories=replace(GLOBAL, ratings=np.ones(len(GLOBAL.items), np.float32))),
        "profile": lambda: replace(
            split,
            histories=replace(GLOBAL, profile=np.ones((GLOBAL.num_users, 1), np.int32), profile_sizes=(2,)),
        ),
        "train_lengths": lambda: replace(split, train_lengths=split.train_lengths + 1),
        "validation": lambda: replace(split, validation=split.test),
        "test": lambda: replace(split, test=Targets(split.test.users, split.test.positions - 1)),
        "name": lambda: replace(split, name="other"),
        "arguments": lambda: replace(split, arguments={"seed": 3}),
    }[change]()
    assert other.hash != split.hash


def test_the_hash_of_a_known_split_never_changes():
    # Results are compared across machines and versions by this value.
    assert leave_one_out(histories([1, 2, 3], times=[[5, 7, 11]])).hash == (
        "138518238173775545761c5645207b21ccd2dc797d6d15fd84c0ef401521735a"
    )
