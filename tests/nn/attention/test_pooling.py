import pytest
import torch

from recattn.nn import (
    ActivationUnitScorer,
    AttentionPooling,
    BilinearScorer,
    DotScorer,
    HardRetrieval,
    Identity,
    Softmax,
)


def test_planted_key_is_retrieved():
    """A look-up table: asking with key j returns value j."""
    keys, values = torch.eye(7)[None] * 30, torch.arange(7.0)[None, :, None]
    for weighting in (Softmax(), HardRetrieval()):
        output = AttentionPooling(DotScorer(), weighting)(torch.eye(7)[None], keys, values).output
        torch.testing.assert_close(output[0, :, 0], torch.arange(7.0), atol=1e-4, rtol=0)


def test_din_without_softmax_keeps_the_intensity_of_interest():
    """Twice the same history is twice the interest under a gate, and the same under a softmax."""
    scorer = ActivationUnitScorer(5, 5, hidden_dims=(7,)).eval()
    query, keys = torch.randn(2, 5), torch.randn(2, 3, 5)
    gate, softmax = AttentionPooling(scorer, Identity()), AttentionPooling(scorer, Softmax())
    twice = torch.cat([keys, keys], 1)
    torch.testing.assert_close(gate(query, twice).output, 2 * gate(query, keys).output)
    torch.testing.assert_close(softmax(query, twice).output, softmax(query, keys).output)


def test_values_are_the_keys_unless_given():
    query, keys = torch.randn(2, 3, 5), torch.randn(2, 7, 5)
    layer = AttentionPooling(DotScorer(), Softmax())
    assert torch.equal(layer(query, keys).output, layer(query, keys, keys).output)


def test_bias_is_added_to_the_scores():
    query, keys, bias = torch.randn(2, 3, 5), torch.randn(2, 7, 5), torch.randn(2, 3, 7)
    weights = AttentionPooling(DotScorer(), Softmax())(query, keys, bias=bias).weights
    torch.testing.assert_close(weights, (query @ keys.mT + bias).softmax(-1))


def test_score_and_retrieve_are_the_steps_of_forward():
    query, keys, values = torch.randn(2, 3, 5), torch.randn(2, 7, 5), torch.randn(2, 7, 11)
    mask, bias = torch.arange(7) < torch.tensor([[7], [3]]), torch.randn(2, 3, 7)
    layer = AttentionPooling(BilinearScorer(5, 5), Softmax())
    whole = layer(query, keys, values, mask, bias=bias)
    steps = layer.retrieve(layer.score(query, keys, mask), values, mask, bias=bias)
    assert torch.equal(whole.output, steps.output)
    assert torch.equal(whole.weights, steps.weights)
    assert layer.retrieve(layer.score(query, keys), values, need_weights=False).weights is None


def test_retrieve_takes_further_leading_axes():
    scores, values = torch.randn(13, 2, 3, 7), torch.randn(2, 7, 11)
    mask = torch.arange(7) < torch.tensor([[7], [3]])
    layer = AttentionPooling(DotScorer(), Softmax())
    output, weights = layer.retrieve(scores, values, mask)
    assert output.shape == (13, 2, 3, 11)
    one = layer.retrieve(scores[4], values, mask)
    torch.testing.assert_close(output[4], one.output)
    torch.testing.assert_close(weights[4], one.weights)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_gives_finite_output_and_gradients_with_an_empty_row(dtype):
    layer = AttentionPooling(ActivationUnitScorer(5, 5, hidden_dims=(7,)), Softmax())
    query, keys = torch.randn(2, 3, 5), torch.randn(2, 7, 5)
    with torch.autocast("cpu", dtype=dtype):
        output, _ = layer(query, keys, mask=torch.arange(7) < torch.tensor([[4], [0]]))
    output.float().square().sum().backward()
    assert (output[1] == 0).all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_weights_kind_is_that_of_the_weighting():
    assert AttentionPooling(DotScorer(), Softmax()).weights_kind == "probability"
    assert AttentionPooling(DotScorer(), Identity()).weights_kind == "gate"


def test_a_bias_of_each_event_broadcasts_on_both_paths():
    query, keys, bias = torch.randn(2, 3, 4), torch.randn(2, 5, 4), torch.randn(5)
    layer = AttentionPooling(DotScorer(), Softmax())
    readable = layer(query, keys, bias=bias).output
    torch.testing.assert_close(layer(query, keys, bias=bias, need_weights=False).output, readable)
