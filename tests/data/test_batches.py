import numpy as np
import pytest
import torch

from recattn.data.batches import pad_histories, target_batches
from recattn.data.histories import Histories
from recattn.data.split import Targets
from recattn.errors import ConfigError


@pytest.fixture
def histories():
    return Histories(
        items=np.array([3, 1, 2, 7, 5, 5], np.int32),
        offsets=np.array([0, 3, 3, 4, 6]),
        num_items=7,
        times=np.array([10, 11, 12, 20, 30, 31]),
        ratings=np.array([1, 2, 3, 4, 5, 0.5], np.float32),
        profile=np.array([[1, 2], [0, 1], [2, 2], [1, 0]], np.int32),
        profile_sizes=(3, 3),
    )


def test_rows_hold_what_came_before_the_end(histories):
    batch = pad_histories(histories, np.array([3, 0, 0]), np.array([1, 3, 2]))
    assert batch.items.tolist() == [[5, 0, 0], [3, 1, 2], [3, 1, 0]]
    assert batch.lengths.tolist() == [1, 3, 2]
    assert batch.times.tolist() == [[30, 0, 0], [10, 11, 12], [10, 11, 0]]
    assert batch.ratings.tolist() == [[5, 0, 0], [1, 2, 3], [1, 2, 0]]
    assert batch.profile.tolist() == [[1, 0], [1, 2], [1, 2]]


def test_max_length_keeps_the_last_events(histories):
    batch = pad_histories(histories, np.array([0, 2]), np.array([3, 1]), max_length=2)
    assert batch.items.tolist() == [[1, 2], [7, 0]]
    assert batch.lengths.tolist() == [2, 1]


def test_types_are_the_ones_batch_promises(histories):
    batch = pad_histories(histories, np.array([0]), np.array([2]))
    types = [tensor.dtype for tensor in batch]
    assert types == [torch.int64, torch.int64, torch.int64, torch.float32, torch.int64]


def test_what_the_data_lacks_is_none():
    batch = pad_histories(Histories(np.array([1], np.int32), np.array([0, 1]), 1), np.array([0]), np.array([1]))
    assert batch.times is None
    assert batch.ratings is None
    assert batch.profile is None


def test_empty_histories_are_one_column_of_padding(histories):
    batch = pad_histories(histories, np.array([1, 0]), np.array([0, 0]))
    assert batch.items.tolist() == [[0], [0]]
    assert batch.lengths.tolist() == [0, 0]
    assert not batch.mask.any()


def test_no_users_and_no_events_at_all():
    empty = Histories(np.array([], np.int32), np.array([0, 0]), 3)
    assert pad_histories(empty, np.array([0]), np.array([0])).items.tolist() == [[0]]
    assert pad_histories(empty, np.array([], int), np.array([], int)).items.shape == (0, 1)


def test_later_events_and_other_users_have_no_part(histories):
    before = pad_histories(histories, np.array([0, 3]), np.array([2, 1]))
    histories.items[[2, 3, 5]] = [6, 6, 6]
    after = pad_histories(histories, np.array([0, 3]), np.array([2, 1]))
    assert torch.equal(before.items, after.items)


def test_the_batch_does_not_share_memory_with_the_data(histories):
    ends = np.array([3])
    batch = pad_histories(histories, np.array([0]), ends)
    ends[0] = 1
    batch.items[0, 0] = 6
    assert batch.lengths.tolist() == [3]
    assert histories.items[0] == 3


def test_equals_a_loop_over_users():
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 13, 29)
    data = Histories(rng.integers(1, 18, lengths.sum()).astype(np.int32), np.r_[0, np.cumsum(lengths)], 17)
    users = rng.integers(29, size=41)
    ends = rng.integers(0, lengths[users] + 1)
    batch = pad_histories(data, users, ends, max_length=5)
    for row, (user, end) in enumerate(zip(users, ends, strict=True)):
        kept = data.of(user)[:end][-5:].tolist()
        assert batch.items[row].tolist() == kept + [0] * (batch.items.shape[1] - len(kept))


def test_impossible_arguments_are_named(histories):
    with pytest.raises(ConfigError, match=r"ends\[1\] is 4, but user 0 has 3 events"):
        pad_histories(histories, np.array([2, 0]), np.array([1, 4]))
    with pytest.raises(ConfigError, match=r"ends\[0\] is -1"):
        pad_histories(histories, np.array([0]), np.array([-1]))
    with pytest.raises(ConfigError, match="users holds 4 to 4: allowed are 0 to 3"):
        pad_histories(histories, np.array([4]), np.array([0]))
    with pytest.raises(ConfigError, match="max_length is 0"):
        pad_histories(histories, np.array([0]), np.array([1]), max_length=0)


def test_targets_come_with_everything_before_them_longest_first(histories):
    targets = Targets(np.array([3, 0, 0, 2]), np.array([1, 2, 1, 0]))
    found = list(target_batches(histories, targets, batch_size=2))
    assert [rows.tolist() for rows, _ in found] == [[1, 0], [2, 3]]
    assert [batch.history.items.tolist() for _, batch in found] == [[[3, 1], [5, 0]], [[3], [0]]]
    assert [batch.targets.tolist() for _, batch in found] == [[2, 5], [1, 7]]
    assert all(batch.request_time is None for _, batch in found)


def test_the_time_of_a_target_is_told_on_request(histories):
    targets = Targets(np.array([3, 0]), np.array([1, 2]))
    ((_, batch),) = target_batches(histories, targets, batch_size=5, time_aware=True)
    assert batch.request_time.tolist() == [12, 31]
    assert batch.request_time.dtype == batch.targets.dtype == torch.int64


def test_no_targets_are_no_batches(histories):
    none = np.array([], np.int64)
    assert list(target_batches(histories, Targets(none, none), batch_size=5)) == []


def test_impossible_target_batches_are_named(histories):
    targets = Targets(np.array([3]), np.array([1]))
    with pytest.raises(ConfigError, match="batch_size is 0: it must be at least 1"):
        next(target_batches(histories, targets, batch_size=0))
    timeless = Histories(histories.items, histories.offsets, histories.num_items)
    with pytest.raises(ConfigError, match="time_aware is True, but the data has no times"):
        next(target_batches(timeless, targets, batch_size=1, time_aware=True))
