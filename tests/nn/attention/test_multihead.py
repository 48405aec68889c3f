import pytest
import torch
from torch import nn
from torch.nn import functional as F

from recattn.nn import MultiHeadAttention
from recattn.nn.attention.multihead import fast_attention
from recattn.nn.weightings.softmax import masked_softmax


def torch_twin(ours, kdim, vdim):
    """nn.MultiheadAttention with our weights."""
    twin = nn.MultiheadAttention(ours.query_dim, ours.num_heads, kdim=kdim, vdim=vdim, batch_first=True, bias=ours.bias)
    parts = (ours.query_projection, ours.key_projection, ours.value_projection)
    with torch.no_grad():
        for name, part in zip(("q_proj_weight", "k_proj_weight", "v_proj_weight"), parts, strict=True):
            getattr(twin, name).copy_(part.weight)
        twin.out_proj.weight.copy_(ours.output_projection.weight)
        if ours.bias:
            twin.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
            twin.out_proj.bias.copy_(ours.output_projection.bias)
    return twin


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_equals_torch_with_copied_weights(bias, need_weights):
    ours = MultiHeadAttention(22, 13, num_heads=2, value_source_dim=17, bias=bias)
    if bias:
        for part in (ours.query_projection, ours.key_projection, ours.value_projection, ours.output_projection):
            nn.init.normal_(part.bias)
    query, keys, values = torch.randn(3, 5, 22), torch.randn(3, 7, 13), torch.randn(3, 7, 17)
    mask = torch.arange(7) < torch.tensor([[7], [2], [4]])
    theirs = torch_twin(ours, 13, 17)
    expected, weights = theirs(query, keys, values, key_padding_mask=~mask, average_attn_weights=False)
    got = ours(query, keys, values, mask, need_weights=need_weights)
    torch.testing.assert_close(got.output, expected, atol=1e-5, rtol=1e-5)
    assert not need_weights or torch.allclose(got.weights, weights, atol=1e-6)


def test_torch_gives_nan_gradients_on_an_empty_row_where_we_do_not():
    """The bug of the peer that this layer is there to avoid: if torch mends it, say so in the notes."""
    ours = MultiHeadAttention(22, 13, num_heads=2, value_source_dim=13)
    query, keys, mask = torch.randn(2, 5, 22), torch.randn(2, 7, 13), torch.arange(7) < torch.tensor([[4], [0]])
    ours(query, keys, mask=mask).output[0].sum().backward()
    assert all(p.grad.isfinite().all() for p in ours.parameters())
    output, _ = torch_twin(ours, 13, 13)(query, keys, keys, key_padding_mask=~mask, need_weights=True)
    assert output[1].isnan().all()


@pytest.mark.parametrize(("key_dim", "value_dim"), [(11, 11), (11, 5), (3, 13)])
@pytest.mark.parametrize("with_mask", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_fast_attention_equals_the_formula_forward_and_backward(key_dim, value_dim, with_mask, with_bias):
    q, k = (torch.randn(2, 3, n, key_dim, dtype=torch.float64, requires_grad=True) for n in (5, 7))
    v = torch.randn(2, 3, 7, value_dim, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, 3, 5, 7, dtype=torch.float64, requires_grad=True) if with_bias else None
    mask = torch.rand(2, 1, 5, 7) < 0.5 if with_mask else None
    if with_mask:
        mask[0, :, 2] = False
    scores = q @ k.mT / key_dim**0.5
    expected = masked_softmax(scores if bias is None else scores + bias, mask) @ v
    got = fast_attention(q, k, v, mask, bias)
    torch.testing.assert_close(got, expected)
    leaves = [x for x in (q, k, v, bias) if x is not None]
    slope = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * slope).sum(), leaves)
    torch.testing.assert_close(torch.autograd.grad((got * slope).sum(), leaves), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_different_widths_reach_the_fused_kernel(dtype):
    """With unequal widths torch would refuse the flash kernel."""
    q, k, v = (
        torch.randn(2, 3, 5, 8, dtype=dtype),
        torch.randn(2, 3, 7, 8, dtype=dtype),
        torch.randn(2, 3, 7, 16, dtype=dtype),
    )
    mask = torch.ones(2, 1, 1, 7, dtype=torch.bool)
    with nn.attention.sdpa_kernel(nn.attention.SDPBackend.FLASH_ATTENTION):
        fast_attention(q, k, v, mask)
        with pytest.raises(RuntimeError, match="No available kernel"), pytest.warns(UserWarning, match="[Ff]lash"):
            F.scaled_dot_product_attention(q, k, v)


def test_defaults_follow_from_query_and_source():
    layer = MultiHeadAttention(22, 13, num_heads=2)
    assert (layer.key_dim, layer.value_dim, layer.value_source_dim, layer.output_dim) == (11, 11, 13, 22)
    odd = MultiHeadAttention(7, 13, num_heads=2, key_dim=3, value_dim=5)
    assert odd.output_projection.weight.shape == (7, 10)


def test_an_empty_row_is_zero_past_the_bias_of_the_output_projection():
    layer = MultiHeadAttention(6, 5, num_heads=2, bias=True)
    nn.init.ones_(layer.output_projection.bias)
    query, keys = torch.randn(2, 3, 6), torch.randn(2, 7, 5)
    own = torch.ones(2, 3, 7, dtype=torch.bool)
    own[1, 2] = False
    for need_weights in (True, False):
        output = layer(query, keys, mask=own, need_weights=need_weights).output
        assert (output[1, 2] == 0).all()
        assert (output[own.any(-1)] != 0).all()


def test_bias_for_each_head():
    layer = MultiHeadAttention(6, 5, num_heads=2)
    query, keys, bias = torch.randn(3, 5, 6), torch.randn(3, 7, 5), torch.zeros(1, 2, 1, 7)
    bias[0, 0, 0, 2] = bias[0, 1, 0, 4] = 50.0
    weights = layer(query, keys, bias=bias).weights
    assert (weights[:, 0].argmax(-1) == 2).all()
    assert (weights[:, 1].argmax(-1) == 4).all()
    output = layer(query, keys, bias=bias).output
    torch.testing.assert_close(layer(query, keys, bias=bias, need_weights=False).output, output, atol=1e-5, rtol=1e-4)


def test_dropout_drops_whole_keys_of_a_head_and_renormalises():
    """Values are one-hot, so that a head's output is the weights it used; the weights returned are before dropout."""
    layer = MultiHeadAttention(6, 11, num_heads=3, value_dim=11, key_dim=2, output_dim=33, dropout=0.4)
    with torch.no_grad():
        layer.value_projection.weight.copy_(torch.eye(11).repeat(3, 1))
        layer.output_projection.weight.copy_(torch.eye(33))
    query, keys = torch.randn(2, 5, 6), torch.eye(11).expand(2, 11, 11)
    for need_weights in (True, False):
        output, weights = layer(query, keys, need_weights=need_weights)
        used = output.unflatten(-1, (3, 11)).transpose(1, 2)
        dropped = used == 0
        assert 0.2 < dropped.float().mean() < 0.6
        assert (dropped == dropped[:, :, :1]).all()  # the same keys for all queries
        assert (dropped[:, 0] != dropped[:, 1]).any()  # each head its own
        torch.testing.assert_close(used.sum(-1), torch.ones(2, 3, 5))
        if need_weights:
            assert (weights > 0).all()
            left = weights * ~dropped
            torch.testing.assert_close(used, left / left.sum(-1, keepdim=True))
    layer.eval()
    torch.testing.assert_close(layer(query, keys).output, layer(query, keys).output, atol=0, rtol=0)


def test_dropout_that_takes_every_key_gives_zeros_and_finite_gradients():
    layer = MultiHeadAttention(6, 5, num_heads=2, dropout=0.99, bias=True)
    nn.init.ones_(layer.output_projection.bias)
    for need_weights in (True, False):
        layer.zero_grad()
        output = layer(torch.randn(7, 3, 6), torch.randn(7, 2, 5), need_weights=need_weights).output
        output.square().sum().backward()
        assert (output == 0).all(-1).any()
        assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_a_per_query_mask_makes_causal_self_attention():
    layer, x = MultiHeadAttention(6, 6, num_heads=2), torch.randn(3, 7, 6)
    causal = torch.ones(1, 7, 7, dtype=torch.bool).tril()
    output = layer(x, x, mask=causal, need_weights=False).output
    changed = torch.cat([x[:, :4], torch.randn(3, 3, 6)], 1)
    torch.testing.assert_close(layer(changed, changed, mask=causal, need_weights=False).output[:, :4], output[:, :4])


def test_a_bias_of_each_event_broadcasts_on_both_paths():
    layer = MultiHeadAttention(4, 4, num_heads=2)
    query, keys, bias = torch.randn(2, 3, 4), torch.randn(2, 5, 4), torch.randn(5)
    readable = layer(query, keys, bias=bias).output
    torch.testing.assert_close(layer(query, keys, bias=bias, need_weights=False).output, readable)


def test_no_key_at_all_gives_zero_past_the_bias():
    layer = MultiHeadAttention(4, 4, num_heads=2, bias=True)
    torch.nn.init.ones_(layer.output_projection.bias)
    for need_weights in (True, False):
        output = layer(torch.randn(2, 3, 4), torch.randn(2, 0, 4), need_weights=need_weights).output
        assert torch.equal(output, torch.zeros(2, 3, 4))
