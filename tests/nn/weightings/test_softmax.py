import math

import pytest
import torch

from recattn.nn import Softmax, masked_softmax

SCORES = torch.tensor([[math.log(1), math.log(2), math.log(5), math.log(100)]])
MASK = torch.tensor([[True, True, True, False]])


def test_softmax_is_proportional_among_the_real_events():
    torch.testing.assert_close(Softmax()(SCORES, MASK), torch.tensor([[1 / 8, 2 / 8, 5 / 8, 0]]))
    squared = torch.tensor([[1 / 30, 4 / 30, 25 / 30, 0]])
    torch.testing.assert_close(Softmax(temperature=0.5)(SCORES, MASK), squared)


def test_softmax_masks_before_it_normalises():
    """Multiplying with the mask afterwards would leave 100 of 108 parts in the denominator."""
    assert masked_softmax(SCORES, MASK).sum().item() == pytest.approx(1)


def test_softmax_of_large_scores_in_half_precision_keeps_masked_events_out():
    for dtype in (torch.float16, torch.bfloat16):
        scores = torch.tensor([[-6e4, -6e4, 6e4]], dtype=dtype)
        weights = masked_softmax(scores, torch.tensor([[True, True, False]]))
        assert weights.tolist() == [[0.5, 0.5, 0.0]]
        assert weights.dtype == dtype


def test_a_real_score_as_low_as_its_type_goes_is_above_a_masked_one():
    scores = torch.full((1, 2), torch.finfo(torch.float16).min, dtype=torch.float16)
    assert masked_softmax(scores, torch.tensor([[True, False]])).tolist() == [[1, 0]]


def test_softmax_of_an_empty_row_passes_anomaly_detection():
    scores, mask = torch.randn(2, 3, requires_grad=True), torch.tensor([[False] * 3, [True] * 3])
    with pytest.warns(UserWarning, match="Anomaly Detection"), torch.autograd.detect_anomaly():
        masked_softmax(scores, mask).square().sum().backward()


def test_softmax_over_a_long_half_precision_history_sums_to_one():
    """Summed in fp16 itself, 60000 terms of 1 would overflow."""
    weights = Softmax()(torch.zeros(1, 60_000, dtype=torch.float16))
    assert weights.double().sum().item() == pytest.approx(1, abs=0.01)


def test_softmax_has_the_gradient_of_its_formula():
    scores = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True] * 5, [True, False, True, False, False], [False] * 5])
    assert torch.autograd.gradcheck(lambda x: Softmax(temperature=0.7)(x, mask), scores)


def test_an_empty_row_has_no_weights_and_no_gradient():
    scores = torch.randn(2, 3, requires_grad=True)
    weights = Softmax()(scores, torch.tensor([[False] * 3, [True] * 3]))
    weights.square().sum().backward()
    assert weights[0].tolist() == [0, 0, 0]
    assert scores.grad[0].tolist() == [0, 0, 0]
    assert scores.grad[1].isfinite().all()
    assert (weights[1] != 0).all()
