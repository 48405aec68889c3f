import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from recattn.errors import ConfigError
from recattn.models import build, describe
from recattn.nn import LinearAttention, MultiHeadAttention

BATCH, HEADS, QUERIES, LENGTH, QUERY_DIM, SOURCE_DIM = 3, 2, 5, 7, 6, 11
WIDTHS = {"key_dim": 3, "value_dim": 13, "value_source_dim": 17, "output_dim": 19}
LENGTHS = torch.tensor([7, 3, 1])
MASK = torch.arange(LENGTH) < LENGTHS[:, None]
every_map = pytest.mark.parametrize("feature_map", ["elu", "favor"])
both_paths = pytest.mark.parametrize("need_weights", [True, False])


def shaken(layer, dtype=torch.float64):
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return layer.to(dtype)


def make(feature_map="elu", *, bias=True, **more):
    torch.manual_seed(0)
    return shaken(
        LinearAttention(
            QUERY_DIM, SOURCE_DIM, num_heads=HEADS, feature_map=feature_map, bias=bias, **{**WIDTHS, **more}
        )
    )


def make_causal(feature_map="elu", **more):
    torch.manual_seed(0)
    return shaken(LinearAttention(10, 10, num_heads=HEADS, feature_map=feature_map, causal=True, bias=True, **more))


def inputs(length=LENGTH):
    generator = torch.Generator().manual_seed(1)
    shapes = ((QUERIES, QUERY_DIM), (length, SOURCE_DIM), (length, 17))
    return [torch.randn(BATCH, *shape, dtype=torch.float64, generator=generator) for shape in shapes]


def sequence(length, batch=BATCH):
    return torch.randn(batch, length, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def phi(layer, head, x):
    """The papers' feature maps, as they are printed."""
    if layer.feature_map == "elu":
        return F.elu(x) + 1
    scaled = x / layer.key_dim**0.25
    w = layer.features.projection[head]
    return (scaled @ w.T - scaled.square().sum(-1, keepdim=True) / 2).exp() / len(w) ** 0.5


def written_down(layer, query, keys, values, mask, bias=None):
    """The quadratic form, row by row and head by head, over real events alone."""
    outputs, weights = [], []
    for row in range(len(query)):
        heads, head_weights = [], []
        for head in range(layer.num_heads):
            of_key, of_value = (slice(head * dim, (head + 1) * dim) for dim in (layer.key_dim, layer.value_dim))
            q, k, v = (
                F.linear(x[row], part.weight[columns], None if part.bias is None else part.bias[columns])
                for x, part, columns in (
                    (query, layer.query_projection, of_key),
                    (keys, layer.key_projection, of_key),
                    (values, layer.value_projection, of_value),
                )
            )
            kernel = phi(layer, head, q) @ phi(layer, head, k).T
            kernel = kernel * mask[row] if bias is None else kernel * bias[row, head].exp() * mask[row]
            kernel = kernel.tril() if layer.causal else kernel
            head_weights.append(kernel / kernel.sum(-1, keepdim=True))
            heads.append(head_weights[-1] @ v)
        outputs.append(layer.output_projection(torch.cat(heads, -1)))
        weights.append(torch.stack(head_weights))
    return torch.stack(outputs), torch.stack(weights)


@every_map
def test_equals_the_quadratic_form(feature_map):
    layer, (query, keys, values) = make(feature_map), inputs()
    output, weights = written_down(layer, query, keys, values, MASK)
    got = layer(query, keys, values, MASK)
    torch.testing.assert_close(got.output, output)
    torch.testing.assert_close(got.weights, weights)
    torch.testing.assert_close(layer(query, keys, values, MASK, need_weights=False).output, output)
    torch.testing.assert_close(layer(query[:, 4], keys, values, MASK, need_weights=False).output, output[:, 4])


@every_map
@pytest.mark.parametrize("length", [1, 7, 32, 33, 75])
def test_causal_equals_the_quadratic_form_of_the_past(feature_map, length):
    layer, x = make_causal(feature_map), sequence(length)
    output, weights = written_down(layer, x, x, x, torch.ones(BATCH, length))
    got = layer(x, x)
    torch.testing.assert_close(got.output, output)
    torch.testing.assert_close(got.weights, weights)
    torch.testing.assert_close(layer(x, x, need_weights=False).output, output)


@every_map
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_without_weights_the_gradients_are_those_of_the_quadratic_form(feature_map, causal, masked):
    length = 37
    layer = make_causal(feature_map) if causal else make(feature_map)
    leaves = [sequence(length).requires_grad_()] if causal else [x.requires_grad_() for x in inputs(length)]
    query, keys, values = leaves * 3 if causal else leaves
    mask = torch.arange(length) < (torch.tensor([37, 33, 5]) if masked else torch.full((3,), length))[:, None]
    heads = (HEADS,) if masked else ()  # a bias for each head, or one for all
    bias = torch.randn(BATCH, *heads, 1, length, dtype=torch.float64).requires_grad_()
    each = (bias if masked else bias.unsqueeze(1)).expand(-1, HEADS, -1, -1)
    asking = mask if causal else torch.ones(BATCH, QUERIES, dtype=torch.bool)
    slope = torch.randn(BATCH, asking.shape[1], layer.output_dim, dtype=torch.float64) * asking[..., None]
    results = [
        written_down(layer, query, keys, values, mask, each)[0],
        layer(query, keys, values, mask if masked else None, bias=bias).output,
        layer(query, keys, values, mask if masked else None, bias=bias, need_weights=False).output,
    ]
    leaves = [*leaves, bias, *layer.parameters()]
    expected, *others = ([x * asking[..., None], *torch.autograd.grad((x * slope).sum(), leaves)] for x in results)
    for found in others:
        for got, wish in zip(found, expected, strict=True):
            torch.testing.assert_close(got, wish)


@every_map
@pytest.mark.parametrize("split", range(LENGTH + 1))
def test_a_state_updated_by_new_events_is_that_of_the_whole(feature_map, split):
    layer, (query, keys, values) = make(feature_map), inputs()
    expected = layer(query, keys, values, MASK).output
    whole = layer.summarize(keys, values, MASK)
    old, new = (
        layer.summarize(keys[:, part], values[:, part], MASK[:, part]) for part in (slice(split), slice(split, None))
    )
    for merged in (old.merge(new), new.merge(old)):
        for got, wish in zip(merged, whole, strict=True):
            torch.testing.assert_close(got, wish)
        torch.testing.assert_close(layer.ask(query, merged), expected)
        torch.testing.assert_close(layer.ask(query[:, 3], merged), expected[:, 3])


@every_map
def test_a_state_fed_event_by_event_gives_every_position_of_the_causal_layer(feature_map):
    layer, x = make_causal(feature_map), sequence(40)
    expected = layer(x, x, need_weights=False).output
    state = layer.summarize(x[:, :0])
    for i in range(40):
        state = state.merge(layer.summarize(x[:, i : i + 1]))
        torch.testing.assert_close(layer.ask(x[:, i], state), expected[:, i])
    for mine, shape in zip(state, ((HEADS, -1, 5), (HEADS, -1), (HEADS,)), strict=True):
        assert mine.shape[1] == shape[0]
        assert mine.dim() == len(shape) + 1  # whatever the number of events


def test_gradients_go_through_states():
    layer, (query, keys, values) = make(), inputs()
    keys.requires_grad_()
    (expected,) = torch.autograd.grad(layer(query, keys, values).output.square().sum(), keys)
    states = [layer.summarize(keys[:, part], values[:, part]) for part in (slice(3), slice(3, None))]
    (got,) = torch.autograd.grad(layer.ask(query, states[0].merge(states[1])).square().sum(), keys)
    torch.testing.assert_close(got, expected)


def test_a_state_merges_histories_of_very_different_scales():
    """phi of the first is e^300 times that of the second, which is in nobody's range."""
    layer, (query, keys, values) = make(bias=False), inputs()
    layer.float()
    query, keys, values = query.float(), keys.float(), values.float()
    bias = torch.zeros(BATCH, 1, LENGTH)
    bias[..., :3], bias[..., 3:] = 150.0, -150.0
    old, new = (
        layer.summarize(keys[:, part], values[:, part], bias=bias[..., part]) for part in (slice(3), slice(3, None))
    )
    alone = layer(query, keys[:, :3], values[:, :3]).output
    for merged in (old.merge(new), new.merge(old)):
        torch.testing.assert_close(layer.ask(query, merged), alone)
    torch.testing.assert_close(layer.ask(query, new), layer(query, keys[:, 3:], values[:, 3:]).output)


def test_an_empty_state_is_neutral_and_answers_exactly_zero():
    layer, (query, keys, values) = make(), inputs()
    nothing = layer.summarize(keys[:, :0], values[:, :0])
    padding = layer.summarize(keys, values, torch.zeros_like(MASK))
    state = layer.summarize(keys, values, MASK)
    for empty in (nothing, padding, nothing.merge(padding)):
        assert (layer.ask(query, empty) == 0).all()
        for merged in (state.merge(empty), empty.merge(state)):
            assert all(map(torch.equal, merged, state))


@both_paths
def test_an_empty_row_is_zero_past_the_bias_of_the_output_projection(need_weights):
    layer, (query, keys, values) = make(), inputs()
    mask = MASK.clone()
    mask[1] = False
    output = layer(query, keys, values, mask, need_weights=need_weights).output
    assert (output[1] == 0).all()
    assert (output[[0, 2]] != 0).all()


@both_paths
def test_a_causal_layer_gives_zero_until_the_first_real_event(need_weights):
    """Padding on the left, too."""
    layer, x = make_causal(), sequence(45)
    mask = torch.arange(45) >= torch.tensor([0, 3, 35])[:, None]
    output = layer(x, x, mask=mask, need_weights=need_weights).output
    assert (output[~mask] == 0).all()
    torch.testing.assert_close(output[2, 35:], layer(x[2:, 35:], x[2:, 35:], need_weights=need_weights).output[0])


@every_map
@both_paths
@pytest.mark.parametrize("causal", [True, False])
def test_of_one_event_the_answer_is_its_value(feature_map, need_weights, causal):
    """Whatever the query: its only weight is 1, however small or large phi(q) . phi(k) is."""
    layer = make_causal(feature_map) if causal else make(feature_map)
    x = sequence(1)
    query, keys, values = (x, x, x) if causal else (inputs()[0], *inputs(1)[1:])
    for size in (1.0, 1e3):
        given = (x * size, x * size, x * size) if causal else (query * size, keys * size, values)
        output, weights = layer(*given, need_weights=need_weights)
        value = layer.output_projection(layer.value_projection(given[2]))
        torch.testing.assert_close(output, value.expand_as(output))
        assert not need_weights or (weights == 1).all()


@every_map
def test_the_bias_of_an_event_is_as_many_copies_of_it(feature_map):
    layer, (query, keys, values) = make(feature_map), inputs()
    twice = torch.tensor([0, 1, 1, 2, 3, 4, 5, 5, 5, 6])
    bias = torch.tensor([1, 2, 1, 1, 1, 3, 1], dtype=torch.float64).log()
    expected = layer(query, keys[:, twice], values[:, twice]).output
    for shape in ((LENGTH,), (1, LENGTH), (1, 1, LENGTH), (BATCH, 1, LENGTH), (BATCH, HEADS, 1, LENGTH)):
        for need_weights in (True, False):
            got = layer(query, keys, values, bias=bias.expand(shape), need_weights=need_weights)
            torch.testing.assert_close(got.output, expected)
    torch.testing.assert_close(layer.ask(query, layer.summarize(keys, values, bias=bias.expand(1, 1, -1))), expected)


@both_paths
@pytest.mark.parametrize("queries", [QUERIES, LENGTH])
def test_a_mask_or_a_bias_for_each_query_is_refused(need_weights, queries):
    layer, (query, keys, values) = make(), inputs()
    with pytest.raises(ConfigError, match=r"LinearAttention summarises .* mask must be \(batch, length\)"):
        layer(query, keys, values, MASK[:, None].expand(-1, queries, -1), need_weights=need_weights)
    for heads in ((), (HEADS,)):
        with pytest.raises(ConfigError, match=r"bias must be \(batch, 1, length\)"):
            layer(query, keys, values, bias=torch.zeros(BATCH, *heads, queries, LENGTH), need_weights=need_weights)
    with pytest.raises(ConfigError, match="mask must be"):
        layer.summarize(keys, values, MASK[:, None].expand(-1, queries, -1))


def test_a_causal_layer_takes_one_sequence():
    layer, x = make_causal(), sequence(LENGTH)
    with pytest.raises(ConfigError, match="a causal LinearAttention takes a sequence as query and keys"):
        layer(x[:, :3], x)


@torch.no_grad()
@pytest.mark.parametrize("causal", [True, False])
def test_favor_approaches_exact_attention_as_features_grow(causal):
    """Sixteen times as many features, an error about a quarter as large.

    Relative to what sets exact attention apart from a plain mean. Short vectors: with longer ones single draws decide.
    """
    torch.manual_seed(0)
    exact_layer = MultiHeadAttention(10, 10, num_heads=2, causal=causal).double()
    values, errors = torch.randn(2, 40, 10, dtype=torch.float64), []
    x = 0.3 * values
    exact, mean = (exact_layer(q, q, values).output for q in (x, torch.zeros_like(x)))
    for num_features in (16, 256, 4096):
        layer = LinearAttention(10, 10, num_heads=2, feature_map="favor", num_features=num_features, causal=causal)
        layer.double().load_state_dict(exact_layer.state_dict(), strict=False)
        rounds = []
        for _ in range(15):
            layer.redraw()
            rounds.append((layer(x, x, values).output - exact).square().mean())
        errors.append((sum(rounds) / 15 / (exact - mean).square().mean()).sqrt())
    assert errors[2] < 0.15
    for many, few in zip(errors[1:], errors, strict=False):
        assert 0.15 < many / few < 0.4


def test_elu_is_no_approximation_of_the_softmax():
    layer, exact_layer, x = LinearAttention(10, 10, num_heads=2), MultiHeadAttention(10, 10, num_heads=2), sequence(40)
    exact_layer.load_state_dict(layer.state_dict())
    exact = exact_layer.double()(x, x).output
    assert (layer.double()(x, x).output - exact).norm() > 0.1 * exact.norm()


def test_redraw_draws_other_features_from_the_global_generator():
    layer, (query, keys, values) = make("favor"), inputs()
    before = layer(query, keys, values).output
    torch.manual_seed(5)
    layer.redraw()
    after = layer(query, keys, values).output
    assert not torch.allclose(after, before)
    torch.testing.assert_close(layer(query, keys, values).output, after, atol=0, rtol=0)  # until the next one
    torch.manual_seed(5)
    layer.redraw()
    assert torch.equal(layer(query, keys, values).output, after)
    weights = {name: x.clone() for name, x in layer.named_parameters()}
    layer.redraw()
    assert all(torch.equal(x, weights[name]) for name, x in layer.named_parameters())
    assert [name for name, _ in layer.named_buffers()] == ["features.projection"]


def test_elu_has_nothing_to_redraw():
    layer, (query, keys, values) = make(), inputs()
    before = layer(query, keys, values).output
    layer.redraw()
    assert torch.equal(layer(query, keys, values).output, before)
    assert list(layer.buffers()) == []


def test_reset_parameters_draws_projections_and_features():
    layer = LinearAttention(300, 300, num_heads=1, key_dim=100, feature_map="favor", bias=True)
    before = {name: x.clone() for name, x in layer.state_dict().items()}
    layer.reset_parameters()
    assert all(torch.equal(x, before[name]) == name.endswith("bias") for name, x in layer.state_dict().items())
    assert (layer.key_projection.bias == 0).all()
    bound = (6 / 400) ** 0.5
    assert 0.99 * bound < layer.key_projection.weight.abs().max() <= bound


@pytest.mark.parametrize("key_dim", [1, 2, 3, 16])
def test_favor_has_d_ln_d_features_by_default(key_dim):
    layer = LinearAttention(10, 10, num_heads=2, key_dim=key_dim, feature_map="favor")
    assert layer.num_features == max(key_dim, math.ceil(key_dim * math.log(key_dim)))
    assert layer.features.projection.shape == (2, layer.num_features, key_dim)


def plain(feature_map, causal):
    """Projections that are the identity, one head of width 5."""
    layer = LinearAttention(5, 5, num_heads=1, feature_map=feature_map, causal=causal)
    for part in (layer.query_projection, layer.key_projection, layer.value_projection, layer.output_projection):
        nn.init.eye_(part.weight)
    return layer


@every_map
@both_paths
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("size", [300.0, -300.0, 3e3, 1e6])
def test_features_of_any_size_give_finite_results(feature_map, need_weights, causal, size):
    """phi(x) is e^-300 for elu, and e^(w . x - |x|^2 / 2) for FAVOR+: below what fp32 or even fp64 can hold."""
    torch.manual_seed(0)
    layer, x = plain(feature_map, causal), torch.randn(3, 40, 5)
    x = torch.where(torch.rand(3, 40, 1) < 0.5, x, x.abs() * size).requires_grad_()
    values = torch.rand(3, 40, 5) + 1
    output, weights = layer(x, x, values, need_weights=need_weights)
    assert ((output > 0.999) & (output < 2.001)).all()  # a mean of values
    if need_weights:
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, 1, 40))
    output.square().sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("causal", [True, False])
def test_where_elu_plus_one_underflows_the_answer_is_still_right(causal):
    """In fp32 phi(-300) is 0, and 0 / 0 is NaN; against the formula in the logarithms of fp64."""
    torch.manual_seed(0)
    layer, x = plain("elu", causal), -300 + torch.randn(3, 40, 5)
    values = torch.randn(3, 40, 5)
    pairs = (x.double().unsqueeze(2) + x.double().unsqueeze(1)).logsumexp(-1)
    pairs = pairs.masked_fill(torch.ones(40, 40).triu(1).bool(), -torch.inf) if causal else pairs
    expected = (pairs.softmax(-1) @ values.double()).float()
    for need_weights in (True, False):
        output = layer(x, x, values, need_weights=need_weights).output
        torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)
    assert (F.elu(x) + 1 == 0).all()  # the trap is there


@every_map
@both_paths
def test_padding_never_decides_the_scale(feature_map, need_weights):
    """The trap: a maximum over padding would push every real feature under what fp32 can hold."""
    torch.manual_seed(0)
    layer, query, keys = plain(feature_map, causal=False), torch.randn(3, 4, 5), torch.randn(3, 7, 5)
    keys[:, 3:] = 1e3
    real = (torch.arange(7) < 3).expand(3, 7)
    bias = torch.where(real, 0.0, 500.0).unsqueeze(1)
    expected = layer(query, keys[:, :3], need_weights=need_weights).output
    got = layer(query, keys, mask=real, bias=bias, need_weights=need_weights).output
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-6)


@every_map
@both_paths
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("garbage", [1e30, torch.inf, torch.nan])
def test_padding_may_hold_anything(feature_map, need_weights, causal, garbage):
    """Squares of 1e30 leave fp32, and 0 times infinity is NaN: what is masked must go before it is squared."""
    torch.manual_seed(0)
    layer, x = plain(feature_map, causal), torch.randn(3, 40, 5)
    real = (torch.arange(40) < 13).expand(3, 40)
    filled = torch.where(real[..., None], x, garbage)
    expected = layer(x, x, mask=real, need_weights=need_weights).output[:, :13]
    got = layer(x, filled, mask=real, need_weights=need_weights).output[:, :13]
    torch.testing.assert_close(got, expected, atol=0, rtol=0)
    if garbage == 1e30:
        got.square().sum().backward()
        assert all(p.grad.isfinite().all() for p in layer.parameters())


@every_map
@both_paths
def test_the_future_never_decides_the_scale(feature_map, need_weights):
    torch.manual_seed(0)
    layer, x = plain(feature_map, causal=True), torch.randn(3, 40, 5)
    changed, bias = x.clone(), torch.zeros(3, 1, 40)
    changed[:, 20:] *= 1e3
    bias[..., 20:] = 500.0
    before = layer(x, x, need_weights=need_weights).output[:, :20]
    after = layer(changed, changed, bias=bias, need_weights=need_weights).output[:, :20]
    assert torch.equal(after, before)


@every_map
@both_paths
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_low_precision_is_that_of_the_projections(feature_map, need_weights, causal, dtype):
    """The sums of a long history are fp32: bf16 would stop counting at 256."""
    torch.manual_seed(0)
    layer = LinearAttention(10, 10, num_heads=2, feature_map=feature_map, causal=causal).to(dtype)
    x = torch.randn(1, 300 if causal else 900, 10).to(dtype).requires_grad_()
    output, _ = layer(x, x, need_weights=need_weights)
    assert output.dtype == dtype
    output.float().square().sum().backward()
    assert x.grad.isfinite().all()
    state = layer.summarize(x)
    assert all(part.dtype == torch.float32 for part in state)
    expected = layer.double()(x.double(), x.double(), need_weights=need_weights).output
    torch.testing.assert_close(output.double(), expected, atol=0.02, rtol=0.02)


@both_paths
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_lowers_the_projections_only(need_weights, dtype):
    """In fp16 features below 6e-8 are 0, and so would be some denominators."""
    torch.manual_seed(0)
    for feature_map in ("elu", "favor"):
        layer, x = plain(feature_map, causal=False), torch.randn(3, 7, 5) - torch.eye(5)[torch.arange(7) % 5] * 30
        values = torch.rand(3, 7, 5) + 1
        with torch.autocast("cpu", dtype=dtype):
            output = layer(x, x, values, need_weights=need_weights).output
            asked = layer.ask(x, layer.summarize(x, values))
        torch.testing.assert_close(asked, output)
        assert ((output > 0.99) & (output < 2.01)).all()
        low = [part.to(dtype).float() for part in (x, x, values)]  # what the identity projections make of them
        expected = layer(*low, need_weights=need_weights).output
        torch.testing.assert_close(output.float(), expected, atol=0.01, rtol=0.01)


def test_can_be_written_down_and_built_again():
    layer, (query, keys, values) = make("favor", num_features=23), inputs()
    twin = build(describe(layer)).double()
    twin.load_state_dict(layer.state_dict())
    torch.testing.assert_close(twin(query, keys, values).output, layer(query, keys, values).output)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_heads": 0}, "num_heads must be an integer >= 1, got 0"),
        ({"num_heads": 4}, "num_heads must divide query_dim 6 .* got 4"),
        ({"key_dim": 0}, "key_dim must be an integer >= 1, got 0"),
        ({"value_dim": -1}, "value_dim must be an integer >= 1, got -1"),
        ({"feature_map": "relu"}, "feature_map must be one of elu, favor, got 'relu'"),
        ({"num_features": 7}, "num_features must be None for feature_map='elu', got 7"),
        ({"feature_map": "favor", "num_features": 0}, "num_features must be an integer >= 1, got 0"),
        ({"feature_map": "favor", "num_features": 2.5}, "num_features must be an integer >= 1, got 2.5"),
    ],
)
def test_wrong_arguments_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        LinearAttention(6, 5, **{"num_heads": 2, **wrong})
