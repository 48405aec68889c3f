import torch

from recattn.nn import TimeBias

NOW = 1_700_000_000


def test_buckets_widen_by_the_base():
    gaps = torch.tensor([0, 1, 2, 3, 4, 7, 8, 2**30 - 1, 2**30, 2**40])
    assert TimeBias().buckets(NOW - gaps[None], torch.tensor([NOW])).tolist() == [[[0, 1, 2, 2, 3, 3, 4, 30, 31, 31]]]


def test_edges_of_a_base_that_is_not_whole():
    """base 2.5: edges 1, 2.5, 6.25, so that 2 s is in the first bucket and 3 s in the second."""
    gaps = torch.tensor([[0, 1, 2, 3, 6, 7, 100]])
    assert TimeBias(num_buckets=4, base=2.5).buckets(-gaps, torch.tensor([0])).tolist() == [[[0, 1, 1, 2, 2, 3, 3]]]


def test_epoch_seconds_keep_their_last_digit():
    """In fp32 these times are 128 s apart, and the four gaps would be one."""
    times = NOW - torch.tensor([[1, 2, 5, 9]])
    assert TimeBias().buckets(times, torch.tensor([NOW])).tolist() == [[[1, 2, 3, 4]]]
    assert times.float().unique().numel() == 1


def test_events_after_the_request_count_as_now():
    assert TimeBias().buckets(torch.tensor([[NOW + 500]]), torch.tensor([NOW])).tolist() == [[[0]]]


def test_int32_times_do_not_overflow():
    times, now = torch.tensor([[-(2**31)]], dtype=torch.int32), torch.tensor([2**31 - 1], dtype=torch.int32)
    assert TimeBias(num_buckets=40).buckets(times, now).item() == 32


def test_one_now_a_row_or_one_a_query():
    bias = TimeBias(num_heads=2, num_buckets=11)
    times, now = torch.randint(0, 500, (3, 7)), torch.randint(500, 900, (3, 5))
    together = bias(times, now)
    assert together.shape == (3, 2, 5, 7)
    assert bias(times, now[:, 0]).shape == (3, 2, 1, 7)
    assert torch.equal(together[:, :, 2:3], bias(times, now[:, 2]))


def test_table_is_looked_up_for_each_head_and_starts_neutral():
    bias = TimeBias(num_heads=2, num_buckets=5)
    times, now = torch.tensor([[0, 90, 99, 100]]), torch.tensor([100])
    assert (bias(times, now) == 0).all()
    bias.table.data = torch.tensor([[0.0, 1, 2, 3, 4], [0.0, 10, 20, 30, 40]])
    assert bias(times, now).tolist() == [[[[4, 4, 1, 0]], [[40, 40, 10, 0]]]]


def test_no_gradient_outside_of_the_buckets_met():
    bias = TimeBias(num_buckets=5)
    bias(torch.tensor([[99]]), torch.tensor([100])).sum().backward()
    assert bias.table.grad.tolist() == [[0, 1, 0, 0, 0]]
