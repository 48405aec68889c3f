import math

import pytest
import torch

from recattn.errors import ConfigError
from recattn.nn import T5Bias, event_ages, sequence_distances


def published_bucket(distance, num_buckets=32, max_distance=128, bidirectional=False):
    """T5's formula; its floor of a logarithm in whole numbers: b has d^wide exact^b >= exact^wide max^b."""
    ahead = 0
    if bidirectional:
        num_buckets //= 2
        ahead = num_buckets if distance < 0 else 0
        distance = abs(distance)
    distance = max(distance, 0)
    exact = num_buckets // 2
    if distance < exact:
        return ahead + distance
    wide, b = num_buckets - exact, 0
    while b < wide - 1 and distance**wide * exact ** (b + 1) >= exact**wide * max_distance ** (b + 1):
        b += 1
    return ahead + exact + b


def test_buckets_by_hand():
    """16 exact ones; then 16 + floor(16 log(d / 16) / log 8): d = 20 gives 1.7, 31 gives 5.09, 100 gives 14.1."""
    distances = [0, 1, 15, 16, 17, 18, 19, 20, 23, 31, 32, 45, 46, 64, 100, 112, 113, 127, 128, 10**9]
    buckets = [0, 1, 15, 16, 16, 16, 17, 17, 18, 21, 21, 23, 24, 26, 30, 30, 31, 31, 31, 31]
    assert T5Bias().buckets(torch.tensor([distances])).tolist() == [[buckets]]
    for distance, bucket in zip(distances, buckets, strict=True):
        if 16 < distance < 128:
            assert bucket == 16 + math.floor(math.log(distance / 16) / math.log(8) * 16)


def test_buckets_of_both_sides_by_hand():
    """Of 32 buckets, 16 look ahead; 8 exact ones on each side, then 8 + floor(8 log(d / 8) / log 16)."""
    distances = [0, 7, 8, 11, 12, 16, 32, 64, 90, 91, 128, -1, -7, -8, -12, -16, -64, -500]
    buckets = [0, 7, 8, 8, 9, 10, 12, 14, 14, 15, 15, 17, 23, 24, 25, 26, 30, 31]
    assert T5Bias(bidirectional=True).buckets(torch.tensor([distances])).tolist() == [[buckets]]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    ("num_buckets", "max_distance"), [(32, 128), (32, 17), (4, 50), (6, 7), (8, 1000), (12, 81), (18, 128)]
)
def test_every_distance_is_in_the_published_bucket(num_buckets, max_distance, bidirectional):
    bias = T5Bias(num_buckets=num_buckets, max_distance=max_distance, bidirectional=bidirectional)
    distances = [*range(-300, 300), *range(max_distance - 3, max_distance + 3), -max_distance, 1 - max_distance]
    expected = [published_bucket(d, num_buckets, max_distance, bidirectional) for d in distances]
    assert bias.buckets(torch.tensor([distances])).flatten().tolist() == expected
    assert max(expected) == num_buckets - 1
    assert min(expected) == 0


def test_the_smallest_tables():
    assert T5Bias(num_buckets=2, max_distance=2).buckets(torch.tensor([[0, 1, 9]])).tolist() == [[[0, 1, 1]]]
    both = T5Bias(num_buckets=4, max_distance=2, bidirectional=True)
    assert both.buckets(torch.tensor([[9, 1, 0, -1, -9]])).tolist() == [[[1, 1, 0, 3, 3]]]
    assert T5Bias(num_buckets=3, max_distance=4).buckets(torch.tensor([[0, 1, 2, 9]])).tolist() == [[[0, 1, 2, 2]]]


def test_table_is_looked_up_for_each_head_and_starts_neutral():
    bias = T5Bias(2, num_buckets=4, max_distance=9)
    distances = torch.tensor([[50, 3, 2, 1, 0, -4]])  # edges 1, 2, 2 sqrt(4.5)
    assert (bias(distances) == 0).all()
    bias.table.data = torch.tensor([[0.0, 1, 2, 3], [0.0, 10, 20, 30]])
    assert bias(distances).tolist() == [[[[3, 2, 2, 1, 0, 0]], [[30, 20, 20, 10, 0, 0]]]]


def test_no_gradient_outside_of_the_buckets_met():
    bias = T5Bias(num_buckets=6, max_distance=20)
    bias(torch.tensor([[1, 1, 0]])).sum().backward()
    assert bias.table.grad.tolist() == [[1, 2, 0, 0, 0, 0]]


def test_padding_does_not_shift_it_and_a_longer_history_only_adds():
    bias, mask = T5Bias(2), torch.tensor([[True, True, True, False, False]])
    torch.nn.init.normal_(bias.table)
    assert torch.equal(bias(event_ages(mask))[..., :3], bias(event_ages(mask[:, :3])))
    assert torch.equal(bias(sequence_distances(9))[..., :7, :7], bias(sequence_distances(7)))


def test_edges_stay_whole_in_half_precision():
    bias = T5Bias(max_distance=5000).half()
    steps = torch.arange(6000)[None]
    assert bias(steps).dtype == torch.float16
    assert torch.equal(bias.buckets(steps), T5Bias(max_distance=5000).buckets(steps))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 0}, "num_heads must be an integer >= 1, got 0"),
        ({"num_buckets": 1}, "num_buckets must be an integer >= 2, got 1"),
        ({"num_buckets": 2, "bidirectional": True}, "num_buckets must be an integer >= 4, got 2"),
        ({"num_buckets": 9, "bidirectional": True}, "num_buckets must be even where half of them look ahead, got 9"),
        ({"max_distance": 16}, "max_distance must be an integer >= 17, got 16"),
        ({"max_distance": 8, "bidirectional": True}, "max_distance must be an integer >= 9, got 8"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        T5Bias(**arguments)


def test_distances_must_be_whole():
    with pytest.raises(ConfigError, match=r"distances must be integers, got torch.float64"):
        T5Bias()(torch.zeros(1, 3, dtype=torch.float64))
