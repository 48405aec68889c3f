import numpy as np
import pytest

from recattn.data.histories import Histories
from recattn.data.transitions import count_transitions
from recattn.errors import ConfigError


def histories_of(*rows, num_items):
    items = np.array([item for row in rows for item in row], np.int32)
    return Histories(items, np.r_[0, np.cumsum([len(row) for row in rows])].astype(np.int64), num_items)


def test_counts_by_hand():
    counts = count_transitions(histories_of([1, 2, 3, 1], [2, 3], num_items=4), horizon=2).toarray()
    expected = np.zeros((5, 5))
    expected[1, 2] = 1  # 1 -> 2 next
    expected[1, 3] = 1 / 2  # 1 -> 3 two later; 1 -> 1 three later is beyond the horizon
    expected[2, 3] = 1 + 1  # once for each user
    expected[2, 1] = 1 / 2
    expected[3, 1] = 1
    assert counts.tolist() == expected.tolist()


def test_repeats_are_counted_each_time():
    assert count_transitions(histories_of([1, 1, 1], num_items=1), horizon=5).toarray()[1, 1] == 1 + 1 + 1 / 2


@pytest.mark.parametrize("horizon", [1, 3, 10, 100])
def test_equal_to_a_double_loop(horizon):
    rng = np.random.default_rng(3)
    rows = [rng.integers(1, 14, rng.integers(0, 23)).tolist() for _ in range(17)]
    expected = np.zeros((14, 14))
    for row in rows:
        for late in range(len(row)):
            for early in range(max(0, late - horizon), late):
                expected[row[early], row[late]] += 1 / (late - early)
    counts = count_transitions(histories_of(*rows, num_items=13), horizon)
    np.testing.assert_allclose(counts.toarray(), expected, rtol=1e-12)
    assert counts.has_sorted_indices
    assert (counts.data > 0).all()
    assert counts.shape == (14, 14)


def test_users_are_not_mixed():
    assert count_transitions(histories_of([1], [2], [], [3], num_items=3)).nnz == 0
    apart = count_transitions(histories_of([1, 2], [3, 4], num_items=4)).toarray()
    assert np.argwhere(apart).tolist() == [[1, 2], [3, 4]]


def test_no_events_at_all():
    assert count_transitions(histories_of([], [], num_items=3)).toarray().tolist() == np.zeros((4, 4)).tolist()


def test_a_horizon_below_one_is_refused():
    with pytest.raises(ConfigError, match="horizon is 0: it must be at least 1"):
        count_transitions(histories_of([1, 2], num_items=2), horizon=0)
