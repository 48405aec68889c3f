import pytest
import torch

from recattn.errors import ConfigError
from recattn.nn import sampled_softmax_loss, shared_softmax_loss
from recattn.nn.losses import shared_softmax

TARGETS, SAMPLES, DIM = 13, 7, 5


def tensors(dtype=torch.float64, scale=1.0):
    torch.manual_seed(0)
    made = [torch.randn(size, DIM, dtype=dtype) * scale for size in (TARGETS, TARGETS, SAMPLES)]
    return [tensor.requires_grad_() for tensor in made]


def spec(states, positives, negatives, log_expected, pairs):
    ignored = torch.zeros(len(states), len(negatives), dtype=torch.bool)
    if pairs is not None:
        ignored[pairs] = True
    return sampled_softmax_loss((states * positives).sum(-1), states @ negatives.T, log_expected, ignored)


@pytest.mark.parametrize("piece", [1, 3 * SAMPLES, 2**20])
@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_it_is_the_sampled_softmax_with_all_its_gradients(piece, scale, monkeypatch):
    monkeypatch.setattr(shared_softmax, "LOGITS", piece)
    inputs, log_expected = tensors(scale=scale), torch.randn(SAMPLES, dtype=torch.float64)
    # Target 4 has no negative left; the first and the last have all of theirs.
    rows = torch.tensor([1, 2, 2, *[4] * SAMPLES, 9])
    pairs = (rows, torch.tensor([3, 0, 6, *range(SAMPLES), 5]))
    for ignored in (None, pairs):
        found, expected = shared_softmax_loss(*inputs, log_expected, ignored), spec(*inputs, log_expected, ignored)
        torch.testing.assert_close(found, expected)
        for one, other in zip(
            torch.autograd.grad(3 * found, inputs), torch.autograd.grad(3 * expected, inputs), strict=True
        ):
            torch.testing.assert_close(one, other)


def test_an_item_drawn_twice_may_be_given_once():
    states, positives, negatives = tensors()
    log_expected = torch.randn(SAMPLES, dtype=torch.float64)
    drawn = torch.tensor([0, 1, 1, 1, 2, 3, 4, 5, 6])
    twice = shared_softmax_loss(states, positives, negatives[drawn], log_expected[drawn])
    times = drawn.bincount().double()
    torch.testing.assert_close(shared_softmax_loss(states, positives, negatives, log_expected - times.log()), twice)


def test_no_targets_and_no_negatives():
    states, positives, negatives = tensors()
    assert shared_softmax_loss(states[:0], positives[:0], negatives, torch.zeros(SAMPLES)).item() == 0
    assert shared_softmax_loss(states, positives, negatives[:0], torch.zeros(0)).item() == 0


def test_under_autocast_products_are_narrow_and_sums_wide():
    inputs = tensors(torch.float32)
    expected = shared_softmax_loss(*inputs, torch.zeros(SAMPLES))
    with torch.autocast("cpu", torch.bfloat16):
        found = shared_softmax_loss(*inputs, torch.zeros(SAMPLES))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(found, inputs))


def test_shapes_that_do_not_fit_are_told():
    states, positives, negatives = tensors()
    with pytest.raises(ConfigError, match=r"got \(13, 5\), \(12, 5\), \(7, 5\) and \(7,\)"):
        shared_softmax_loss(states, positives[1:], negatives, torch.zeros(SAMPLES))
    with pytest.raises(ConfigError, match=r"got \(13, 5\), \(13, 5\), \(7, 5\) and \(6,\)"):
        shared_softmax_loss(states, positives, negatives, torch.zeros(SAMPLES - 1))
