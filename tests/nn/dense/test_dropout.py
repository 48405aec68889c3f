import pytest
import torch

from recattn.nn.dense.dropout import dropout


@pytest.mark.parametrize("p", [0.001, 0.2, 0.5, 0.97])
def test_a_share_p_is_dropped_and_the_mean_is_kept(p):
    torch.manual_seed(0)
    inputs = torch.ones(1009, 997)
    dropped = dropout(inputs, p, training=True)
    share = (dropped == 0).double().mean().item()
    assert abs(share - p) < 5 * (p * (1 - p) / inputs.numel()) ** 0.5 + 1e-5
    assert dropped.unique().numel() == 2
    torch.testing.assert_close(dropped.max().item(), 1 / (1 - p), rtol=2e-3, atol=0)


def test_neighbours_are_dropped_independently():
    """Four elements share a draw: all 16 patterns of four must be equally likely."""
    torch.manual_seed(1)
    kept = (dropout(torch.ones(4 * 100_003), 0.5, training=True) != 0).view(-1, 4)
    counts = (kept * torch.tensor([1, 2, 4, 8])).sum(1).bincount(minlength=16)
    assert ((counts - 100_003 / 16).abs() < 6 * (100_003 / 16) ** 0.5).all()


def test_gradients_go_where_values_went():
    torch.manual_seed(2)
    inputs = torch.randn(7, 11, 13, dtype=torch.float64, requires_grad=True)
    outputs = dropout(inputs, 0.3, training=True)
    (slope,) = torch.autograd.grad(outputs.sum(), inputs)
    torch.testing.assert_close(outputs, inputs * slope)


@pytest.mark.parametrize("shape", [(0,), (), (3,), (5, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_any_shape_and_type(shape, dtype):
    outputs = dropout(torch.ones(shape, dtype=dtype), 0.4, training=True)
    assert outputs.shape == shape
    assert outputs.dtype == dtype


def test_the_largest_probabilities_still_keep_a_few():
    torch.manual_seed(4)
    outputs = dropout(torch.ones(1009, 997), 1 - 1e-9, training=True)
    assert outputs.isfinite().all()
    assert 0 < (outputs != 0).sum() < 100


def test_nothing_is_dropped_in_evaluation_or_at_0():
    inputs = torch.randn(5)
    assert dropout(inputs, 0.9, training=False) is inputs
    assert dropout(inputs, 0.0, training=True) is inputs


def test_the_same_seed_drops_the_same():
    torch.manual_seed(3)
    one = dropout(torch.ones(101), 0.5, training=True)
    torch.manual_seed(3)
    assert torch.equal(one, dropout(torch.ones(101), 0.5, training=True))
