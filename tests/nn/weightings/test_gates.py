import math

import pytest
import torch

from recattn.errors import ConfigError
from recattn.nn import Identity, Sigmoid

SCORES = torch.tensor([[math.log(1), math.log(2), math.log(5), math.log(100)]])
MASK = torch.tensor([[True, True, True, False]])
every_gate = pytest.mark.parametrize(
    "gate", [Sigmoid(), Identity(), Identity(scale="sqrt_length")], ids=["sigmoid", "identity", "sqrt_length"]
)


def test_sigmoid_lets_events_through_one_by_one():
    torch.testing.assert_close(Sigmoid()(SCORES, MASK), torch.tensor([[1 / 2, 2 / 3, 5 / 6, 0]]))


def test_identity_keeps_the_sign_and_the_size():
    scores = torch.tensor([[2.0, -3.0, 1.0, 9.0], [4.0, 7.0, 7.0, 7.0]])
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    assert Identity()(scores, mask).tolist() == [[2, -3, 1, 0], [4, 0, 0, 0]]
    root = 3**0.5
    expected = torch.tensor([[2 / root, -3 / root, 1 / root, 0], [4, 0, 0, 0]])
    torch.testing.assert_close(Identity(scale="sqrt_length")(scores, mask), expected)
    torch.testing.assert_close(Identity(scale="sqrt_length")(scores), scores / 2)


@every_gate
def test_an_empty_row_has_no_weights_and_no_gradient(gate):
    scores = torch.randn(2, 3, requires_grad=True)
    weights = gate(scores, torch.tensor([[False] * 3, [True] * 3]))
    weights.square().sum().backward()
    assert weights[0].tolist() == [0, 0, 0]
    assert scores.grad[0].tolist() == [0, 0, 0]
    assert scores.grad[1].isfinite().all()
    assert (weights[1] != 0).all()


def test_root_of_length_counts_real_events_and_not_padding():
    scores = torch.randn(2, 3, 5)
    mask = (torch.arange(5) < torch.tensor([[5], [2]]))[:, None]
    padded = Identity(scale="sqrt_length")(
        torch.nn.functional.pad(scores, (0, 11), value=7.0), torch.nn.functional.pad(mask, (0, 11))
    )
    torch.testing.assert_close(padded[..., :5], Identity(scale="sqrt_length")(scores, mask))
    torch.testing.assert_close(padded[1, :, :2], scores[1, :, :2] / math.sqrt(2))
    assert (padded[..., 5:] == 0).all()


@every_gate
def test_an_event_is_weighed_on_its_own(gate):
    """No competition: a better event beside it takes nothing away. A softmax would."""
    scores = torch.randn(1, 5)
    better = scores.clone()
    better[0, 3] += 10
    before, after = gate(scores), gate(better)
    kept = torch.arange(5) != 3
    assert torch.equal(before[:, kept], after[:, kept])
    assert after[0, 3] > before[0, 3]


@every_gate
def test_half_precision_to_its_limits(gate):
    for dtype in (torch.float16, torch.bfloat16):
        scores = torch.tensor([[6e4, -6e4, 6e4]], dtype=dtype, requires_grad=True)
        weights = gate(scores, torch.tensor([[True, True, False]]))
        weights.sum().backward()
        assert weights.dtype == dtype
        assert weights.isfinite().all()
        assert weights[0, 2] == 0
        assert weights[0, 1] <= 0
        assert scores.grad.isfinite().all()


@every_gate
def test_has_the_gradient_of_its_formula(gate):
    scores = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True] * 5, [True, False, True, False, False], [False] * 5])
    assert torch.autograd.gradcheck(lambda x: gate(x, mask), scores)


def test_another_scale_is_named():
    with pytest.raises(ConfigError, match="scale must be one of none, sqrt_length, got 'length'"):
        Identity(scale="length")
