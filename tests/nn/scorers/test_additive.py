import math

import pytest
import torch

from recattn.errors import ConfigError
from recattn.nn import ActivationUnitScorer, AdditiveScorer
from recattn.nn.scorers import activation_unit, additive


def test_additive_by_hand():
    scorer = AdditiveScorer(1, 1, hidden_dim=2)
    scorer.query_projection.weight.data = torch.tensor([[1.0], [0.0]])
    scorer.query_projection.bias.data = torch.tensor([0.0, 0.5])
    scorer.key_projection.weight.data = torch.tensor([[2.0], [-1.0]])
    scorer.direction.data = torch.tensor([3.0, 5.0])
    scores = scorer(torch.tensor([[0.1]]), torch.tensor([[0.2], [0.0]]))
    expected = [3 * math.tanh(0.5) + 5 * math.tanh(0.3), 3 * math.tanh(0.1) + 5 * math.tanh(0.5)]
    torch.testing.assert_close(scores, torch.tensor([expected]))


def test_additive_with_sigmoid_by_hand():
    """NARM's eq. 7: v^T sigmoid(A1 h_t + A2 h_j)."""

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    scorer = AdditiveScorer(1, 1, hidden_dim=2, activation="sigmoid")
    scorer.query_projection.weight.data = torch.tensor([[1.0], [0.0]])
    scorer.query_projection.bias.data = torch.tensor([0.0, 0.5])
    scorer.key_projection.weight.data = torch.tensor([[2.0], [-1.0]])
    scorer.direction.data = torch.tensor([3.0, 5.0])
    scores = scorer(torch.tensor([[0.1]]), torch.tensor([[0.2], [0.0]]))
    expected = [3 * sigmoid(0.5) + 5 * sigmoid(0.3), 3 * sigmoid(0.1) + 5 * sigmoid(0.5)]
    torch.testing.assert_close(scores, torch.tensor([expected]))


def test_another_activation_is_named():
    with pytest.raises(ConfigError, match="activation must be one of tanh, sigmoid, got 'relu'"):
        AdditiveScorer(1, 1, hidden_dim=2, activation="relu")


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
@pytest.mark.parametrize("bound", [1, 100, 1000, 2**24])
def test_additive_in_blocks_equals_its_reference_forward_and_backward(bound, activation, monkeypatch):
    monkeypatch.setattr(additive, "PAIR_ELEMENTS", bound)
    scorer = AdditiveScorer(5, 3, hidden_dim=13, activation=activation).double()
    query = torch.randn(2, 7, 5, dtype=torch.float64, requires_grad=True)
    keys = torch.randn(2, 11, 3, dtype=torch.float64, requires_grad=True)
    leaves = [query, keys, *scorer.parameters()]
    slope = torch.randn(2, 7, 11, dtype=torch.float64)
    scores, expected = scorer(query, keys), scorer.reference(query, keys)
    torch.testing.assert_close(scores, expected)
    got, wanted = (torch.autograd.grad((x * slope).sum(), leaves) for x in (scores, expected))
    torch.testing.assert_close(got, wanted)
    with torch.no_grad():
        torch.testing.assert_close(scorer(query, keys), expected)


@pytest.mark.parametrize("bound", [300, 1000, 3000])
@pytest.mark.parametrize("kind", ["additive", "unit", "unit, learning"])
def test_no_tensor_over_all_pairs_is_made_or_kept(kind, bound, monkeypatch, largest_tensor):
    """2 x 17 x 19 pairs of 13 numbers are 8398, which neither a forward nor a backward pass may hold."""
    monkeypatch.setattr(additive, "PAIR_ELEMENTS", bound)
    monkeypatch.setattr(activation_unit, "PAIR_ELEMENTS", bound)
    if kind == "additive":
        scorer = AdditiveScorer(5, 5, hidden_dim=13)
    else:
        scorer = ActivationUnitScorer(5, 5, hidden_dims=(13,), activation="relu" if "learning" in kind else "dice")
        scorer.train("learning" in kind)
    query, keys = torch.randn(2, 17, 5, requires_grad=True), torch.randn(2, 19, 5, requires_grad=True)
    kept = []
    with (
        largest_tensor() as largest,
        torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x),
    ):
        scorer(query, keys).sum().backward()
    assert largest.elements <= max(bound, 2 * 17 * 19)
    assert sum(x.numel() for x in kept) <= 2 * 17 * 19
    assert query.grad.isfinite().all()


def test_projections_run_once_for_each_query_and_key_and_not_for_each_pair():
    scorer, rows = AdditiveScorer(5, 3, hidden_dim=13), []
    for projection in (scorer.query_projection, scorer.key_projection):
        projection.register_forward_hook(lambda _, args, __: rows.append(args[0].shape[:-1].numel()))
    scorer(torch.randn(2, 7, 5), torch.randn(2, 11, 3))
    assert rows == [2 * 7, 2 * 11]


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_additive_has_the_gradient_of_its_formula(activation):
    scorer = AdditiveScorer(2, 3, hidden_dim=5, activation=activation).double()
    query = torch.randn(1, 2, 2, dtype=torch.float64, requires_grad=True)
    keys = torch.randn(1, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(scorer, (query, keys))
