import pytest
import torch
from torch import nn

import recattn.nn as rnn
from recattn.errors import ConfigError
from recattn.models import build, describe

DIM, SOURCE_DIM, HEADS, QUERIES, LENGTH = 22, 13, 2, 5, 7
MASK = torch.arange(QUERIES) < torch.tensor([5, 2, 3])[:, None]
SOURCE_MASK = torch.arange(LENGTH) < torch.tensor([7, 2, 0])[:, None]


def decoder(num_layers=2, source_dim=SOURCE_DIM, bias=False, **more):
    return rnn.Decoder(
        DIM,
        self_attention=rnn.MultiHeadAttention(DIM, DIM, num_heads=HEADS, causal=True, bias=bias),
        cross_attention=rnn.MultiHeadAttention(DIM, source_dim, num_heads=HEADS, bias=bias),
        num_layers=num_layers,
        **more,
    )


def inputs(source_dim=SOURCE_DIM):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(3, QUERIES, DIM, generator=generator), torch.randn(3, LENGTH, source_dim, generator=generator)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_block_is_torchs_with_copied_weights(norm):
    ours = decoder(1, DIM, bias=True, hidden_dim=17, norm=norm)
    theirs = nn.TransformerDecoderLayer(
        DIM, HEADS, dim_feedforward=17, dropout=0.0, batch_first=True, norm_first=norm == "pre"
    )
    block = ours.blocks[0]
    for attention, twin in ((block.self_attention, theirs.self_attn), (block.cross_attention, theirs.multihead_attn)):
        parts = (attention.query_projection, attention.key_projection, attention.value_projection)
        with torch.no_grad():
            for part in (*parts, attention.output_projection):
                nn.init.normal_(part.bias)
            twin.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
            twin.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
            twin.out_proj.load_state_dict(attention.output_projection.state_dict())
    theirs.linear1.load_state_dict(block.feed_forward.inward.state_dict())
    theirs.linear2.load_state_dict(block.feed_forward.outward.state_dict())
    target, source = inputs(DIM)
    hidden = torch.ones(QUERIES, QUERIES, dtype=torch.bool).triu(1)
    expected = theirs(target[:2], source[:2], tgt_mask=hidden, memory_key_padding_mask=~SOURCE_MASK[:2])
    expected = expected if ours.last_norm is None else ours.last_norm(expected)
    got = ours(target, source, MASK, SOURCE_MASK).output[:2]
    torch.testing.assert_close(got[MASK[:2]], expected[MASK[:2]], atol=1e-5, rtol=1e-5)


def test_padding_of_target_and_source_changes_nothing():
    stack = decoder().double()
    target, source = (x.double() for x in inputs())
    plain = stack(target, source, MASK, SOURCE_MASK).output
    more = torch.cat([target + ~MASK[..., None] * 97.0, torch.full((3, 2, DIM), 31.0)], 1)
    more_source = torch.cat([source - ~SOURCE_MASK[..., None] * 53.0, torch.full((3, 4, SOURCE_DIM), 31.0)], 1)
    padded = stack(
        more,
        more_source,
        torch.cat([MASK, torch.zeros(3, 2, dtype=torch.bool)], 1),
        torch.cat([SOURCE_MASK, torch.zeros(3, 4, dtype=torch.bool)], 1),
    ).output
    torch.testing.assert_close(padded[:, :QUERIES], plain)
    assert (padded[:, QUERIES:] == 0).all()


def test_without_a_source_the_target_knows_itself_alone():
    stack = decoder()
    target, source = inputs()
    nothing = torch.zeros_like(SOURCE_MASK)
    one, other = stack(target, source, MASK, nothing).output, stack(target, 3 - source, MASK, nothing).output
    torch.testing.assert_close(one, other)
    assert one.abs().sum() > 0


def test_later_targets_change_nothing_before_them():
    stack = decoder().double()
    target, source = (x.double() for x in inputs())
    before = stack(target, source, source_mask=SOURCE_MASK).output
    changed = target.clone()
    changed[:, 3:] = changed[:, 3:].flip(-1)  # a shift would be lost in the norm
    after = stack(changed, source, source_mask=SOURCE_MASK).output
    torch.testing.assert_close(after[:, :3], before[:, :3])
    assert not torch.allclose(after[:, 3:], before[:, 3:])


def test_weights_on_request_and_bias_on_the_source():
    stack = decoder().eval()
    target, source = inputs()
    bias = torch.zeros(3, QUERIES, LENGTH)
    bias[:, :, 1] = 40.0
    output, on_itself, to_source = stack(target, source, MASK, SOURCE_MASK, bias=bias, need_weights=True)
    assert [w.shape for w in on_itself] == [(3, HEADS, QUERIES, QUERIES)] * 2
    assert [w.shape for w in to_source] == [(3, HEADS, QUERIES, LENGTH)] * 2
    assert (to_source[1][:2, ..., 1] > 0.99).all()
    assert (to_source[1][2] == 0).all()
    fast = stack(target, source, MASK, SOURCE_MASK, bias=bias)
    assert fast.self_weights == fast.cross_weights == ()
    torch.testing.assert_close(output, fast.output, atol=1e-5, rtol=1e-5)


def test_no_parameter_is_left_out_and_gradients_are_finite():
    stack = decoder(gated=True, feed_forward="swiglu")
    stack(*inputs(), MASK, SOURCE_MASK).output.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in stack.parameters())


def test_can_be_written_down_and_built_again():
    stack = decoder(norm="post", feed_forward="none")
    twin = build(describe(stack))
    twin.load_state_dict(stack.state_dict())
    torch.testing.assert_close(twin(*inputs()).output, stack(*inputs()).output)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_layers": 0}, "num_layers must be an integer >= 1, got 0"),
        ({"feed_forward": "tanh"}, "feed_forward must be one of"),
        ({"self_attention": rnn.MultiHeadAttention(22, 13, num_heads=2)}, "self_attention must take and give width 22"),
        (
            {"cross_attention": rnn.MultiHeadAttention(20, 13, num_heads=2)},
            "cross_attention must take and give width 22, got one with query_dim 20",
        ),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    given = {
        "self_attention": rnn.MultiHeadAttention(DIM, DIM, num_heads=2),
        "cross_attention": rnn.MultiHeadAttention(DIM, SOURCE_DIM, num_heads=2),
        "num_layers": 1,
    }
    with pytest.raises(ConfigError, match=message):
        rnn.Decoder(DIM, **{**given, **arguments})
