import pytest
import torch

from recattn.nn import AttentionPooling, DotScorer, MultiHeadAttention, RecencyBias, Softmax, event_ages


def test_slopes_are_those_of_alibi_and_the_start_is_a_straight_line():
    bias = RecencyBias(num_heads=8, max_age=3)
    assert bias.slopes == tuple(2.0**-h for h in range(1, 9))
    ages = torch.tensor([[1000, 4, 3, 1, 0]])
    expected = -torch.tensor(bias.slopes)[:, None] * ages
    torch.testing.assert_close(bias(ages)[0, :, 0], expected)


@pytest.mark.parametrize("slope", [1e-4, 0.5, 3.0, 200.0])
def test_given_slopes_are_met(slope):
    assert RecencyBias(slopes=[slope])(torch.tensor([[1]])).item() == pytest.approx(-slope, rel=1e-3)


def test_table_has_the_last_word_up_to_max_age_and_its_last_entry_beyond():
    bias = RecencyBias(max_age=2, slopes=[1.0])
    bias.table.data = torch.tensor([[10.0, 20.0, 30.0]])
    torch.testing.assert_close(
        bias(torch.tensor([[0, 1, 2, 3, 7, -4]]))[0, 0, 0], torch.tensor([10.0, 19, 28, 27, 23, 10])
    )


def test_shapes_for_shared_and_own_ages():
    bias = RecencyBias(num_heads=2)
    assert bias(torch.zeros(3, 7, dtype=torch.int64)).shape == (3, 2, 1, 7)
    assert bias(torch.zeros(3, 5, 7, dtype=torch.int32)).shape == (3, 2, 5, 7)


def test_slope_and_table_learn():
    bias = RecencyBias(num_heads=2, max_age=3)
    bias(torch.tensor([[2, 1, 0]])).square().sum().backward()
    assert (bias.raw_slope.grad != 0).all()
    assert (bias.table.grad[:, 1:3] != 0).all()


def test_ages_count_visible_events_that_came_later():
    mask = torch.tensor([[[True, True, True, False]], [[True, True, False, False]]])
    assert event_ages(mask)[0, 0, :3].tolist() == [2, 1, 0]
    assert event_ages(mask)[1, 0, :2].tolist() == [1, 0]
    assert event_ages(torch.zeros(2, 3, dtype=torch.bool)).tolist() == [[0, 0, 0]] * 2


def test_exponential_decay_at_the_start_and_order_matters():
    """With equal keys, the weights fall by the factor exp(-slope) with each step back."""
    layer, mask = AttentionPooling(DotScorer(), Softmax()), torch.tensor([[True, True, True, False]])
    bias = RecencyBias(slopes=[0.7])(event_ages(mask)).squeeze(1)
    weights = layer(torch.ones(1, 2), torch.ones(1, 4, 2), mask=mask, bias=bias).weights[0, 0]
    ratios = weights[1:3] / weights[:2]
    torch.testing.assert_close(ratios, torch.full((2,), 0.7).exp())


def test_padding_does_not_shift_ages():
    layer, bias = MultiHeadAttention(6, 6, num_heads=2), RecencyBias(num_heads=2)
    x, mask = torch.randn(2, 7, 6), torch.arange(7) < torch.tensor([[7], [3]])
    more, longer = torch.cat([x, x], 1), torch.cat([mask, torch.zeros_like(mask)], 1)
    output = layer(x[:, 0], x, mask=mask, bias=bias(event_ages(mask)), need_weights=False).output
    padded = layer(x[:, 0], more, mask=longer, bias=bias(event_ages(longer)), need_weights=False).output
    torch.testing.assert_close(output, padded)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_finite_at_any_age(dtype):
    """Steps of a long history do not fit into fp16, nor 300 2^-8 into bf16 if the factors are rounded first."""
    bias, ages = RecencyBias(num_heads=8).to(dtype), torch.tensor([[10**6, 300, 2, 0]])
    got, exact = bias(ages), RecencyBias(num_heads=8).double()(ages)
    assert got.dtype == dtype
    assert got.isfinite().all()
    torch.testing.assert_close(got[..., 1:].double(), exact[..., 1:], atol=1e-2, rtol=1e-2)
    got.sum().backward()
    assert all(p.grad.isfinite().all() for p in bias.parameters())
