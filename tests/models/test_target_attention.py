import inspect
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import recattn.nn as rnn
from recattn.batch import History, RankingBatch
from recattn.errors import ConfigError
from recattn.models import TargetAttention
from recattn.models.transitions import TransitionHead

NUM_ITEMS = 13
PLAIN = {"recency": False, "use_times": False, "transitions": 0, "dropout": 0.0}


def ask(*items, candidates=(4, 5), **more):
    history = History(torch.tensor([items]), torch.tensor([len(items)]), **more)
    return RankingBatch(history, torch.tensor([candidates]))


def random_batch(batch=3, length=7, candidates=5):
    history = History(torch.randint(1, NUM_ITEMS + 1, (batch, length)), torch.full((batch,), length))
    return RankingBatch(history, torch.randint(1, NUM_ITEMS + 1, (batch, candidates)))


def awake(model):
    """The model in float64 with nothing left at 0 but the padding rows."""
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    for part in model.modules():
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            nn.init.zeros_(part.weight[0])
    return model


@pytest.fixture
def tiny():
    """Two numbers an item, one head: small enough to be worked out on paper."""
    model = TargetAttention(5, dim=2, num_heads=1, scorer=rnn.DotScorer(), **PLAIN).double().eval()
    with torch.no_grad():
        model.query_table.weight[4] = torch.tensor([1.0, 0.0])
        model.key_table.weight[1:4] = torch.tensor([[0.0, 7.0], [math.log(2), 7.0], [math.log(3), 7.0]])
        model.value_table.weight[1:4] = torch.tensor([[6.0, 0.0], [0.0, 6.0], [12.0, 12.0]])
        model.readout_table.weight[4] = torch.tensor([1.0, 10.0])
        model.item_bias.weight[4] = 0.25
    return model


def test_known_answer(tiny):
    """Weights 1/6, 2/6, 3/6; retrieved (1 + 6, 2 + 6) = (7, 8); logit 7 + 80 + 0.25."""
    logits = tiny(ask(1, 2, 3))
    assert logits[0, 0].item() == pytest.approx(87.25)
    (weights,) = tiny.attention(ask(1, 2, 3))
    assert weights.shape == (1, 1, 2, 3)
    assert weights[0, 0, 0].tolist() == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert tiny.contributions(ask(1, 2, 3))[0, 0].tolist() == pytest.approx([1, 20, 66])


def test_known_answer_with_less_visible_and_with_nothing(tiny):
    batch = ask(1, 2, 3, candidates=(4, 4, 4))._replace(visible=torch.tensor([[0, 1, 2]]))
    assert tiny(batch)[0].tolist() == pytest.approx([0.25, 6.25, 2.25 + 40])


def test_known_answer_with_recency(tiny):
    """Ages 1 and 0 with slope log 2: weights of 1 and 2 become 1/2 : 2, that is 1/5 and 4/5."""
    aged = TargetAttention(5, dim=2, num_heads=1, scorer=rnn.DotScorer(), **PLAIN | {"recency": True}).double().eval()
    aged.load_state_dict(tiny.state_dict(), strict=False)
    with torch.no_grad():
        aged.event_bias.recency.raw_slope.fill_(math.log(math.exp(math.log(2)) - 1))
    assert aged(ask(1, 2))[0, 0].item() == pytest.approx(6 / 5 + 10 * 6 * 4 / 5 + 0.25)


def test_known_answer_with_embedded_ratings(tiny):
    """Rated 5 an event's key grows by log 2, which doubles its weight, and its value by (6, 0)."""
    told = TargetAttention(
        5, dim=2, num_heads=1, scorer=rnn.DotScorer(), rating_levels=(1, 5), embed_ratings=True, **PLAIN
    )
    told = told.double().eval()
    told.load_state_dict(tiny.state_dict(), strict=False)
    with torch.no_grad():
        told.rating_keys.weight[:] = torch.tensor([[0.0, 0.0], [math.log(2), 0.0]])
        told.rating_values.weight[:] = torch.tensor([[0.0, 0.0], [6.0, 0.0]])
    logits = told(ask(1, 2, ratings=torch.tensor([[1.0, 5.0]])))
    # weights 1/5 and 4/5 of (6, 0) and (6, 6)
    assert logits[0, 0].item() == pytest.approx(6 + 10 * 6 * 4 / 5 + 0.25)
    assert told(ask(1, 2))[0, 0].item() == pytest.approx(2 + 10 * 4 + 0.25)  # without ratings 1/3 and 2/3


def test_embedded_ratings_take_the_place_of_the_bias():
    model = TargetAttention(NUM_ITEMS, dim=14, rating_levels=(1, 3), embed_ratings=True)
    assert model.event_bias.rating is None
    assert model.rating_keys is not model.rating_values
    shared = TargetAttention(NUM_ITEMS, dim=14, rating_levels=(1, 3), embed_ratings=True, separate_tables=False)
    assert shared.rating_keys is shared.rating_values
    assert TargetAttention(NUM_ITEMS, dim=14, embed_ratings=True).rating_values is None  # data without ratings


def test_order_matters_with_recency_and_not_without():
    batch = random_batch()
    turned = batch._replace(history=batch.history._replace(items=batch.history.items.flip(1)))
    without = awake(TargetAttention(NUM_ITEMS, dim=14, **PLAIN))
    torch.testing.assert_close(without(turned), without(batch))
    with_it = awake(TargetAttention(NUM_ITEMS, dim=14, **PLAIN | {"recency": True}))
    assert not torch.allclose(with_it(turned), with_it(batch))


SIDES = {
    "times": (torch.tensor([[100, 200, 5000]]), torch.tensor([[100, 4000, 5000]]), {"use_times": True}),
    "ratings": (torch.tensor([[1.0, 5.0, 3.0]]), torch.tensor([[5.0, 1.0, 3.0]]), {"rating_levels": (1, 3, 5)}),
    "profile": (torch.tensor([[2, 0]]), torch.tensor([[1, 0]]), {"profile_sizes": (3, 2)}),
}


@pytest.mark.parametrize("name", SIDES)
def test_what_is_known_beside_the_items_is_read_when_asked_for_and_ignored_when_not(name):
    one, other, arguments = SIDES[name]
    left, right = ask(1, 2, 3, **{name: one}), ask(1, 2, 3, **{name: other})
    reader = awake(TargetAttention(NUM_ITEMS, dim=14, **PLAIN | arguments))
    assert not torch.allclose(reader(left), reader(right))
    blind = awake(TargetAttention(NUM_ITEMS, dim=14, **PLAIN))
    assert torch.equal(blind(left), blind(right))


def test_time_is_counted_from_the_last_visible_event_or_from_the_request():
    times = torch.tensor([[100, 200, 5000]])
    batch = ask(1, 2, 3, times=times)
    later = batch._replace(history=batch.history._replace(times=times + 10**6))
    unaware = awake(TargetAttention(NUM_ITEMS, dim=14, **PLAIN | {"use_times": True}))
    torch.testing.assert_close(unaware(later), unaware(batch))  # gaps between the events alone
    aware = awake(TargetAttention(NUM_ITEMS, dim=14, **PLAIN | {"use_times": True, "time_aware": True}))
    aware.load_state_dict(unaware.state_dict())
    torch.testing.assert_close(aware(batch), unaware(batch))  # not told: as if asked at once
    at_once = batch._replace(request_time=torch.tensor([[5000, 5000]]))
    torch.testing.assert_close(aware(at_once), unaware(batch))
    told = batch._replace(request_time=torch.tensor([[5000, 10**7]]))
    torch.testing.assert_close(aware(told)[:, 0], unaware(batch)[:, 0])
    assert not torch.allclose(aware(told)[:, 1], unaware(batch)[:, 1])


def test_time_aware_models_read_profiles_too():
    model = awake(TargetAttention(NUM_ITEMS, dim=14, use_times=True, time_aware=True, profile_sizes=(3,)))
    batch = ask(1, 2, 3, times=torch.tensor([[1, 2, 3]]), profile=torch.tensor([[2]]))
    told = batch._replace(request_time=torch.tensor([[10, 900]]))
    together = model(told)
    for column in range(2):
        alone = told._replace(
            candidates=told.candidates[:, column, None], request_time=told.request_time[:, column, None]
        )
        torch.testing.assert_close(model(alone), together[:, column, None])


def test_ratings_between_levels_count_as_the_next_and_beyond_as_the_last():
    model = awake(TargetAttention(NUM_ITEMS, dim=14, **PLAIN | {"rating_levels": (1, 3, 5)}))

    def logits(*ratings):
        return model(ask(1, 2, 3, ratings=torch.tensor([ratings])))

    torch.testing.assert_close(logits(0.5, 2.0, 9.0), logits(1.0, 3.0, 5.0))
    assert not torch.allclose(logits(1.0, 3.0, 5.0), logits(1.0, 3.0, 3.0))


def test_a_profile_alone_answers_where_there_is_no_history():
    model = awake(TargetAttention(NUM_ITEMS, dim=14, **PLAIN | {"profile_sizes": (3,)}))
    empty = History(torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    batch = RankingBatch(empty._replace(profile=torch.tensor([[1], [2]])), torch.tensor([[3, 4], [3, 4]]))
    logits = model(batch)
    assert not torch.allclose(logits[0], logits[1])
    value = model.profile.values[0].weight[1]  # one thing to attend: weight 1 in each head
    expected = (value * model.readout_table.weight[3]).sum() + model.item_bias.weight[3]
    torch.testing.assert_close(logits[0, :1], expected)


def test_heads_are_separate_attentions_over_slices_of_the_embeddings():
    model = awake(TargetAttention(NUM_ITEMS, dim=15, num_heads=3, **PLAIN))
    batch = random_batch()
    logits = model.item_bias(batch.candidates).squeeze(-1)
    for head in range(3):
        part = slice(5 * head, 5 * head + 5)
        query, readout = (t(batch.candidates)[..., part] for t in (model.query_table, model.readout_table))
        keys, values = (t(batch.history.items)[..., part] for t in (model.key_table, model.value_table))
        weights = (query @ keys.transpose(1, 2) / 5**0.5).softmax(-1)
        torch.testing.assert_close(model.attention(batch)[0][:, head], weights)
        logits = logits + ((weights @ values) * readout).sum(-1)
    torch.testing.assert_close(model(batch), logits)


def test_one_table_or_four():
    one, four = (TargetAttention(NUM_ITEMS, dim=14, separate_tables=separate, **PLAIN) for separate in (False, True))
    sizes = [sum(p.numel() for p in model.parameters()) for model in (one, four)]
    assert sizes[1] - sizes[0] == 3 * 14 * (NUM_ITEMS + 1)
    assert one.query_table is one.value_table is one.key_table is one.readout_table


SCORERS = {
    "AdditiveScorer": lambda: rnn.AdditiveScorer(7, 7, hidden_dim=5),
    "BilinearScorer": lambda: rnn.BilinearScorer(7, 7),
    "ConstantScorer": rnn.ConstantScorer,
    "DotScorer": rnn.DotScorer,
    "ScaledDotScorer": rnn.ScaledDotScorer,
    "ActivationUnitScorer": lambda: rnn.ActivationUnitScorer(7, 7, hidden_dims=(5,)),
}
WEIGHTINGS = [name for name in rnn.__all__ if hasattr(getattr(rnn, name), "kind") and name != "Weighting"]


def test_every_exported_scorer_is_tried():
    def is_scorer(name):
        made = getattr(rnn, name)
        return inspect.isclass(made) and issubclass(made, nn.Module) and name.endswith("Scorer")

    assert {name for name in rnn.__all__ if is_scorer(name)} == SCORERS.keys()
    assert len(WEIGHTINGS) >= 5


@pytest.mark.parametrize("readout_dims", [(), (11,)], ids=["dot", "mlp"])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("scorer", SCORERS)
def test_every_scorer_goes_with_every_weighting(scorer, weighting, readout_dims):
    made = rnn.TopK(3) if weighting == "TopK" else getattr(rnn, weighting)()
    model = TargetAttention(
        NUM_ITEMS, dim=14, scorer=SCORERS[scorer](), weighting=made, readout_dims=readout_dims, **PLAIN
    )
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02)
    batch = random_batch()
    labels = torch.rand(3, 5).round()
    losses = []
    for _ in range(2):
        loss = F.binary_cross_entropy_with_logits(model(batch), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]
    idle = ("profile", "query_table", "key_table") if scorer == "ConstantScorer" else ("profile",)
    assert all(p.grad is not None for name, p in model.named_parameters() if not name.startswith(idle))


def test_the_mlp_reads_what_was_retrieved_and_the_candidate():
    model = awake(TargetAttention(NUM_ITEMS, dim=14, readout_dims=(11, 5), **PLAIN))
    batch = random_batch()
    output = torch.cat(
        [
            (weights @ model.value_table(batch.history.items)[..., 7 * head : 7 * head + 7])
            for head, weights in enumerate(model.attention(batch)[0].unbind(1))
        ],
        -1,
    )
    vectors = model.readout_table(batch.candidates)
    hidden = torch.cat([output, vectors], -1)
    for layer in model.readout.layers:
        hidden = layer(hidden)
    expected = hidden.squeeze(-1) + model.item_bias(batch.candidates).squeeze(-1)
    torch.testing.assert_close(model(batch), expected)


@pytest.mark.parametrize("weighting", [rnn.Softmax(), rnn.Identity()], ids=["softmax", "gate"])
def test_contributions_add_up_to_the_logit_without_its_bias(weighting):
    model = awake(TargetAttention(NUM_ITEMS, dim=14, weighting=weighting, dropout=0.0, transitions=0))
    batch = random_batch()._replace(visible=torch.tensor([[0, 1, 2, 3, 7], [7, 7, 6, 5, 4], [1, 1, 1, 7, 7]]))
    bias = model.item_bias(batch.candidates).squeeze(-1)
    torch.testing.assert_close(model.contributions(batch).sum(-1), model(batch) - bias)


def test_contributions_with_counted_keys_add_up_to_what_the_history_brought():
    """The head's logit of an empty mass, the same for every candidate, stays out as the bias does."""
    model = awake(TargetAttention(NUM_ITEMS, dim=14, dropout=0.0, transitions=3))
    counts = torch.rand(NUM_ITEMS, NUM_ITEMS) + 0.1
    pairs = torch.arange(1, NUM_ITEMS + 1)[:, None] * (NUM_ITEMS + 1) + torch.arange(1, NUM_ITEMS + 1)
    model.transition_head.set_counts(pairs.flatten(), counts.flatten())
    batch = random_batch()
    nothing = model.transition_head.logits(torch.zeros((), dtype=torch.float64))
    elsewhere = model.item_bias(batch.candidates).squeeze(-1) + nothing
    torch.testing.assert_close(model.contributions(batch).sum(-1), model(batch) - elsewhere)


def test_contributions_of_an_mlp_are_taken_at_its_slope():
    model = awake(TargetAttention(NUM_ITEMS, dim=14, readout_dims=(11,), readout_activation="sigmoid", **PLAIN))
    batch = random_batch()
    values = model.value_table.weight
    contributions = model.contributions(batch)
    step, event = 1e-6, 2
    item = batch.history.items[0, event].item()
    same = (batch.history.items[0] == item)[None]
    with torch.no_grad():  # scaling an item's value moves the logit by its contributions
        before = model(batch)[0]
        values[item] *= 1 + step
        after = model(batch)[0]
    torch.testing.assert_close((after - before) / step, (contributions[0] * same).sum(-1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_contributions_need_no_gradients_to_be_recorded(mode):
    model, batch = awake(TargetAttention(NUM_ITEMS, dim=14)), random_batch()
    with mode():
        assert model.contributions(batch).isfinite().all()
    assert all(p.grad is None for p in model.parameters())


def test_contributions_in_inference_mode():
    model, batch = awake(TargetAttention(NUM_ITEMS, dim=14)), random_batch()
    expected = model.contributions(batch)
    with torch.inference_mode():
        torch.testing.assert_close(model.contributions(batch), expected.detach())


def test_dropout_acts_in_training_only():
    model, batch = TargetAttention(NUM_ITEMS, dim=14, dropout=0.5), random_batch()
    assert not torch.equal(model(batch), model(batch))
    model.eval()
    assert torch.equal(model(batch), model(batch))


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_only_embeddings_of_things_start_at_random(dim):
    """Biases start at 0, whatever width they happen to share with the embeddings."""
    model = TargetAttention(NUM_ITEMS, dim=dim, num_heads=1 if dim == 2 else dim, rating_levels=(1, 2), transitions=1)
    model.reset_parameters()
    assert (model.event_bias.rating.weight == 0).all()
    assert (model.item_bias.weight == 0).all()
    assert (model.value_table.weight[1:] != 0).all()
    assert (model.value_table.weight[0] == 0).all()


def test_the_scorer_is_copied():
    scorer = rnn.BilinearScorer(7, 7)
    left, right = (TargetAttention(NUM_ITEMS, dim=14, scorer=scorer) for _ in range(2))
    assert left.scorer.weight is not right.scorer.weight
    assert left.scorer.weight is not scorer.weight


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_items": 0}, "num_items must be an integer >= 1, got 0"),
        ({"dim": 0}, "dim must be an integer >= 1, got 0"),
        ({"max_length": 0}, "max_length must be an integer >= 1, got 0"),
        ({"transitions": -1}, "transitions must be an integer >= 0, got -1"),
        ({"dim": 14, "num_heads": 3}, r"num_heads must divide dim \(14\), got 3"),
        ({"num_heads": 0}, "num_heads must divide dim"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"time_aware": True, "use_times": False}, "time_aware is True, but use_times is False"),
        ({"rating_levels": (3, 1)}, "rating_levels must be finite numbers that ascend without repeats"),
        ({"rating_levels": (1, 1)}, "rating_levels must be finite numbers that ascend without repeats"),
        ({"readout_dims": (5, 0)}, "hidden_dims must be an integer >= 1, got 0"),
        ({"context_sizes": (5,)}, r"context_sizes is \[5\], but readout_dims is empty: a dot product reads no context"),
        ({"context_sizes": (5, 0), "readout_dims": (5,)}, "context_sizes must be an integer >= 1, got 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        TargetAttention(**{"num_items": NUM_ITEMS} | arguments)


def test_the_transition_head_is_there_only_on_request():
    assert not any(isinstance(part, TransitionHead) for part in TargetAttention(3, transitions=0).modules())
    assert TargetAttention(3, transitions=7).transition_head.horizon == 7
    assert TargetAttention(3, transitions=7, max_length=5).transition_head.horizon == 5


def test_every_part_goes_back_to_its_start():
    torch.manual_seed(1)
    model = TargetAttention(11, dim=8, rating_levels=(1.0, 2.0), profile_sizes=(3,))
    fixed = ("profile_bias", "transition_head", "event_bias", "item_bias")
    start = {name: value.clone() for name, value in model.state_dict().items() if name.startswith(fixed)}
    for weight in model.parameters():
        nn.init.constant_(weight, 123.0)
    model.reset_parameters()
    for name, value in start.items():
        assert torch.equal(model.state_dict()[name], value), name
    assert not any((weight == 123).any() for weight in model.parameters())
