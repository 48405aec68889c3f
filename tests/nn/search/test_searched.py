import pytest
import torch
from torch import nn

from recattn.errors import ConfigError
from recattn.nn import (
    ActivationUnitScorer,
    AttentionPooling,
    CategorySearch,
    DotScorer,
    DotSearch,
    Found,
    HSTUAttention,
    Identity,
    MultiHeadAttention,
    RecencyBias,
    ScaledDotScorer,
    SearchedAttention,
    SimHashSearch,
    Softmax,
    TopK,
    event_ages,
)

DIM, VALUE_DIM, LENGTH = 6, 13, 23
ATTENTIONS = {
    "pooling": lambda: AttentionPooling(ScaledDotScorer(), Softmax()),
    "heads": lambda: MultiHeadAttention(DIM, DIM, num_heads=2, value_source_dim=VALUE_DIM, bias=True),
    "gates": lambda: AttentionPooling(
        ActivationUnitScorer(DIM, DIM, hidden_dims=(5,), activation="prelu"), Identity(scale="sqrt_length")
    ),
    "hstu": lambda: HSTUAttention(DIM, DIM, num_heads=2, max_length=50, value_source_dim=VALUE_DIM),
    "top": lambda: AttentionPooling(DotScorer(), TopK(2)),
}
SEARCHES = {
    "dot": DotSearch,
    "hash": lambda k: SimHashSearch(DIM, num_bits=64, k=k),
}
every_attention = pytest.mark.parametrize("attention", ATTENTIONS)
every_search = pytest.mark.parametrize("search", SEARCHES)


def make(search, attention, k=5):
    torch.manual_seed(0)
    return SearchedAttention(SEARCHES[search](k), ATTENTIONS[attention]()).double()


def inputs(queries=3):
    generator = torch.Generator().manual_seed(1)
    query, keys, values = (
        torch.randn(3, n, dim, dtype=torch.float64, generator=generator)
        for n, dim in ((queries, DIM), (LENGTH, DIM), (LENGTH, VALUE_DIM))
    )
    return query, keys, values, torch.arange(LENGTH) < torch.tensor([[LENGTH], [3], [0]])


def biases():
    generator = torch.Generator().manual_seed(2)
    bias = torch.randn(3, 3, LENGTH, dtype=torch.float64, generator=generator)
    return [None, bias, bias[:1, :1], bias[:, None] * torch.tensor([1.0, 0.5]).view(2, 1, 1)]


@every_attention
@every_search
@pytest.mark.parametrize("bias", range(4))
def test_it_is_the_attention_under_a_mask_of_what_was_found_with_its_gradients(search, attention, bias):
    layer, (query, keys, values, mask), bias = make(search, attention), inputs(), biases()[bias]
    if bias is not None and bias.dim() == 4 and attention not in ("heads", "hstu"):
        pytest.skip("it has no heads")
    found = layer.find(query, keys, mask, bias=bias)
    assert found.spread(LENGTH).sum(-1).tolist() == [[5] * 3, [3] * 3, [0] * 3]
    slope = torch.randn(layer(query, keys, values, mask).output.shape, dtype=torch.float64)
    both = []
    for run in (layer, layer.reference):
        leaves = [x.clone().requires_grad_() for x in (query, keys, values)]
        extra = None if bias is None else bias.clone().requires_grad_()
        output, weights = run(*leaves, mask, bias=extra)
        loss = (output * slope).sum() + weights.square().sum()
        leaves += [] if extra is None else [extra]
        both.append([output, weights, *torch.autograd.grad(loss, [*leaves, *layer.parameters()], allow_unused=True)])
    for got, expected in zip(*both, strict=True):
        torch.testing.assert_close(got, expected)
    plain = layer.attention(query, keys, values, found.spread(LENGTH), bias=bias)
    torch.testing.assert_close(both[0][:2], [plain.output, plain.weights])


@every_attention
@every_search
@pytest.mark.parametrize("k", [LENGTH, LENGTH + 8])
def test_where_the_search_finds_everything_it_is_the_attention(search, attention, k):
    layer, given = make(search, attention, k), inputs()
    for need_weights in (True, False):
        torch.testing.assert_close(
            layer(*given, need_weights=need_weights), layer.attention(*given, need_weights=need_weights)
        )


def test_gradients_flow_to_what_was_found_and_nowhere_else():
    layer, (query, keys, values, mask) = make("dot", "pooling"), inputs(queries=1)
    keys.requires_grad_()
    values.requires_grad_()
    seen = layer.find(query, keys, mask).spread(LENGTH).squeeze(1)
    layer(query, keys, values, mask).output.square().sum().backward()
    for leaf in (keys, values):
        assert torch.equal((leaf.grad != 0).any(-1), seen)


@pytest.mark.parametrize("single", [False, True])
def test_categories_search_and_vectors_attend(single):
    layer = SearchedAttention(CategorySearch(2), AttentionPooling(DotScorer(), Softmax())).double()
    query, keys, values, mask = inputs()
    categories, asked = torch.arange(LENGTH).expand(3, LENGTH) % 4 + 1, torch.tensor([[1, 3, 9]]).expand(3, 3)
    events = [[[16, 20], [18, 22], []], [[0], [2], []], [[], [], []]]
    if single:
        query, asked = query[:, 1], asked[:, 1]
    output, weights = layer(query, keys, values, mask, search_query=asked, search_keys=categories)
    for row in range(3):
        for i in (1,) if single else range(3):
            chosen = events[row][i]
            q = query[row] if single else query[row, i]
            expected = torch.zeros(LENGTH, dtype=torch.float64)
            expected[chosen] = (keys[row, chosen] @ q).softmax(0)
            torch.testing.assert_close(weights[row, 0 if single else i], expected)
            torch.testing.assert_close(output[row] if single else output[row, i], expected @ values[row])


@every_attention
@pytest.mark.parametrize("bias", range(4))
def test_one_search_may_serve_all_queries(attention, bias):
    layer, (query, keys, values, mask), bias = make("hash", attention), inputs(), biases()[bias]
    if bias is not None and bias.dim() == 4 and attention not in ("heads", "hstu"):
        pytest.skip("it has no heads")
    options = {"bias": bias, "search_query": query[:, :1]}
    got = layer(query, keys, values, mask, **options)
    torch.testing.assert_close(got, layer.reference(query, keys, values, mask, **options))
    assert (got.weights != 0).any(-2).sum(-1).max() <= 5
    unweighted = layer(query, keys, values, mask, **options, need_weights=False)
    torch.testing.assert_close(unweighted.output, got.output)


def test_codes_of_the_history_are_kept_and_asked():
    layer, (query, keys, values, mask) = make("hash", "pooling"), inputs()
    kept = layer.search.codes(keys)
    assert kept.numel() * kept.element_size() == 3 * LENGTH * 8
    got = layer(query, keys, values, mask, search_keys=kept)
    torch.testing.assert_close(got, layer(query, keys, values, mask))


def test_each_head_of_a_recency_bias_counts_and_their_mean_searches():
    bias = RecencyBias(num_heads=2)(event_ages(inputs()[3])).double()
    layer, given = make("dot", "heads"), inputs()
    torch.testing.assert_close(layer(*given, bias=bias), layer.reference(*given, bias=bias))
    found = layer.find(*given[:2], given[3], bias=bias)
    assert torch.equal(found.places, layer.search(*given[:2], given[3], bias=bias.mean(1)).places)


class Unordered(nn.Module):
    """A search that fills up with event 0, as the indices of some libraries do."""

    def forward(self, query, keys, mask=None, *, bias=None):
        found = torch.tensor([4, 0, 2, 0, 0]).expand(len(query), query.shape[1], 5)
        return Found(found, torch.tensor([True, False, True, True, False]).expand_as(found))


@every_attention
def test_a_search_of_ones_own_may_leave_gaps_and_be_unordered(attention):
    layer, (query, keys, values, _) = make("dot", attention), inputs()
    layer.search = Unordered()
    torch.testing.assert_close(layer(query, keys, values), layer.reference(query, keys, values))
    if attention == "pooling":
        assert (layer(query, keys, values).weights != 0).any(1)[0].nonzero().flatten().tolist() == [0, 2, 4]


def test_half_precision_stays_finite_and_near():
    layer, given = make("dot", "pooling"), inputs()
    half = layer.half()(*(x.half() for x in given[:3]), given[3])
    assert half.output.dtype == torch.float16
    torch.testing.assert_close(half.output.double(), layer.double()(*given).output, atol=0.01, rtol=0.01)


def test_wrong_arguments_are_named():
    with pytest.raises(ConfigError, match="attention must not be causal"):
        SearchedAttention(DotSearch(3), MultiHeadAttention(6, 6, num_heads=2, causal=True))
    query, keys, values, _ = inputs()
    with pytest.raises(ConfigError, match="search_query must hold 1 or 3 queries, as query does, got 2"):
        make("dot", "pooling")(query, keys, values, search_query=query[:, :2])


def test_a_projected_search_ranks_by_the_mean_score_of_the_heads_and_their_bias():
    """The events found are those with the largest mean over heads of what the attention takes the softmax of."""
    torch.manual_seed(0)
    attention = MultiHeadAttention(DIM, DIM, num_heads=2, value_source_dim=VALUE_DIM)
    layer = SearchedAttention(DotSearch(4, DotScorer()), attention, projected=True).double()
    query, keys, values, mask = inputs()
    bias = torch.randn(3, 2, 3, LENGTH, dtype=torch.float64)
    exact = layer.attention(query, keys, values, mask, bias=bias).weights  # (batch, heads, queries, length)
    scores = exact.log().mean(1).masked_fill(~mask[:, None], -torch.inf)
    wanted = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, scores.topk(4).indices, value=True) & mask[:, None]
    found = layer.find(query, keys, mask, bias=bias).spread(LENGTH)
    assert torch.equal(found, wanted)
    plain = SearchedAttention(DotSearch(4), layer.attention).find(query, keys, mask, bias=bias).spread(LENGTH)
    assert not torch.equal(plain, wanted)


def test_projected_is_for_multi_head_attention():
    with pytest.raises(ConfigError, match="projected"):
        SearchedAttention(DotSearch(4), AttentionPooling(ScaledDotScorer(), Softmax()), projected=True)
