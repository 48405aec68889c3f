import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from recattn.errors import ConfigError
from recattn.nn import (
    AttentionPooling,
    ClusterPooling,
    DotScorer,
    MultiHeadAttention,
    ScaledDotScorer,
    Sigmoid,
    Softmax,
)

ATTENTIONS = {
    "pooling": lambda: AttentionPooling(ScaledDotScorer(), Softmax()),
    "heads": lambda: MultiHeadAttention(5, 5, num_heads=5, value_source_dim=13, bias=True),
}
every_attention = pytest.mark.parametrize("attention", ATTENTIONS)


def make(attention="pooling", **more):
    torch.manual_seed(0)
    return ClusterPooling(ATTENTIONS[attention](), **{"num_clusters": 3, **more}).double()


def inputs(length=11):
    generator = torch.Generator().manual_seed(1)
    query, keys, values = (
        torch.randn(3, n, dim, dtype=torch.float64, generator=generator)
        for n, dim in ((7, 5), (length, 5), (length, 13))
    )
    return query, keys, values, torch.arange(length) < torch.tensor([[length], [2], [0]])


def lloyd(points, num_clusters, num_steps):
    """K-means written down for one row of real points: the cluster of each."""
    n = len(points)
    centres = np.stack([points[int((c + 0.5) * n / num_clusters)] for c in range(num_clusters)])
    for step in range(num_steps + 1):
        nearest = ((points[:, None] - centres) ** 2).sum(-1).argmin(-1)
        for c in range(num_clusters if step < num_steps else 0):
            if (nearest == c).any():
                centres[c] = points[nearest == c].mean(0)
    return nearest


@every_attention
@pytest.mark.parametrize("given", [True, False])
def test_equals_the_formula(attention, given):
    """Softmax over the means with + ln(size), each cluster's weight shared out among its members."""
    layer, (query, keys, values, mask) = make(attention), inputs()
    clusters = torch.randint(3, (3, 11)) if given else layer.find_clusters(keys, mask)
    output, weights = layer(query, keys, values, mask, **({"clusters": clusters} if given else {}))
    for row in range(2):
        there = [c for c in range(3) if (mask[row] & (clusters[row] == c)).any()]
        members = [mask[row] & (clusters[row] == c) for c in there]
        means = [torch.stack([x[row, some].mean(0) for some in members])[None] for x in (keys, values)]
        sizes = torch.stack([some.sum() for some in members])
        expected = layer.attention(query[row : row + 1], *means, bias=sizes.double().log().view(1, 1, -1))
        torch.testing.assert_close(output[row], expected.output[0])
        for i, some in enumerate(members):
            each = expected.weights[0, ..., i : i + 1] / sizes[i]
            torch.testing.assert_close(weights[row][..., some], each.expand(*each.shape[:-1], int(sizes[i])))
    assert (output[2] == layer.attention(query, keys, values, mask).output[2]).all()


@every_attention
def test_with_a_cluster_for_each_event_it_is_exact_attention_with_its_gradients(attention):
    query, keys, values, mask = inputs()
    layer = make(attention, num_clusters=11)
    slope = torch.randn(layer(query, keys, values).output.shape, dtype=torch.float64)
    both = []
    for run in (layer, layer.attention):
        leaves = [x.clone().requires_grad_() for x in (query, keys, values)]
        output, weights = run(*leaves, mask)
        both.append([output, weights, *torch.autograd.grad((output * slope).sum() + weights.square().sum(), leaves)])
    torch.testing.assert_close(*both)


@every_attention
def test_where_members_share_a_key_it_is_exact_attention(attention):
    """The identity behind + ln(size): a cluster weighs as much as its members would."""
    query, keys, values, mask = inputs()
    kinds = torch.tensor([0, 1, 0, 0, 2, 2, 0, 1, 0, 0, 2]).expand(3, 11)
    keys = keys.gather(1, kinds[..., None].expand(-1, -1, 5))
    layer = make(attention)
    expected = layer.attention(query, keys, values, mask)
    torch.testing.assert_close(layer(query, keys, values, mask), expected)
    torch.testing.assert_close(layer(query, keys, values, mask, clusters=kinds), expected)


def test_without_the_logarithm_of_the_size_it_would_not_be():
    """The oracle above sees a missing ln(size)."""
    query, keys, values, _ = inputs()
    kinds = torch.tensor([0] * 9 + [1, 2]).expand(3, 11)
    keys = keys.gather(1, kinds[..., None].expand(-1, -1, 5))
    layer = make()
    summary = layer.summarize(keys, values, clusters=kinds)
    plain = layer.attention(query, summary.keys, summary.values).output
    assert not torch.allclose(plain, layer.attention(query, keys, values).output, atol=0.01)


@pytest.mark.parametrize("num_steps", [0, 1, 5])
@pytest.mark.parametrize("num_clusters", [1, 3, 13])
def test_clusters_are_those_of_lloyds_algorithm(num_steps, num_clusters):
    layer = make(num_clusters=num_clusters, num_steps=num_steps)
    _, keys, _, mask = inputs(length=29)
    clusters = layer.find_clusters(keys, mask)
    for row in range(2):
        points = keys[row, mask[row]].numpy()
        assert clusters[row, mask[row]].tolist() == lloyd(points, num_clusters, num_steps).tolist()


def test_the_centre_of_an_empty_cluster_stays_where_it_was():
    """Two centres start at the event 1. The first moves off towards 0.2; the second stays, and is now nearest to it."""
    keys = torch.tensor([[[5.0], [0.2], [1.0], [1.0]]])
    assert ClusterPooling(num_clusters=3, num_steps=0).find_clusters(keys).tolist() == [[0, 1, 1, 1]]
    assert ClusterPooling(num_clusters=3, num_steps=1).find_clusters(keys).tolist() == [[0, 1, 2, 2]]


def test_clusters_are_those_of_scikit_learn_from_the_same_start():
    keys = torch.randn(1, 200, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    start = keys[0, [25, 75, 125, 175]].numpy()
    clusters = make(num_clusters=4, num_steps=300).find_clusters(keys)[0]
    fitted = KMeans(4, init=start, n_init=1, max_iter=300, tol=0, algorithm="lloyd").fit(keys[0].numpy())
    assert clusters.tolist() == fitted.labels_.tolist()


def test_padding_and_what_it_holds_changes_no_cluster():
    layer, (_, keys, _, mask) = make(), inputs()
    expected = layer.find_clusters(keys[:1, :2])
    longer = torch.cat([keys[:1, :2], torch.full((1, 9, 5), torch.nan, dtype=torch.float64)], 1)
    assert torch.equal(layer.find_clusters(longer, mask[1:2])[:, :2], expected)


def test_empty_clusters_are_attended_to_by_nobody():
    query, keys, values, _ = inputs()
    few, many = make(num_clusters=2), make(num_clusters=50)
    clusters = torch.arange(11).expand(3, 11) % 2
    torch.testing.assert_close(
        many(query, keys, values, clusters=clusters * 37), few(query, keys, values, clusters=clusters)
    )
    assert many.summarize(keys, clusters=clusters * 37).sizes[0].nonzero().flatten().tolist() == [0, 37]


def test_a_summary_is_asked_without_the_history():
    layer, (query, keys, values, mask) = make(), inputs()
    expected = layer(query, keys, values, mask).output
    summary = layer.summarize(keys, values, mask)
    assert [x.shape for x in summary] == [(3, 3, 5), (3, 3, 13), (3, 3)]
    assert summary.sizes.sum(-1).tolist() == [11, 2, 0]
    torch.testing.assert_close(layer.ask(query, summary), expected)
    torch.testing.assert_close(layer.ask(query[:, 3], summary), expected[:, 3])


def test_large_clusters_of_half_precision_events():
    """A sum of 100,000 such events, and their number, are beyond what fp16 holds."""
    layer = make(num_clusters=1).half()
    keys = torch.full((1, 10**5, 5), 3.0, dtype=torch.float16)
    output, weights = layer(keys[:, :1], keys)
    assert (output == 3).all()
    assert output.dtype == weights.dtype == torch.float16
    torch.testing.assert_close(weights.float().sum(-1), torch.ones(1, 1), atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_clusters": 0}, "num_clusters must be an integer >= 1, got 0"),
        ({"num_steps": -1}, "num_steps must be an integer >= 0, got -1"),
        ({"attention": AttentionPooling(DotScorer(), Sigmoid())}, "attention must have weights of kind probability"),
        ({"attention": MultiHeadAttention(6, 6, num_heads=2, causal=True)}, "attention must not be causal"),
    ],
)
def test_wrong_arguments_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        ClusterPooling(**{"num_clusters": 3, **wrong})


def test_wrong_inputs_are_named():
    layer, (query, keys, values, mask) = make(), inputs()
    clusters = torch.zeros(3, 11, dtype=torch.int64)
    for wrong, message in (
        (clusters.float(), "clusters must be integers .* got torch.float32"),
        (clusters[:, :3], r"clusters must be integers of shape \(3, 11\)"),
        (clusters + 3, r"clusters must be in 0..2, got 0 to 3"),
        (clusters - 1, r"clusters must be in 0..2, got -1 to 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            layer(query, keys, values, mask, clusters=wrong)
    clusters[1:, 2:] = -7  # at padding anything goes
    torch.testing.assert_close(
        layer(query, keys, values, mask, clusters=clusters), layer(query, keys, values, mask, clusters=clusters * 0)
    )
    with pytest.raises(ConfigError, match="bias must be None"):
        layer(query, keys, bias=torch.zeros(3, 7, 11))
    with pytest.raises(ConfigError, match="mask must be"):
        layer.summarize(keys, values, mask[:, None].expand(3, 7, 11))


def test_clusters_are_those_of_fp32_under_autocast():
    torch.manual_seed(0)
    layer, keys = ClusterPooling(MultiHeadAttention(16, 16, num_heads=2), num_clusters=8), torch.randn(2, 200, 16) + 5
    clusters = layer.find_clusters(keys)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.find_clusters(keys), clusters)
