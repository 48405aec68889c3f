import math

import pytest
import torch

from recattn.batch import History, RankingBatch
from recattn.errors import ConfigError
from recattn.models import DIN, TargetAttention
from recattn.nn import Dice

NUM_ITEMS, DIM, BATCH, LENGTH, CANDIDATES = 13, 7, 3, 5, 11


def batch_of():
    lengths = torch.tensor([5, 2, 4])
    items = torch.randint(1, NUM_ITEMS + 1, (BATCH, LENGTH)) * (torch.arange(LENGTH) < lengths[:, None])
    return RankingBatch(History(items, lengths), torch.randint(1, NUM_ITEMS + 1, (BATCH, CANDIDATES)))


def awake(model):
    """In float64, evaluating, with nothing at its start: alphas, biases and running statistics too."""
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.5)
        model.value_table.weight[0] = 0.0
        for part in model.modules():
            if isinstance(part, Dice):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2.0)
    return model


def activate(x, layer):
    if not isinstance(layer, Dice):
        return 1 / (1 + torch.exp(-x))
    p = 1 / (1 + torch.exp(-(x - layer.running_mean) / torch.sqrt(layer.running_var + 1e-8)))
    return p * x + (1 - p) * layer.alpha * x


def formula(model, batch, form):
    """One candidate and one history at a time, as the paper writes it down."""
    table, unit, logits = model.value_table.weight, model.scorer, torch.zeros(BATCH, CANDIDATES, dtype=torch.float64)
    for row in range(BATCH):
        events = table[batch.history.items[row, : batch.history.lengths[row]]]
        for column, item in enumerate(batch.candidates[row]):
            candidate = table[item]
            scores = []
            for event in events:
                x = torch.cat([candidate, event, candidate - event, candidate * event])
                for linear, activation in zip([unit.first, *unit.layers[:-1]], unit.activations, strict=True):
                    x = activate(linear.weight @ x + linear.bias, activation)
                scores.append((unit.layers[-1].weight @ x + unit.layers[-1].bias)[0])
            weights = torch.stack(scores)
            if form == "code":
                weights = torch.exp(weights / math.sqrt(DIM)) / torch.exp(weights / math.sqrt(DIM)).sum()
            interest = (weights[:, None] * events).sum(0)
            x = torch.cat([interest, candidate])
            layers = list(model.readout.layers)
            for linear, activation in zip(layers[:-1:2], layers[1::2], strict=True):
                x = activate(linear.weight @ x + linear.bias, activation)
            logits[row, column] = (layers[-1].weight @ x + layers[-1].bias)[0] + model.item_bias.weight[item, 0]
    return logits


@pytest.mark.parametrize("form", ["paper", "code"])
def test_is_the_published_formula(form):
    model, batch = awake(DIN(NUM_ITEMS, dim=DIM, form=form, readout_dims=(17, 5))), batch_of()
    torch.testing.assert_close(model(batch), formula(model, batch, form), atol=1e-10, rtol=1e-9)


def test_the_two_forms_have_the_published_units():
    paper, code = DIN(NUM_ITEMS, dim=DIM), DIN(NUM_ITEMS, dim=DIM, form="code")
    assert (paper.scorer.hidden_dims, paper.scorer.activation, paper.weighting.kind) == ((36,), "dice", "gate")
    assert (code.scorer.hidden_dims, code.scorer.activation, code.weighting.kind) == (
        (80, 40),
        "sigmoid",
        "probability",
    )
    assert paper.readout.hidden_dims == code.readout.hidden_dims == (200, 80)
    assert [type(layer).__name__ for layer in paper.readout.layers] == ["Linear", "Dice"] * 2 + ["Linear"]
    assert [type(layer).__name__ for layer in code.readout.layers] == ["Linear", "Sigmoid"] * 2 + ["Linear"]


def test_the_paper_keeps_the_strength_of_the_interest():
    """Without a softmax the same event twice is twice the interest; with it, it is the same."""
    once = RankingBatch(History(torch.tensor([[3]]), torch.tensor([1])), torch.tensor([[5]]))
    twice = RankingBatch(History(torch.tensor([[3, 3]]), torch.tensor([2])), torch.tensor([[5]]))
    paper, code = (awake(DIN(NUM_ITEMS, dim=DIM, form=form)) for form in ("paper", "code"))
    torch.testing.assert_close(paper.attention(twice)[0].sum(), 2 * paper.attention(once)[0].sum())
    assert not torch.allclose(paper(once), paper(twice))
    torch.testing.assert_close(code(once), code(twice))


def test_knows_no_order_unless_asked():
    batch = RankingBatch(History(torch.tensor([[3, 5, 7]]), torch.tensor([3])), torch.tensor([[5, 2]]))
    turned = batch._replace(history=batch.history._replace(items=batch.history.items.flip(1)))
    model, ordered = awake(DIN(NUM_ITEMS, dim=DIM)), awake(DIN(NUM_ITEMS, dim=DIM, recency=True))
    torch.testing.assert_close(model(turned), model(batch))
    assert not torch.allclose(ordered(turned), ordered(batch))


def test_hidden_widths_can_be_chosen():
    assert DIN(NUM_ITEMS, dim=DIM, hidden_dims=(19, 11)).scorer.hidden_dims == (19, 11)


def test_an_unknown_form_is_refused():
    with pytest.raises(ConfigError, match="form must be 'paper' or 'code', got 'tensorflow'"):
        DIN(NUM_ITEMS, form="tensorflow")


def test_the_profile_goes_to_the_readout_and_not_into_the_attention():
    model = DIN(NUM_ITEMS, dim=DIM, profile_sizes=(3, 5)).eval()
    history = History(torch.tensor([[3, 5, 2]]), torch.tensor([3]))
    candidates = torch.tensor([[7, 1]])
    young, old = (history._replace(profile=torch.tensor([[code, 2]])) for code in (1, 2))
    unknown = history._replace(profile=torch.zeros(1, 2, dtype=torch.int64))
    asked = [model(RankingBatch(some, candidates)) for some in (young, old, unknown, history)]
    assert not torch.allclose(asked[0], asked[1])
    assert torch.equal(asked[2], asked[3]), "unknown is what no profile is"
    (weights,) = model.attention(RankingBatch(young, candidates))
    assert weights.shape == (1, 1, 2, 3)


def test_a_dot_product_reads_no_profile():
    with pytest.raises(ConfigError, match="profile_in_readout"):
        TargetAttention(NUM_ITEMS, profile_sizes=(3,), profile_in_readout=True)
