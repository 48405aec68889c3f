"""Each ranker beside its published formula, written down here in loops over rows, candidates, heads and steps."""

import copy
import math
from typing import get_type_hints

import pytest
import torch

from recattn.batch import History, RankingBatch
from recattn.errors import ConfigError
from recattn.models import BST, DIEN, ETA, SDIM, SIM, STCA, TWIN, MeanPooling, TargetRanker, ranker
from recattn.models.moments import asked_at
from recattn.models.specification import build, describe, parameters_of
from recattn.models.target_ranker import RankerOptions
from recattn.nn import (
    ActivationUnitScorer,
    AttentionPooling,
    BucketHashPooling,
    CategorySearch,
    Dice,
    DotSearch,
    Encoder,
    Identity,
    InterestEvolution,
    InterestExtractor,
    LinearAttention,
    LinformerAttention,
    MultiHeadAttention,
    RotaryPosition,
    SearchedAttention,
    SummaryPooling,
)

NUM_ITEMS, DIM, BATCH, LENGTH, CANDIDATES, REACH, SHORT = 13, 6, 3, 7, 5, 5, 2
SMALL = {"dim": DIM, "readout_dims": (11,), "max_length": REACH, "short_length": SHORT}


def batch_of():
    lengths = torch.tensor([7, 3, 0])
    items = torch.randint(1, NUM_ITEMS + 1, (BATCH, LENGTH)) * (torch.arange(LENGTH) < lengths[:, None])
    candidates = torch.randint(1, NUM_ITEMS + 1, (BATCH, CANDIDATES))
    visible = torch.tensor([[7, 7, 4, 1, 6], [3, 2, 2, 0, 3], [0, 0, 0, 0, 0]])
    ratings = torch.randint(1, 4, (BATCH, LENGTH)).float()
    return RankingBatch(History(items, lengths, ratings=ratings), candidates, visible=visible)


def awake(model):
    """In float64, evaluating, with nothing at its start."""
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.4)
        for part in model.modules():
            if isinstance(part, Dice):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2.0)
        for table in {model.content, model.matching}:
            if table.items.feature_sizes:
                codes = torch.arange(NUM_ITEMS + 1)[:, None] % 3
                table.items.set_features(codes, torch.ones(NUM_ITEMS + 1, dtype=torch.bool))
    return model


def softmax(scores):
    shares = [math.exp(score) for score in scores]
    return [share / sum(shares) for share in shares]


def multi_head(layer, query, keys, values, bias):
    """bias: one list of numbers a head. Nothing attended gives 0."""
    if not keys:
        return torch.zeros(DIM, dtype=torch.float64)
    parts = []
    for head in range(layer.num_heads):
        rows = slice(head * layer.key_dim, (head + 1) * layer.key_dim)
        q = layer.query_projection.weight[rows] @ query
        k = [layer.key_projection.weight[rows] @ key for key in keys]
        weights = softmax([float(q @ x) / math.sqrt(layer.key_dim) + b for x, b in zip(k, bias[head], strict=True)])
        parts.append(sum(w * (layer.value_projection.weight[rows] @ v) for w, v in zip(weights, values, strict=True)))
    return layer.output_projection.weight @ torch.cat(parts)


def best(scores, k):
    """The places of the k largest, oldest first; of equal ones the earlier."""
    return sorted(sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:k])


def searched(layer, query, keys, values, bias, places):
    keys, values = [keys[i] for i in places], [values[i] for i in places]
    return multi_head(layer.attention, query, keys, values, [[row[i] for i in places] for row in bias])


def mean_over_heads(bias):
    return [sum(column) / len(bias) for column in zip(*bias, strict=True)]


def sim_soft(model, query, keys, values, bias, items, candidate):
    scores = [float(query @ key) / math.sqrt(DIM) + b for key, b in zip(keys, mean_over_heads(bias), strict=True)]
    return searched(model.attention_layer, query, keys, values, bias, best(scores, 3))


def sim_hard(model, query, keys, values, bias, items, candidate):
    same = [i for i, item in enumerate(items) if item % 3 == candidate % 3 and candidate % 3]
    return searched(model.attention_layer, query, keys, values, bias, same[-3:])


def eta(model, query, keys, values, bias, items, candidate):
    planes = model.attention_layer.search.planes
    same = [sum(bool(a) == bool(b) for a, b in zip(query @ planes > 0, key @ planes > 0, strict=True)) for key in keys]
    return searched(model.attention_layer, query, keys, values, bias, best(same, 3))


def twin(model, query, keys, values, bias, items, candidate):
    layer, scores = model.attention_layer.attention, [0.0] * len(keys)
    for head in range(layer.num_heads):
        rows = slice(head * layer.key_dim, (head + 1) * layer.key_dim)
        for j, key in enumerate(keys):
            product = (layer.query_projection.weight[rows] @ query) @ (layer.key_projection.weight[rows] @ key)
            scores[j] += (float(product) / math.sqrt(layer.key_dim) + bias[head][j]) / layer.num_heads
    return searched(model.attention_layer, query, keys, values, bias, best(scores, 3))


def sdim(model, query, keys, values, bias, items, candidate):
    layer, total = model.attention_layer, torch.zeros(DIM, dtype=torch.float64)
    for group in range(layer.num_groups):
        planes = layer.planes[:, group * layer.num_bits : (group + 1) * layer.num_bits]
        inside = [v for k, v in zip(keys, values, strict=True) if ((k @ planes > 0) == (query @ planes > 0)).all()]
        if inside:
            total += sum(inside) / sum(inside).norm()
    return total / layer.num_groups


def norm(x, layer):
    return (x - x.mean()) / torch.sqrt(x.var(unbiased=False) + layer.eps) * layer.weight + layer.bias


def silu(x):
    return x / (1 + torch.exp(-x))


def feed(x, layer):
    hidden = layer.inward.weight @ x + layer.inward.bias
    hidden = silu(hidden[: layer.hidden_dim]) * hidden[layer.hidden_dim :] if layer.activation == "swiglu" else hidden
    hidden = hidden.clamp(min=0) if layer.activation == "relu" else hidden
    return layer.outward.weight @ hidden + layer.outward.bias


def stca(model, query, keys, values, bias, items, candidate):
    stack = model.attention_layer
    if not keys:
        return torch.zeros(DIM, dtype=torch.float64)
    for block in stack.blocks:
        keys, values = (
            [norm(x + feed(x, block.source_feed_forward), block.around_source.layer_norm) for x in side]
            for side in (keys, values)
        )
        asked = norm(query, block.around_attention.layer_norm)
        query = query + multi_head(block.attention, asked, keys, values, bias)
        query = query + feed(norm(query, block.around_feed_forward.layer_norm), block.feed_forward)
    return norm(query, stack.last_norm)


def bst(model, query, keys, values, bias, items, candidate):
    if not keys:
        return torch.zeros(DIM, dtype=torch.float64)
    sequence, bias = [*keys, query], [[*row, 0.0] for row in bias]
    for block in model.attention_layer.blocks:
        told = [multi_head(block.attention, x, sequence, sequence, bias) for x in sequence]
        sequence = [norm(x + y, block.around_attention.layer_norm) for x, y in zip(sequence, told, strict=True)]
        sequence = [norm(x + feed(x, block.feed_forward), block.around_feed_forward.layer_norm) for x in sequence]
    return sequence[-1]


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def states_of(gru, inputs):
    """h_t as the paper writes it: u opens the new state, where nn.GRU's z keeps the old one."""
    h, states = torch.zeros(DIM, dtype=torch.float64), []
    of_input, of_state = gru.weight_ih_l0.split(DIM), gru.weight_hh_l0.split(DIM)
    a, b = gru.bias_ih_l0.split(DIM), gru.bias_hh_l0.split(DIM)
    for x in inputs:
        r = sigmoid(of_input[0] @ x + a[0] + of_state[0] @ h + b[0])
        u = 1 - sigmoid(of_input[1] @ x + a[1] + of_state[1] @ h + b[1])
        n = torch.tanh(of_input[2] @ x + a[2] + r * (of_state[2] @ h + b[2]))
        h = (1 - u) * h + u * n
        states.append(h)
    return states


def dien(model, query, keys, values, bias, items, candidate):
    states = states_of(model.extractor.gru, values)
    h = torch.zeros(DIM, dtype=torch.float64)
    if not states:
        return h
    compared = states if model.matching is model.content else keys
    layer = model.attention_layer
    weights = softmax([float(query @ layer.scorer.weight @ key) for key in compared])
    cell = layer.evolution
    for x, a in zip(states, weights, strict=True):
        r, u = sigmoid(cell.input_gates.weight @ x + cell.input_gates.bias + cell.state_gates.weight @ h).split(DIM)
        n = torch.tanh(
            cell.input_candidate.weight @ x + cell.input_candidate.bias + r * (cell.state_candidate.weight @ h)
        )
        h = (1 - a * u) * h + a * u * n
    return h


def readout(model, x):
    layers = list(model.readout.layers)
    for linear, activation in zip(layers[:-1:2], layers[1::2], strict=True):
        x = linear.weight @ x + linear.bias
        if isinstance(activation, Dice):
            p = sigmoid((x - activation.running_mean) / torch.sqrt(activation.running_var + 1e-8))
            x = p * x + (1 - p) * activation.alpha * x
        else:
            x = x.clamp(min=0)
    return (layers[-1].weight @ x + layers[-1].bias)[0]


def embed(table, items, ratings):
    found = [table.items(item[None])[0] for item in items]
    return [x + table.rating.weight[int(r) - 1] for x, r in zip(found, ratings, strict=True)] if table.rating else found


def bias_of(reader, count):
    if reader.bias is None:
        return [[0.0] * count]
    ages = torch.arange(count - 1, -1, -1)[None, None]
    return reader.bias.recency(ages)[0, :, 0].tolist()


@torch.no_grad()
def by_hand(model, batch, retrieve):
    logits = torch.zeros(BATCH, CANDIDATES, dtype=torch.float64)
    for row in range(BATCH):
        for column in range(CANDIDATES):
            candidate, end = batch.candidates[row, column], int(batch.visible[row, column])
            start = max(0, end - REACH)
            items, ratings = batch.history.items[row, start:end], batch.history.ratings[row, start:end]
            keys, values = (embed(table, items, ratings) for table in (model.matching, model.content))
            query, content = (table.items(candidate[None])[0] for table in (model.matching, model.content))
            bias = bias_of(model.long, len(items))
            parts = [content, retrieve(model, query, keys, values, bias, items.tolist(), int(candidate))]
            if model.short is not None:
                last, bias = slice(max(0, len(items) - SHORT), None), bias_of(model.short, min(SHORT, len(items)))
                parts.append(multi_head(model.short_layer, query, keys[last], values[last], bias))
            logits[row, column] = readout(model, torch.cat(parts)) + model.item_bias.weight[candidate, 0]
    return logits


MODELS = {
    "SIM-soft": (lambda **more: SIM(NUM_ITEMS, **SMALL, k=3, **more), sim_soft),
    "SIM-hard": (lambda **more: SIM(NUM_ITEMS, **SMALL, form="hard", k=3, feature_sizes=(3,), **more), sim_hard),
    "ETA": (lambda **more: ETA(NUM_ITEMS, **SMALL, k=3, num_bits=16, **more), eta),
    "SDIM": (lambda **more: SDIM(NUM_ITEMS, **SMALL, num_groups=5, num_bits=2, **more), sdim),
    "TWIN": (lambda **more: TWIN(NUM_ITEMS, **SMALL, k=3, **more), twin),
    "TWIN-heads": (lambda **more: TWIN(NUM_ITEMS, **SMALL, k=3, num_heads=2, **more), twin),
    "STCA": (lambda **more: STCA(NUM_ITEMS, **SMALL, hidden_dim=11, **more), stca),
    "BST": (lambda **more: BST(NUM_ITEMS, **SMALL, num_layers=2, hidden_dim=11, **more), bst),
    "DIEN": (lambda **more: DIEN(NUM_ITEMS, **SMALL, **more), dien),
}


@pytest.mark.parametrize("separate", [False, True], ids=["one table", "tables apart"])
@pytest.mark.parametrize("name", MODELS)
def test_is_the_formula(name, separate):
    make, retrieve = MODELS[name]
    if name == "BST" and separate:
        with pytest.raises(ConfigError, match="separate_tables must be False"):
            make(separate_tables=True)
        return
    torch.manual_seed(0)
    model, batch = awake(make(separate_tables=separate, rating_levels=(1, 2, 3))), batch_of()
    torch.testing.assert_close(model(batch), by_hand(model, batch, retrieve), atol=1e-9, rtol=1e-8)


def test_mean_pooling_is_the_formula():
    torch.manual_seed(0)
    model, batch = MeanPooling(NUM_ITEMS, dim=DIM, readout_dims=(11,), max_length=REACH).double().eval(), batch_of()
    table = model.value_table.weight
    for row in range(BATCH):
        for column in range(CANDIDATES):
            end, candidate = int(batch.visible[row, column]), batch.candidates[row, column]
            events = table[batch.history.items[row, max(0, end - REACH) : end]]
            mean = events.mean(0) if end else torch.zeros(DIM, dtype=torch.float64)
            logit = readout(model, torch.cat([mean, table[candidate]])) + model.item_bias.weight[candidate, 0]
            torch.testing.assert_close(model(batch)[row, column], logit)
    assert (model.attention(batch)[0][0, 0, 2, :4] == 0.25).all()


def everything_found(model, batch):
    """The same network with the exact attention in place of the searched one."""
    exact = TargetRanker(
        NUM_ITEMS, **SMALL, attention_layer=model.attention_layer.attention, short_layer=model.short_layer
    ).double()
    weights = {name.replace("long.layer.attention.", "long.layer."): x for name, x in model.state_dict().items()}
    exact.load_state_dict({name: x for name, x in weights.items() if ".search." not in name})
    return exact.eval()(batch)


@pytest.mark.parametrize("preset", [SIM, ETA, TWIN])
def test_a_search_that_finds_everything_is_the_exact_attention(preset):
    torch.manual_seed(0)
    batch = batch_of()
    model = awake(preset(NUM_ITEMS, **SMALL, k=REACH))
    torch.testing.assert_close(model(batch), everything_found(model, batch), atol=1e-10, rtol=1e-9)
    fewer = awake(preset(NUM_ITEMS, **SMALL, k=2))
    assert not torch.allclose(fewer(batch), everything_found(fewer, batch))


def test_hard_search_attends_to_the_candidates_category_alone():
    torch.manual_seed(0)
    model, batch = awake(MODELS["SIM-hard"][0]()), batch_of()
    weights = model.attention(batch)[0]  # (batch, heads, candidates, length)
    same = batch.history.items[:, None] % 3 == batch.candidates[..., None] % 3
    known = batch.candidates[..., None] % 3 != 0
    visible = (torch.arange(LENGTH) < batch.visible[..., None]) & (
        torch.arange(LENGTH) >= batch.visible[..., None] - REACH
    )
    wanted = same & known & visible
    assert 0 < wanted.sum() < visible.sum()
    found = weights > 0
    assert not (found & ~wanted[:, None]).any()
    assert torch.equal(found.sum(-1), wanted.sum(-1).clamp(max=3)[:, None].expand_as(found.sum(-1)))
    assert torch.equal(weights.sum(-1) > 0.5, wanted.any(-1)[:, None].expand_as(weights.sum(-1)))


def test_sdims_collisions_are_as_probable_as_the_angle_says():
    """In how many of 4,000 groups an event falls into the candidate's bucket: (1 - angle / pi)^num_bits."""
    torch.manual_seed(0)
    model = awake(SDIM(NUM_ITEMS, **SMALL, num_groups=4000, num_bits=3))
    batch = RankingBatch(History(torch.tensor([[3, 5, 7]]), torch.tensor([3])), torch.tensor([[4]]))
    codes = model.attention_layer.codes
    table = model.content.items.weight
    found = (codes(table[[3, 5, 7]]) == codes(table[4])).double().mean(-1)
    cosine = torch.cosine_similarity(table[[3, 5, 7]], table[4], dim=-1)
    torch.testing.assert_close(found, (1 - torch.acos(cosine) / math.pi) ** 3, atol=0.03, rtol=0)
    assert ((model.attention(batch)[0][0, 0] > 0) == (found > 0)).all()


def test_tables_apart_have_gradients_apart():
    """What is read off moves the tables of content, what is matched those of matching."""
    torch.manual_seed(0)
    batch = batch_of()
    model = awake(TargetRanker(NUM_ITEMS, **SMALL, separate_tables=True))
    assert model.matching is not model.content
    model(batch).sum().backward()
    assert (model.matching.items.weight.grad != 0).any()
    assert (model.content.items.weight.grad != 0).any()
    model.zero_grad()
    with torch.no_grad():  # nothing to choose: all events weigh alike, whatever the matching says
        model.attention_layer.query_projection.weight.zero_()
    model(batch).sum().backward()
    assert (model.matching.items.weight.grad == 0).all()
    assert (model.content.items.weight.grad != 0).any()
    assert awake(TargetRanker(NUM_ITEMS, **SMALL)).matching.items.weight.shape == (NUM_ITEMS + 1, DIM)


def test_leaving_an_event_out_is_what_a_contribution_says():
    torch.manual_seed(0)
    model, batch = awake(TargetRanker(NUM_ITEMS, **SMALL)), batch_of()
    brought, logits = model.contributions(batch), model(batch)
    for row, column in ((0, 0), (0, 2), (1, 1)):
        end = int(batch.visible[row, column])
        for event in range(max(0, end - REACH), end):
            kept = [i for i in range(max(0, end - REACH), end) if i != event]
            history = History(batch.history.items[row, kept][None], torch.tensor([len(kept)]))
            without = model(RankingBatch(history, batch.candidates[row, column][None, None]))[0, 0]
            torch.testing.assert_close(brought[row, column, event], logits[row, column] - without)


@torch.no_grad()
def test_an_auxiliary_loss_is_the_papers():
    """-log s(h_t . e_{t+1}) - log(1 - s(h_t . n_{t+1})), n a random other item; without an extractor there is none."""
    torch.manual_seed(0)
    model = awake(DIEN(NUM_ITEMS, **SMALL))
    history = History(torch.tensor([[3, 5, 7, 0], [4, 0, 0, 0]]), torch.tensor([3, 1]))
    table, expected = model.content.items.weight, 0.0
    states = states_of(model.extractor.gru, [table[item] for item in (3, 5, 7)])
    for state, item in zip(states, (5, 7), strict=False):
        others = [table[other] for other in range(1, NUM_ITEMS + 1) if other != item]
        mean = sum(torch.log(1 - sigmoid(state @ other)) for other in others) / len(others)
        expected = expected - (torch.log(sigmoid(state @ table[item])) + mean) / 2
    found = torch.stack([model.auxiliary_loss(history) for _ in range(3000)])
    assert found.std() > 0
    assert float(found.mean()) == pytest.approx(float(expected), abs=4 * float(found.std()) / 3000**0.5)
    assert TargetRanker(NUM_ITEMS, **SMALL).auxiliary_loss(history) is None
    lonely = DIEN(1, **SMALL).auxiliary_loss(History(torch.tensor([[1, 1]]), torch.tensor([2])))
    assert lonely.isfinite()


def test_the_history_is_embedded_once_for_a_thousand_candidates(monkeypatch):
    model = TargetRanker(NUM_ITEMS, **SMALL).eval()
    seen = []
    project = model.attention_layer.key_projection.forward
    monkeypatch.setattr(model.attention_layer.key_projection, "forward", lambda x: seen.append(x.shape) or project(x))
    history = History(torch.randint(1, NUM_ITEMS + 1, (1, 50)), torch.tensor([50]))
    model(RankingBatch(history, torch.randint(1, NUM_ITEMS + 1, (1, 1000))))
    assert seen == [(1, REACH, DIM)]


def test_the_catalogue_is_scored_in_pieces_that_fit_what_a_pair_keeps(monkeypatch):
    """Room for 2 items x 5 events x 6 numbers."""
    model, seen = TargetRanker(NUM_ITEMS, **SMALL).eval(), []
    at_positions = model.at_positions
    monkeypatch.setattr(ranker, "CATALOGUE_ELEMENTS", 2 * REACH * DIM)
    monkeypatch.setattr(
        model, "at_positions", lambda h, p, c, now=None: seen.append(len(c)) or at_positions(h, p, c, now)
    )
    model.score_all(History(torch.randint(1, NUM_ITEMS + 1, (1, LENGTH)), torch.tensor([LENGTH])))
    assert seen == [2, 2, 2, 2, 2, 2, 1]


@pytest.mark.parametrize("searching", [False, True])
def test_a_layer_that_sums_up_is_given_no_bias(searching):
    layer = BucketHashPooling(DIM, num_groups=2, num_bits=1)
    layer = SearchedAttention(DotSearch(3), layer) if searching else layer
    model = TargetRanker(NUM_ITEMS, **SMALL, attention_layer=layer, recency=True)
    assert model.long.bias is None
    assert model(batch_of()).isfinite().all()


def test_candidates_of_many_moments_share_the_history_where_the_layer_can(monkeypatch):
    batch = batch_of()
    for layer, rows in ((None, BATCH), (LinearAttention(DIM, DIM, num_heads=2), BATCH * 5)):
        model, seen = TargetRanker(NUM_ITEMS, **SMALL, attention_layer=layer).eval(), []
        project = model.attention_layer.key_projection.forward
        monkeypatch.setattr(
            model.attention_layer.key_projection, "forward", lambda x, p=project, s=seen: s.append(len(x)) or p(x)
        )
        model(batch)
        assert seen == [rows]


@pytest.mark.parametrize("unit", [False, True], ids=["readout", "attention"])
def test_dice_does_not_learn_from_padding_candidates(unit):
    """The running means are those of the real candidates, and of their pairs with what they see."""
    torch.manual_seed(0)
    scorer = ActivationUnitScorer(DIM, DIM, hidden_dims=(5,), activation="dice")
    layer, activation = (AttentionPooling(scorer, Identity()), "relu") if unit else (None, "dice")
    model = TargetRanker(NUM_ITEMS, **SMALL, attention_layer=layer, readout_activation=activation).train()
    batch = batch_of()._replace(visible=None)
    more = batch._replace(candidates=torch.cat([batch.candidates, torch.zeros(BATCH, 9, dtype=torch.int64)], 1))
    twin = copy.deepcopy(model)
    model(batch)
    twin(more)
    (left,), (right,) = ([part for part in m.modules() if isinstance(part, Dice)] for m in (model, twin))
    torch.testing.assert_close(right.running_mean, left.running_mean)
    torch.testing.assert_close(right.running_var, left.running_var)
    assert (left.running_mean != 0).any()


def test_time_is_measured_to_the_last_visible_event_or_to_the_request():
    history = History(torch.tensor([[3, 5]]), torch.tensor([2]), torch.tensor([[10, 20]]))
    visible = torch.tensor([[0, 1, 2]])
    assert asked_at(history, visible, None).tolist() == [[10, 10, 20]]
    assert asked_at(history, visible, visible + 90).tolist() == [[90, 91, 92]]
    assert asked_at(history._replace(times=None), visible, visible) is None


def test_the_options_of_presets_are_arguments_of_the_ranker():
    hints = get_type_hints(TargetRanker.__init__)
    assert {name: hints[name] for name in RankerOptions.__annotations__} == get_type_hints(RankerOptions)
    own = {"num_items", "dim", "attention_layer", "short_layer", "extractor"}
    assert {p.name for p in parameters_of(TargetRanker)} == own | RankerOptions.__annotations__.keys()


def test_presets_are_built_from_plain_data_with_their_options():
    path = {"class_path": "recattn.models.ETA", "init_args": {"dim": DIM, "max_length": 17}}
    model = build(path, num_items=NUM_ITEMS, rating_levels=[1, 2])
    assert (model.max_length, model.rating_levels) == (17, (1, 2))
    assert describe(model)["class_path"] == "recattn.models.TargetRanker"
    with pytest.raises(ConfigError, match="attention_layer"):
        build(path, num_items=NUM_ITEMS, attention_layer=None)


def test_the_published_lengths_and_switches_are_the_defaults():
    assert [preset(NUM_ITEMS).max_length for preset in (SIM, ETA, SDIM, TWIN, STCA)] == [1000] * 5
    assert (BST(NUM_ITEMS).max_length, DIEN(NUM_ITEMS).max_length, DIEN(NUM_ITEMS).recency) == (20, 50, False)


WRONG = {
    "form must be one of": lambda: SIM(NUM_ITEMS, form="medium"),
    "feature_sizes is empty": lambda: SIM(NUM_ITEMS, form="hard"),
    "never finds the profile": lambda: SIM(
        NUM_ITEMS, form="hard", feature_sizes=(3,), profile_sizes=(5,), profile_in_readout=False
    ),
    "no layer reads a time": lambda: TargetRanker(
        NUM_ITEMS,
        dim=DIM,
        attention_layer=BucketHashPooling(DIM, num_groups=4, num_bits=2),
        use_times=True,
        time_aware=True,
    ),
    "there is no time to be aware of": lambda: ETA(NUM_ITEMS, time_aware=True),
    "attention_layer must take and give width 6": lambda: TargetRanker(
        NUM_ITEMS, dim=DIM, attention_layer=MultiHeadAttention(8, 8, num_heads=2)
    ),
    "with hidden_dim 4": lambda: TargetRanker(
        NUM_ITEMS, dim=DIM, attention_layer=InterestEvolution(DIM, DIM, hidden_dim=4)
    ),
    "extractor must have hidden_dim 6, got 8": lambda: TargetRanker(
        NUM_ITEMS, dim=DIM, extractor=InterestExtractor(DIM, 8)
    ),
    "in their order: profile_in_readout": lambda: DIEN(NUM_ITEMS, profile_in_readout=False),
    "whose events read each other": lambda: BST(NUM_ITEMS, profile_in_readout=False),
    "must not be causal": lambda: TargetRanker(
        NUM_ITEMS,
        dim=DIM,
        attention_layer=Encoder(DIM, attention=MultiHeadAttention(DIM, DIM, num_heads=1, causal=True), num_layers=1),
    ),
    "must not be rotary": lambda: TargetRanker(
        NUM_ITEMS,
        dim=DIM,
        attention_layer=Encoder(
            DIM, attention=MultiHeadAttention(DIM, DIM, num_heads=1, rotary=RotaryPosition(DIM)), num_layers=1
        ),
    ),
    "short_layer must not be a CategorySearch": lambda: TargetRanker(
        NUM_ITEMS,
        dim=DIM,
        short_layer=SearchedAttention(CategorySearch(2), MultiHeadAttention(DIM, DIM, num_heads=1)),
    ),
    "short_length must be": lambda: TWIN(NUM_ITEMS, short_length=0),
    "max_length must be": lambda: STCA(NUM_ITEMS, max_length=0),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_does_not_fit_is_refused(message):
    with pytest.raises(ConfigError, match=message):
        WRONG[message]()


@pytest.mark.parametrize(
    ("layer", "more"),
    [
        (Encoder(8, attention=LinformerAttention(8, 8, num_heads=2, max_length=40, num_slots=3), num_layers=1), {}),
        (LinformerAttention(8, 8, num_heads=2, max_length=40, num_slots=3), {"profile_sizes": (3,)}),
        (SummaryPooling(8, MultiHeadAttention(8, 8, num_heads=2), num_tokens=2, num_recent=2), {"profile_sizes": (3,)}),
    ],
)
def test_what_has_no_place_is_not_told_to_a_layer_of_places(layer, more):
    with pytest.raises(ConfigError, match="places matter"):
        TargetRanker(11, dim=8, attention_layer=layer, recency=False, profile_in_readout=not more, **more)
