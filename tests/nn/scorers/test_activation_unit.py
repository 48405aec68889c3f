import copy

import pytest
import torch

from recattn.nn import ActivationUnitScorer, Dice
from recattn.nn.scorers import activation_unit

ACTIVATIONS = ["dice", "prelu", "sigmoid", "relu"]


def scorer_for(activation, **options):
    scorer = ActivationUnitScorer(11, 11, hidden_dims=(7, 5), activation=activation, **options).double()
    with torch.no_grad():
        for parameter in scorer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return scorer


def inputs():
    query = torch.randn(2, 3, 11, dtype=torch.float64, requires_grad=True)
    keys = torch.randn(2, 13, 11, dtype=torch.float64, requires_grad=True)
    return query, keys, (torch.arange(13) < torch.tensor([[13], [4]]))[:, None]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
def test_factored_unit_equals_its_reference_forward_and_backward(activation, train):
    scorer, (query, keys, mask) = scorer_for(activation).train(train), inputs()
    twin = copy.deepcopy(scorer)
    slope = torch.randn(2, 3, 13, dtype=torch.float64) * mask
    scores, expected = scorer(query, keys, mask), twin.reference(query, keys, mask)
    torch.testing.assert_close(scores, expected)
    got = torch.autograd.grad((scores * slope).sum(), [query, keys, *scorer.parameters()])
    wanted = torch.autograd.grad((expected * slope).sum(), [query, keys, *twin.parameters()])
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(scorer.state_dict(), twin.state_dict())


def test_unit_by_hand():
    scorer = ActivationUnitScorer(1, 1, hidden_dims=(1,), activation="relu")
    scorer.first.weight.data = torch.tensor([[1.0, 2.0, 3.0, 5.0]])
    scorer.first.bias.data = torch.tensor([0.5])
    scorer.layers[0].weight.data = torch.tensor([[2.0]])
    scorer.layers[0].bias.data = torch.tensor([-1.0])
    # q = 2: k = 3 gives 2 + 6 - 3 + 30 + .5 = 35.5; k = -1 gives 2 - 2 + 9 - 10 + .5 < 0
    assert scorer(torch.tensor([[2.0]]), torch.tensor([[3.0], [-1.0]])).tolist() == [[70.0, -1.0]]


@pytest.mark.parametrize("bound", [1, 200, 1000])
def test_unit_in_blocks_equals_the_whole(bound, monkeypatch):
    query, keys, mask = inputs()
    for activation, train in (("prelu", True), ("dice", False), ("dice", True)):
        scorer = scorer_for(activation).train(train)
        whole = copy.deepcopy(scorer)
        expected = whole(query, keys, mask)
        monkeypatch.setattr(activation_unit, "PAIR_ELEMENTS", bound)
        scores = scorer(query, keys, mask)
        monkeypatch.undo()
        torch.testing.assert_close(scores, expected)
        got, wanted = (torch.autograd.grad(x.sum(), keys)[0] for x in (scores, expected))
        torch.testing.assert_close(got, wanted)
        torch.testing.assert_close(scorer.state_dict(), whole.state_dict())


def test_dice_learns_from_pairs_that_are_real_for_their_query():
    scorer, (query, keys, _) = scorer_for("dice"), inputs()
    own = torch.rand(2, 3, 13) < 0.5
    seen = []
    first = scorer.activations[0]
    assert isinstance(first, Dice)
    first.register_forward_pre_hook(lambda _, args: seen.append(args[0][own]))
    scorer(query, keys, own)
    torch.testing.assert_close(first.running_mean, 0.01 * seen[0].mean(0))
    torch.testing.assert_close(first.running_var, 0.99 + 0.01 * seen[0].var(0))


def test_a_history_of_one_event_trains():
    scorer = scorer_for("dice")
    query = torch.randn(1, 1, 11, dtype=torch.float64)
    scores = scorer(query, query + 1, torch.ones(1, 1, 1, dtype=torch.bool))
    scores.sum().backward()
    assert all(p.grad.isfinite().all() for p in scorer.parameters())


@pytest.mark.parametrize(("queries", "length"), [(3, 0), (0, 5)])
def test_nothing_to_score_is_no_error_in_training(queries, length):
    scorer = ActivationUnitScorer(4, 4, hidden_dims=(8,)).train()
    assert scorer(torch.randn(2, queries, 4), torch.randn(2, length, 4)).shape == (2, queries, length)
