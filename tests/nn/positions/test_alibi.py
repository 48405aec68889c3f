import math

import pytest
import torch

from recattn.errors import ConfigError
from recattn.nn import AlibiBias, AttentionPooling, DotScorer, Softmax, event_ages, sequence_distances, time_gaps
from recattn.nn.positions.alibi import alibi_slopes

NOW = 1_700_000_000


def test_slopes_are_the_published_ones():
    """Press et al.: 1/2, 1/4, ..., 1/256 for 8 heads; for 12, four of those for 16 follow, from 2^-1/2 on."""
    eight = [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    assert alibi_slopes(8) == tuple(eight)
    assert alibi_slopes(12) == pytest.approx([*eight, 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])
    assert alibi_slopes(16)[:2] == pytest.approx([2**-0.5, 2**-1])
    assert alibi_slopes(1) == (2**-8,)


@pytest.mark.parametrize("num_heads", range(1, 40))
def test_every_head_has_a_slope_of_its_own(num_heads):
    slopes = alibi_slopes(num_heads)
    assert len(set(slopes)) == num_heads
    assert all(0 < slope < 1 for slope in slopes)


def test_bias_is_minus_slope_times_distance_and_none_for_what_lies_ahead():
    bias = AlibiBias(2, slopes=[0.5, 0.25])
    assert bias(torch.tensor([[-3, 0, 1, 4]])).tolist() == [[[[0, 0, -0.5, -2]], [[0, 0, -0.25, -1]]]]
    assert not list(bias.parameters())
    assert bias.state_dict() == {}


def test_weights_fade_exponentially_on_days_and_by_a_power_law_on_logarithms():
    layer, gaps = AttentionPooling(DotScorer(), Softmax()), torch.tensor([[9 * 86400, 86400, 0]])
    gaps = time_gaps(NOW - gaps, torch.tensor([NOW]))
    bias, keys = AlibiBias(slopes=[0.5]), torch.ones(1, 3, 2)
    by_day = layer(keys[:, :1], keys, bias=bias(gaps / 86400).squeeze(1)).weights[0, 0]
    torch.testing.assert_close(by_day[:2] / by_day[2], torch.tensor([-4.5, -0.5]).exp())
    by_power = layer(keys[:, :1], keys, bias=bias(gaps.double().log1p()).squeeze(1)).weights[0, 0]
    torch.testing.assert_close(by_power[:2] / by_power[2], (1 + gaps[0, 0, :2]).float() ** -0.5)


def test_shapes_for_shared_and_own_distances():
    bias = AlibiBias(3)
    assert bias(torch.zeros(2, 7, dtype=torch.int32)).shape == (2, 3, 1, 7)
    assert bias(torch.zeros(2, 5, 7)).shape == (2, 3, 5, 7)
    assert bias(sequence_distances(7)).shape == (1, 3, 7, 7)


def test_padding_does_not_shift_it():
    bias, mask = AlibiBias(2), torch.tensor([[True, True, True, False, False]])
    assert torch.equal(bias(event_ages(mask))[..., :3], bias(event_ages(mask[:, :3])))


def test_half_precision_is_exact_nearby_and_finite_for_seconds():
    """300 * 2^-8 has no exact product in bf16's 8 bits; a million seconds do not fit into fp16."""
    for dtype in (torch.float16, torch.bfloat16):
        bias = AlibiBias(8).to(dtype)
        steps = torch.tensor([[10**6, 300, 2, 0]])
        got, expected = bias(steps), AlibiBias(8).double()(steps)
        assert got.dtype == dtype
        assert got.isfinite().all()
        torch.testing.assert_close(got[..., 1:], expected[..., 1:].to(dtype), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 0}, "num_heads must be an integer >= 1, got 0"),
        ({"num_heads": 2, "slopes": [0.5]}, r"slopes must have one entry for each of the 2 heads, got \[0.5\]"),
        ({"slopes": [0.0]}, "slopes must be a finite number > 0, got 0.0"),
        ({"slopes": [math.inf]}, "slopes must be a finite number > 0, got inf"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        AlibiBias(**arguments)
