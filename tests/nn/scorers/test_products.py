import pytest
import torch
from torch.nn import functional as F

from recattn.nn import (
    ActivationUnitScorer,
    AdditiveScorer,
    AttentionPooling,
    BilinearScorer,
    DotScorer,
    ScaledDotScorer,
    Softmax,
)

EVERY_SCORER = [
    DotScorer(),
    ScaledDotScorer(),
    BilinearScorer(11, 11),
    AdditiveScorer(11, 11, hidden_dim=5),
    ActivationUnitScorer(11, 11, hidden_dims=(5,)).eval(),
]


def test_dot_products_by_hand():
    query, keys = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 4.0], [-1.0, 1.0]]])
    assert DotScorer()(query, keys).tolist() == [[[11, 1]]]
    torch.testing.assert_close(ScaledDotScorer()(query, keys), torch.tensor([[[11, 1]]]) / 2**0.5)


def test_bilinear_by_hand_between_different_widths():
    scorer = BilinearScorer(2, 3)
    scorer.weight.data = torch.tensor([[1.0, 0, 2], [0, 1, 0]])
    assert scorer(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0, 5.0]])).tolist() == [[3 + 8 + 10]]


def test_bilinear_starts_as_the_dot_product_where_widths_are_equal():
    query, keys = torch.randn(3, 5, 11), torch.randn(3, 7, 11)
    torch.testing.assert_close(BilinearScorer(11, 11)(query, keys), DotScorer()(query, keys))


def test_scaled_dot_pooling_is_torch_attention():
    query, keys, values = torch.randn(3, 5, 11), torch.randn(3, 7, 11), torch.randn(3, 7, 13)
    mask = torch.arange(7) < torch.tensor([[7], [2], [0]])
    output = AttentionPooling(ScaledDotScorer(), Softmax())(query, keys, values, mask).output
    expected = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask[:, None])
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("scorer", EVERY_SCORER, ids=lambda scorer: type(scorer).__name__)
def test_leading_axes_broadcast(scorer):
    query, keys = torch.randn(2, 3, 1, 5, 11), torch.randn(3, 13, 7, 11)
    scores = scorer(query, keys)
    assert scores.shape == (2, 3, 13, 5, 7)
    torch.testing.assert_close(scores[1, 2, 4], scorer(query[1, 2, 0], keys[2, 4]), atol=1e-5, rtol=1e-5)
