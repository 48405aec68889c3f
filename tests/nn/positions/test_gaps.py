import pytest
import torch

from recattn.errors import ConfigError
from recattn.nn import query_times, time_gaps

NOW = 1_700_000_000


def test_gaps_are_exact_for_epoch_seconds_and_zero_after_now():
    times = torch.tensor([[NOW - 129, NOW - 1, NOW, NOW + 5]])
    assert time_gaps(times, torch.tensor([NOW])).tolist() == [[[129, 1, 0, 0]]]
    assert times.float().unique().numel() < 3  # why floats are refused


def test_gaps_to_one_moment_a_row_or_one_a_query():
    times, now = torch.randint(0, 500, (3, 7)), torch.randint(500, 900, (3, 5))
    gaps = time_gaps(times, now)
    assert gaps.shape == (3, 5, 7)
    assert all(gaps[b, i, j] == now[b, i] - times[b, j] for b in range(3) for i in range(5) for j in range(7))
    assert torch.equal(time_gaps(times, now[:, 2]), gaps[:, 2:3])


def test_int32_does_not_overflow():
    times, now = torch.tensor([[-(2**31)]], dtype=torch.int32), torch.tensor([2**31 - 1], dtype=torch.int32)
    assert time_gaps(times, now).item() == 2**32 - 1


def test_floats_are_refused():
    whole = torch.tensor([[NOW]])
    for times, now in ((whole.float(), whole[0]), (whole, whole[0].double())):
        with pytest.raises(ConfigError, match=f"times and now must be integers .seconds., got {times.dtype}"):
            time_gaps(times, now)


def test_each_place_asks_at_the_time_of_the_next_event_and_the_last_one_at_the_request():
    times = torch.tensor([[10, 20, 50], [10, 30, 0], [0, 0, 0]])
    mask = torch.arange(3) < torch.tensor([[3], [2], [0]])
    asked = query_times(times, mask, now=torch.tensor([90, 70, 60]))
    assert asked[mask].tolist() == [20, 50, 90, 30, 70]


def test_padding_does_not_change_when_places_ask():
    times, mask, now = torch.tensor([[10, 20]]), torch.ones(1, 2, dtype=torch.bool), torch.tensor([90])
    for garbage in (0, 15, 10**12):
        longer = torch.cat([times, torch.full((1, 3), garbage)], 1)
        padded = query_times(longer, torch.arange(5)[None] < 2, now=now)
        assert torch.equal(padded[:, :2], query_times(times, mask, now=now))
    assert torch.equal(query_times(times, now=now), query_times(times, mask, now=now))


def test_without_a_request_each_place_asks_at_its_own_event():
    times = torch.tensor([[10, 20, 50]])
    assert query_times(times) is times
    gaps = time_gaps(times, query_times(times))
    assert gaps[0].diagonal().tolist() == [0, 0, 0]
    assert gaps[0].tril().tolist() == [[0, 0, 0], [10, 0, 0], [40, 30, 0]]


def test_a_place_knows_nothing_after_the_next_event():
    times, now = torch.tensor([[10, 20, 50, 80, 81]]), torch.tensor([100])
    changed = times + torch.tensor([0, 0, 0, 500, 900])
    assert torch.equal(query_times(changed, now=now)[:, :2], query_times(times, now=now)[:, :2])


def test_an_empty_sequence_has_no_places():
    assert query_times(torch.zeros(2, 0, dtype=torch.int64), now=torch.tensor([1, 2])).shape == (2, 0)
