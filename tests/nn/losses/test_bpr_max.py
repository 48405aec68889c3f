import math

import pytest
import torch

from recattn.nn import bpr_max_loss

TARGETS, NEGATIVES = 7, 11


@pytest.fixture
def logits():
    return torch.randn(TARGETS, dtype=torch.float64) * 2, torch.randn(TARGETS, NEGATIVES, dtype=torch.float64) * 2


@pytest.mark.parametrize("regularisation", [0.0, 0.5])
def test_is_the_papers_formula(logits, regularisation):
    expected = 0.0
    for p, row in zip(logits[0].tolist(), logits[1].tolist(), strict=True):
        total = sum(math.exp(n) for n in row)
        weights = [math.exp(n) / total for n in row]
        expected -= math.log(sum(w / (1 + math.exp(n - p)) for w, n in zip(weights, row, strict=True)))
        expected += regularisation * sum(w * n * n for w, n in zip(weights, row, strict=True))
    assert bpr_max_loss(*logits, regularisation=regularisation).item() == pytest.approx(expected / TARGETS, abs=1e-9)


def test_the_gradient_flows_through_the_weights_too(logits):
    assert torch.autograd.gradcheck(
        lambda p, n: bpr_max_loss(p, n, regularisation=0.3), [x.clone().requires_grad_() for x in logits]
    )


def test_ignored_negatives_are_as_if_not_drawn(logits):
    positive, negatives = logits
    ignored = torch.zeros(TARGETS, NEGATIVES, dtype=torch.bool)
    ignored[:, 4:] = True
    torch.testing.assert_close(
        bpr_max_loss(positive, negatives, ignored, regularisation=0.5),
        bpr_max_loss(positive, negatives[:, :4], regularisation=0.5),
    )


def test_nothing_but_ignored_negatives_gives_zero_and_finite_gradients(logits):
    leaves = [x.clone().requires_grad_() for x in logits]
    loss = bpr_max_loss(*leaves, torch.ones(TARGETS, NEGATIVES, dtype=torch.bool), regularisation=0.5)
    assert loss.item() == 0
    loss.backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)
