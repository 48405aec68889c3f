import math

import pytest
import torch
from torch.nn import functional as F

from recattn.errors import ConfigError
from recattn.nn import binary_loss, gbce_loss
from recattn.nn.losses.binary import gbce_prior

TARGETS, NEGATIVES, ITEMS = 7, 11, 101


@pytest.fixture
def logits():
    return torch.randn(TARGETS, dtype=torch.float64) * 3, torch.randn(TARGETS, NEGATIVES, dtype=torch.float64) * 3


@pytest.mark.parametrize("calibration", [0.0, 0.3, 0.75, 1.0])
def test_is_the_papers_formula(logits, calibration):
    positive, negatives = logits
    alpha = NEGATIVES / (ITEMS - 1)
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    expected = 0.0
    for p, row in zip(positive.tolist(), negatives.tolist(), strict=True):
        sigma = 1 / (1 + math.exp(-p))
        expected -= math.log(sigma**beta) / (NEGATIVES + 1)
        expected -= sum(math.log(1 - 1 / (1 + math.exp(-n))) for n in row) / (NEGATIVES + 1)
    got = gbce_loss(positive, negatives, num_items=ITEMS, calibration=calibration)
    assert got.item() == pytest.approx(expected / TARGETS, abs=1e-9)


def test_without_calibration_it_is_binary_cross_entropy(logits):
    positive, negatives = logits
    both = torch.cat([positive[:, None], negatives], 1)
    labels = torch.zeros_like(both)
    labels[:, 0] = 1
    torch.testing.assert_close(
        gbce_loss(positive, negatives, num_items=ITEMS, calibration=0.0),
        F.binary_cross_entropy_with_logits(both, labels),
    )


@pytest.mark.parametrize("calibration", [0.0, 0.75, 1.0])
def test_the_prior_is_the_best_constant(calibration):
    constant = torch.tensor(gbce_prior(NEGATIVES, num_items=ITEMS, calibration=calibration), dtype=torch.float64)
    constant.requires_grad_()
    gbce_loss(
        constant.expand(TARGETS), constant.expand(TARGETS, NEGATIVES), num_items=ITEMS, calibration=calibration
    ).backward()
    assert constant.grad.item() == pytest.approx(0.0, abs=1e-12)


def test_ignored_negatives_are_as_if_not_drawn(logits):
    positive, negatives = logits
    ignored = torch.zeros(TARGETS, NEGATIVES, dtype=torch.bool)
    ignored[:, 4:] = True
    torch.testing.assert_close(
        gbce_loss(positive, negatives, ignored, num_items=ITEMS), gbce_loss(positive, negatives[:, :4], num_items=ITEMS)
    )
    torch.testing.assert_close(binary_loss(positive, negatives, ignored), binary_loss(positive, negatives[:, :4]))


def test_no_overflow_for_large_logits(logits):
    positive, negatives = (x * 1e4 for x in logits)
    assert gbce_loss(positive, negatives, num_items=ITEMS).isfinite()


def test_wrong_arguments_are_named(logits):
    with pytest.raises(ConfigError, match=r"calibration must be in \[0, 1\], got 1.5"):
        gbce_loss(*logits, num_items=ITEMS, calibration=1.5)
    with pytest.raises(ConfigError, match="num_items must be more than the 11 negatives of a target, got 11"):
        gbce_loss(*logits, num_items=11)


@pytest.mark.parametrize("loss", [binary_loss, lambda *logits: gbce_loss(*logits, num_items=10**6, calibration=1.0)])
def test_counts_of_large_catalogues_survive_bf16(loss):
    positive, negatives = torch.full((3,), 0.5), torch.full((3, 256), -9.0)
    slopes = []
    for dtype in (torch.float32, torch.bfloat16):
        leaf = positive.to(dtype, copy=True).requires_grad_()
        loss(leaf, negatives.to(dtype)).backward()
        slopes.append(leaf.grad.float())
    torch.testing.assert_close(slopes[1], slopes[0], rtol=0.01, atol=0)
