import pytest
import torch

from recattn.errors import ConfigError
from recattn.nn import event_ages, sequence_distances
from recattn.nn.positions.distances import per_query, whole_steps


def test_a_place_looks_back_at_what_came_before():
    distances = sequence_distances(7)
    assert distances.shape == (1, 7, 7)
    assert distances.dtype == torch.int64
    assert all(distances[0, i, j] == i - j for i in range(7) for j in range(7))
    assert sequence_distances(0).shape == (1, 0, 0)


def test_a_request_after_the_sequence_is_one_more_than_the_age():
    """The request takes the place after the last event."""
    ages = event_ages(torch.ones(1, 6, dtype=torch.bool))
    assert torch.equal(ages + 1, sequence_distances(7)[:, 6, :6])


def test_whole_steps_are_int64_for_each_query():
    for dtype in (torch.int64, torch.int32, torch.int16):
        assert whole_steps("ages", torch.tensor([[-2, 1]], dtype=dtype)).tolist() == [[[-2, 1]]]
        assert whole_steps("ages", torch.tensor([[-2, 1]], dtype=dtype)).dtype == torch.int64
    own = torch.zeros(3, 5, 7)
    assert per_query(own) is own


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool])
def test_what_is_not_whole_is_refused(dtype):
    with pytest.raises(ConfigError, match=f"ages must be integers, got {dtype}"):
        whole_steps("ages", torch.ones(1, 2, dtype=dtype))
