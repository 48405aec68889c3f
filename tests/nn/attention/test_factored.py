"""The quotient of two products is the masked softmax and its dot product with the candidates' gains."""

import pytest
import torch

from recattn.nn import factored_readout, masked_softmax
from recattn.nn.attention.factored import SPAN

BATCH, HEADS, POSITIONS, CANDIDATES, LENGTH = 3, 2, 5, 11, 7
EXACT = {"atol": 1e-12, "rtol": 1e-10}


def direct(scores, gains, bias, mask):
    """The formula written down: weights for every (position, candidate, event)."""
    weights = masked_softmax(scores[..., None, :, :] + bias[..., :, None, :], mask[..., :, None, :])
    return (weights * gains[..., None, :, :]).sum(-1)


def inputs(dtype=torch.float64, spread=1.0):
    scores = torch.randn(BATCH, HEADS, CANDIDATES, LENGTH, dtype=torch.float64) * spread
    gains = torch.randn(BATCH, HEADS, CANDIDATES, LENGTH, dtype=torch.float64)
    bias = torch.randn(BATCH, HEADS, POSITIONS, LENGTH, dtype=torch.float64) * spread
    visible = torch.tensor([[0, 1, 2, 4, 7], [0, 0, 1, 1, 2], [7, 3, 0, 5, 6]])
    mask = torch.arange(LENGTH) < visible[:, None, :, None]
    return scores.to(dtype), gains.to(dtype), bias.to(dtype), mask


def test_equals_the_softmax_and_the_dot_product():
    case = inputs()
    found = factored_readout(*case)
    assert found.shape == (BATCH, HEADS, POSITIONS, CANDIDATES)
    torch.testing.assert_close(found, direct(*case), **EXACT)


def test_gradients_equal_those_of_the_direct_form():
    *leaves, mask = inputs()
    upstream = torch.randn(BATCH, HEADS, POSITIONS, CANDIDATES, dtype=torch.float64)
    grads = []
    for function in (factored_readout, direct):
        some = [leaf.clone().requires_grad_() for leaf in leaves]
        (function(*some, mask) * upstream).sum().backward()
        grads.append([leaf.grad for leaf in some])
    for got, expected in zip(*grads, strict=True):
        torch.testing.assert_close(got, expected, **EXACT)


def test_gradcheck():
    mask = torch.tensor([[True, False, False], [True, True, False], [False, False, False]])
    leaves = [torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (2, 2, 3)]
    assert torch.autograd.gradcheck(lambda s, g, b: factored_readout(s, g, b, mask), leaves)


def test_positions_that_see_nothing_give_zero():
    scores, gains, bias, mask = inputs()
    empty = ~mask.any(-1).expand(BATCH, HEADS, POSITIONS)
    assert empty.sum() == 4 * HEADS
    assert (factored_readout(scores, gains, bias, mask)[empty] == 0).all()
    assert (factored_readout(scores, gains, bias, torch.zeros_like(mask)) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradients_of_positions_that_see_nothing_are_finite_whatever_comes_from_above(dtype):
    scores, gains, bias, mask = inputs(dtype)
    leaves = [scores.requires_grad_(), (gains * 1e4).requires_grad_(), bias.requires_grad_()]
    (factored_readout(*leaves, mask) * 1e6).sum().backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)
    assert (leaves[2].grad.masked_select(~mask) == 0).all()


@pytest.mark.parametrize("level", [0.0, 1e3, -1e3])
def test_exact_while_scores_and_biases_span_less_than_the_stated_span(level):
    scores, gains, bias, mask = inputs()
    scores = torch.rand_like(scores) * (SPAN - 0.1) + level
    bias = torch.rand_like(bias) * (SPAN - 0.1) - level
    torch.testing.assert_close(factored_readout(scores, gains, bias, mask), direct(scores, gains, bias, mask), **EXACT)
    single = factored_readout(scores.float(), gains.float(), bias.float(), mask)
    expected = direct(*(x.float().double() for x in (scores, gains, bias)), mask)
    torch.testing.assert_close(single.double(), expected, atol=1e-4, rtol=1e-4)


def test_the_worst_case_inside_the_span_survives_single_precision():
    """The only visible event has the least score: numerator and denominator are both e^-40."""
    scores = torch.tensor([[SPAN - 0.1, 0.0]])
    found = factored_readout(scores, torch.tensor([[5.0, 3.0]]), torch.zeros(2, 2), torch.tensor([[0, 1], [1, 1]]) > 0)
    torch.testing.assert_close(found, torch.tensor([[3.0], [5.0]]))


def test_beyond_the_span_the_rest_counts_as_the_span():
    scores = torch.tensor([[1000.0, 0.0, -500.0]], dtype=torch.float64)
    gains = torch.tensor([[0.0, 2.0, 4.0]], dtype=torch.float64)
    bias = torch.zeros(2, 3, dtype=torch.float64)
    mask = torch.tensor([[True, True, True], [False, True, True]])
    found = factored_readout(scores, gains, bias, mask)
    assert found.tolist() == [[pytest.approx(6 * torch.tensor(-SPAN).exp().item(), rel=1e-6)], [pytest.approx(3.0)]]


def test_what_no_position_sees_changes_nothing():
    scores, gains, bias, mask = inputs()
    expected = factored_readout(scores, gains, bias, mask)
    hidden = ~mask.any(-2, keepdim=True)
    assert hidden.any()
    garbage = [scores.masked_fill(hidden, 1e4), gains.masked_fill(hidden, -1e4), bias.masked_fill(~mask, 1e4)]
    torch.testing.assert_close(factored_readout(*garbage, mask), expected, **EXACT)
    wider = [torch.cat([x, torch.full_like(x, 99.0)], -1) for x in (scores, gains, bias)]
    found = factored_readout(*wider, torch.cat([mask, torch.zeros_like(mask)], -1))
    torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("spread", [1.0, 300.0])
def test_half_precision_is_finite_and_near(dtype, spread):
    *leaves, mask = inputs(dtype, spread)
    leaves = [leaf.requires_grad_() for leaf in leaves]
    found = factored_readout(*leaves, mask)
    assert found.dtype == dtype
    found.float().square().sum().backward()
    assert found.isfinite().all()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)
    if spread == 1.0:
        expected = direct(*(leaf.detach().double() for leaf in leaves), mask)
        torch.testing.assert_close(found.detach().double(), expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize(
    ("of_scores", "of_bias"),
    [(torch.float64, torch.float32), (torch.float32, torch.float64), (torch.bfloat16, torch.float32)],
)
def test_scores_and_biases_may_be_of_different_types(of_scores, of_bias):
    scores, gains, bias, mask = inputs()
    found = factored_readout(scores.to(of_scores), gains.to(of_scores), bias.to(of_bias), mask)
    assert found.dtype == of_scores
    torch.testing.assert_close(found.double(), direct(scores, gains, bias, mask), atol=0.05, rtol=0.05)


def test_a_history_of_length_zero_gives_zeros():
    scores, bias, mask = torch.zeros(2, 3, 0), torch.zeros(2, 5, 0), torch.zeros(2, 5, 0, dtype=torch.bool)
    found = factored_readout(scores, scores, bias, mask)
    assert found.shape == (2, 5, 3)
    assert (found == 0).all()
