import pytest
import torch

from recattn.errors import ConfigError
from recattn.nn import (
    AttentionPooling,
    BilinearScorer,
    ConstantScorer,
    DotScorer,
    HSTUAttention,
    Identity,
    MultiHeadAttention,
    Softmax,
    SummaryPooling,
)

ATTENTIONS = {
    "default": lambda: None,
    "heads": lambda: MultiHeadAttention(7, 5, num_heads=7, value_source_dim=13, bias=True),
    "gates": lambda: AttentionPooling(BilinearScorer(7, 5), Identity()),
    "hstu": lambda: HSTUAttention(7, 5, num_heads=7, max_length=17, value_source_dim=13),
}
every_attention = pytest.mark.parametrize("attention", ATTENTIONS)
every_recent = pytest.mark.parametrize("num_recent", [0, 3, 40])


def make(attention="default", num_tokens=4, num_recent=3):
    torch.manual_seed(0)
    return SummaryPooling(5, ATTENTIONS[attention](), num_tokens=num_tokens, num_recent=num_recent).double()


def inputs(attention="default"):
    generator = torch.Generator().manual_seed(1)
    shapes = ((3, 5 if attention == "default" else 7), (11, 5), (11, 13))
    tensors = [torch.randn(4, n, dim, dtype=torch.float64, generator=generator) for n, dim in shapes]
    return *tensors, torch.arange(11) < torch.tensor([[11], [5], [2], [0]])


@every_attention
@every_recent
def test_equals_the_formula(attention, num_recent):
    """Tokens read the older events, the attention reads the tokens and the recent events; row by row."""
    layer, (query, keys, values, mask) = make(attention, num_recent=num_recent), inputs(attention)
    output, weights = layer(query, keys, values, mask)
    for row in range(3):
        n = int(mask[row].sum())
        old = max(n - num_recent, 0)
        reading = (layer.seeds @ keys[row, :old].T / 5**0.5).softmax(-1)
        tokens = [reading @ x[row, :old] if old else x[row, :0] for x in (keys, values)]
        read = [torch.cat([t, x[row, old:n]])[None] for t, x in zip(tokens, (keys, values), strict=True)]
        expected = layer.attention(query[row : row + 1], *read)
        torch.testing.assert_close(output[row], expected.output[0])
        to_tokens, to_recent = expected.weights[0].split([len(tokens[0]), n - old], -1)
        spread = torch.cat([to_tokens @ reading, to_recent], -1) if old else to_recent
        torch.testing.assert_close(weights[row][..., :n], spread)
        assert (weights[row][..., n:] == 0).all()
    assert (output[3] == layer.attention(query, keys, values, mask).output[3]).all()


@every_attention
@every_recent
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("one_source", [True, False])
def test_without_weights_the_gradients_are_the_same(attention, num_recent, masked, one_source):
    if one_source and attention in ("heads", "hstu"):
        pytest.skip("made for other values")
    layer, (query, keys, values, mask) = make(attention, num_recent=num_recent), inputs(attention)
    leaves = [query.requires_grad_(), keys.requires_grad_()] + ([] if one_source else [values.requires_grad_()])
    arguments = (keys, None if one_source else values, mask if masked else None)
    slope = torch.randn(layer(query, *arguments).output.shape, dtype=torch.float64)
    both = []
    for need_weights in (True, False):
        output = layer(query, *arguments, need_weights=need_weights).output
        gradients = torch.autograd.grad((output * slope).sum(), [*leaves, *layer.parameters()], allow_unused=True)
        both.append([output, *(torch.zeros(()) if g is None else g for g in gradients)])
    for expected, got in zip(*both, strict=True):
        torch.testing.assert_close(got, expected, check_dtype=False)
    if num_recent == 3:
        assert (both[0][len(leaves) + 1] != 0).any(), "the seeds learn"


@every_attention
def test_a_history_of_recent_events_alone_is_attended_to_exactly(attention):
    layer, given = make(attention, num_recent=11), inputs(attention)
    torch.testing.assert_close(layer(*given), layer.attention(*given))


def test_seeds_that_single_out_each_event_give_exact_attention():
    layer, (query, _, values, _) = make(num_tokens=5, num_recent=0), inputs()
    keys = torch.eye(5, dtype=torch.float64).expand(4, 5, 5)
    layer.seeds.data.copy_(torch.eye(5) * 1000)
    torch.testing.assert_close(layer(query, keys, values[:, :5]), layer.attention(query, keys, values[:, :5]))


def test_the_tokens_do_not_depend_on_the_query_and_no_event_counts_twice():
    layer, (query, keys, values, mask) = make(), inputs()
    summary = layer.summarize(keys, values, mask)
    assert [x.shape for x in summary] == [(4, 7, 5), (4, 7, 13), (4, 7)]
    assert summary.mask.sum(-1).tolist() == [7, 7, 2, 0]
    expected = layer(query, keys, values, mask).output
    torch.testing.assert_close(layer.ask(query, summary), expected)
    torch.testing.assert_close(layer.ask(query[:, 2], summary), expected[:, 2])
    changed = keys.clone()
    changed[0, -1] += 5
    after = layer.summarize(changed, values, mask)
    torch.testing.assert_close(after.keys[0, :6], summary.keys[0, :6])
    assert (after.keys[0, 6] != summary.keys[0, 6]).all()


def test_the_order_of_older_events_does_not_count():
    layer, (query, keys, values, _) = make(), inputs()
    order = torch.tensor([5, 2, 7, 0, 1, 6, 3, 4, 8, 9, 10])
    torch.testing.assert_close(layer(query, keys[:, order], values[:, order]).output, layer(query, keys, values).output)


def test_weights_are_of_the_attentions_kind():
    assert make().weights_kind == "probability"
    assert make("gates").weights_kind == "gate"


def test_seeds_start_as_spread_as_the_keys():
    seeds = SummaryPooling(64, num_tokens=400).seeds
    assert abs(seeds.std().item() - 1) < 0.02
    assert abs(seeds.mean().item()) < 0.02


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dim": 0}, "dim must be an integer >= 1, got 0"),
        ({"num_tokens": 0}, "num_tokens must be an integer >= 1, got 0"),
        ({"num_recent": -1}, "num_recent must be an integer >= 0, got -1"),
        ({"attention": MultiHeadAttention(6, 6, num_heads=2, causal=True)}, "attention must not be causal"),
    ],
)
def test_wrong_arguments_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        SummaryPooling(**{"dim": 5, "attention": AttentionPooling(DotScorer(), Softmax()), "num_tokens": 3, **wrong})


def test_what_it_cannot_do_is_named():
    layer, (query, keys, values, mask) = make(), inputs()
    for need_weights in (True, False):
        with pytest.raises(ConfigError, match="bias must be None"):
            layer(query, keys, bias=torch.zeros(4, 3, 11), need_weights=need_weights)
        with pytest.raises(ConfigError, match="mask must be"):
            layer(query, keys, values, mask[:, None].expand(4, 3, 11), need_weights=need_weights)


def test_weights_come_under_autocast_and_of_no_rows():
    layer = SummaryPooling(8, AttentionPooling(ConstantScorer(), Softmax()), num_tokens=2, num_recent=3)
    query, keys = torch.randn(2, 4, 8), torch.randn(2, 7, 8)
    expected = layer(query, keys).weights
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(query, keys).weights.float(), expected, atol=0.02, rtol=0.02)
    assert layer(query[:0], keys[:0]).weights.shape == (0, 4, 7)
