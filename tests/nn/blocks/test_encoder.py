import pytest
import torch
from torch import nn

import recattn.nn as rnn
from recattn.errors import ConfigError
from recattn.models import build, describe

DIM, HEADS, LENGTH = 22, 2, 7
LENGTHS = torch.tensor([7, 2, 4, 0])
MASK = torch.arange(LENGTH) < LENGTHS[:, None]


def attention(**more):
    return rnn.MultiHeadAttention(DIM, DIM, num_heads=HEADS, **more)


def encoder(layer=None, **more):
    return rnn.Encoder(DIM, attention=attention(causal=True) if layer is None else layer, num_layers=2, **more)


def inputs(batch=4):
    return torch.randn(batch, LENGTH, DIM, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("causal", [True, False])
def test_a_block_is_torchs_with_copied_weights(norm, activation, causal):
    ours = rnn.Encoder(
        DIM,
        attention=attention(bias=True, causal=causal),
        num_layers=1,
        hidden_dim=13,
        feed_forward=activation,
        norm=norm,
    )
    theirs = nn.TransformerEncoderLayer(
        DIM, HEADS, dim_feedforward=13, dropout=0.0, activation=activation, batch_first=True, norm_first=norm == "pre"
    )
    block = ours.blocks[0]
    copy_attention(theirs.self_attn, block.attention)
    copy_feed_forward(theirs, block.feed_forward)
    x = inputs()
    hidden = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1) if causal else None
    expected = theirs(x, src_mask=hidden, src_key_padding_mask=None if causal else ~MASK)
    expected = expected if ours.last_norm is None else ours.last_norm(expected)
    got = ours(x, MASK)
    torch.testing.assert_close(got.output[:3][MASK[:3]], expected[:3][MASK[:3]], atol=1e-5, rtol=1e-5)


def copy_attention(theirs, ours):
    with torch.no_grad():
        parts = (ours.query_projection, ours.key_projection, ours.value_projection, ours.output_projection)
        for part in parts:
            nn.init.normal_(part.bias)
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts[:3]]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts[:3]]))
        theirs.out_proj.load_state_dict(ours.output_projection.state_dict())


def copy_feed_forward(theirs, ours):
    theirs.linear1.load_state_dict(ours.inward.state_dict())
    theirs.linear2.load_state_dict(ours.outward.state_dict())


def test_ligr_gates_each_sublayer_by_its_input():
    ours = rnn.Encoder(DIM, attention=attention(), num_layers=1, feed_forward="swiglu", gated=True)
    block, x = ours.blocks[0], inputs()
    norm, gate = block.around_attention.layer_norm, block.around_attention.gate
    h = x + torch.sigmoid(x @ gate.weight.T) * block.attention(norm(x), norm(x)).output
    norm, gate = block.around_feed_forward.layer_norm, block.around_feed_forward.gate
    h = h + torch.sigmoid(h @ gate.weight.T) * block.feed_forward(norm(h))
    torch.testing.assert_close(ours(x).output, ours.last_norm(h))


SELF_ATTENTIONS = {
    "multi-head": attention,
    "causal": lambda: attention(causal=True),
    "rotary": lambda: attention(key_dim=4, causal=True, rotary=rnn.RotaryPosition(4)),
    "pooling": lambda: rnn.AttentionPooling(rnn.ScaledDotScorer(), rnn.Softmax()),
    "hstu": lambda: rnn.HSTUAttention(DIM, num_heads=HEADS, max_length=9, causal=True, concat_ua=True),
    "reformer": lambda: rnn.ReformerAttention(DIM, num_heads=HEADS, num_buckets=4, chunk_size=2),
    "causal reformer": lambda: rnn.ReformerAttention(DIM, num_heads=HEADS, num_buckets=4, chunk_size=2, causal=True),
    "linformer": lambda: rnn.LinformerAttention(DIM, DIM, num_heads=HEADS, max_length=LENGTH, num_slots=3, bias=True),
    "linear": lambda: rnn.LinearAttention(DIM, DIM, num_heads=HEADS, bias=True),
    "causal linear": lambda: rnn.LinearAttention(DIM, DIM, num_heads=HEADS, feature_map="favor", causal=True),
}
SUMMED_UP = ("linformer", "linear", "causal linear")
"""A history is summed up once, for all positions: none can have a mask or a bias of its own."""


@pytest.mark.parametrize("name", SELF_ATTENTIONS)
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_padding_changes_nothing_and_gives_nothing(name, norm):
    stack = encoder(SELF_ATTENTIONS[name](), norm=norm).double().eval()
    x = inputs().double()
    more = torch.cat([x + ~MASK[..., None] * 97.0, torch.full((4, 6, DIM), 31.0)], 1)
    wide = torch.cat([MASK, torch.zeros(4, 6, dtype=torch.bool)], 1)
    plain, padded = stack(x, MASK).output, stack(more, wide).output
    torch.testing.assert_close(padded[:, :LENGTH], plain)
    assert (padded[~wide] == 0).all()
    assert plain[:3].abs().sum() > 0


@pytest.mark.parametrize("name", SELF_ATTENTIONS)
def test_weights_of_every_block_on_request(name):
    stack, x = encoder(SELF_ATTENTIONS[name]()).eval(), inputs()
    assert stack(x, MASK).weights == ()
    output, weights = stack(x, MASK, need_weights=True)
    assert len(weights) == 2
    assert weights[0].shape[-2:] == (LENGTH, LENGTH)
    torch.testing.assert_close(output, stack(x, MASK).output, atol=1e-5, rtol=1e-5)


def test_a_causal_encoder_does_not_see_the_future_and_another_does():
    for causal in (True, False):
        stack, x = encoder(attention(causal=causal)).double(), inputs().double()
        assert stack.causal is causal
        changed = x.clone()
        changed[:, 5:] = changed[:, 5:].flip(-1)  # a shift would be lost in the norm
        same = torch.allclose(stack(x).output[:, :5], stack(changed).output[:, :5])
        assert same is causal


@pytest.mark.parametrize("name", [name for name in SELF_ATTENTIONS if name.startswith("causal ")])
@pytest.mark.parametrize("need_weights", [True, False])
def test_no_causal_layer_sees_the_future_through_the_blocks(name, need_weights):
    stack, x = encoder(SELF_ATTENTIONS[name]()).double().eval(), inputs().double()
    assert stack.causal
    changed = x.clone()
    changed[:, 5:] = changed[:, 5:].flip(-1)
    before, after = (stack(some, need_weights=need_weights).output for some in (x, changed))
    torch.testing.assert_close(after[:, :5], before[:, :5])
    assert not torch.allclose(after[:, 5:], before[:, 5:])


@pytest.mark.parametrize("name", SUMMED_UP)
def test_what_a_summed_up_history_cannot_do_is_refused_through_the_stack(name):
    stack, x = encoder(SELF_ATTENTIONS[name]()), inputs()
    own = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()[None]
    with pytest.raises(ConfigError, match="mask must be"):
        stack(x, own)
    with pytest.raises(ConfigError, match="bias must be"):
        stack(x, MASK, bias=torch.zeros(4, 1, LENGTH, LENGTH))


def test_each_block_has_weights_of_its_own():
    stack = encoder()
    first, second = (block.attention.query_projection.weight for block in stack.blocks)
    assert first is not second
    assert not torch.equal(first, second)


def test_no_parameter_is_left_out():
    stack = encoder(gated=True)
    stack(inputs(), MASK).output.square().sum().backward()
    assert all(p.grad is not None for p in stack.parameters())


def test_biases_go_to_all_blocks_or_one_to_each():
    stack, x = encoder(attention()).double().eval(), inputs().double()
    one, other = torch.randn(2, 4, HEADS, LENGTH, LENGTH, dtype=torch.float64)
    torch.testing.assert_close(stack(x, MASK, bias=one).output, stack(x, MASK, bias=[one, one]).output)
    assert not torch.allclose(stack(x, MASK, bias=one).output, stack(x, MASK, bias=[one, other]).output)
    with pytest.raises(ConfigError, match="one for each of the 2 blocks, got 3"):
        stack(x, MASK, bias=[one, one, one])


def test_empty_histories_have_finite_gradients():
    for norm in ("pre", "post"):
        stack = encoder(norm=norm)
        output = stack(inputs(), torch.zeros_like(MASK)).output
        assert (output == 0).all()
        output = stack(inputs(), MASK).output
        output.square().sum().backward()
        assert all(p.grad.isfinite().all() for p in stack.parameters() if p.grad is not None)


def test_can_be_written_down_and_built_again():
    stack = encoder(
        attention(key_dim=4, causal=True, rotary=rnn.RotaryPosition(4)), gated=True, norm="post", hidden_dim=5
    )
    twin = build(describe(stack))
    twin.load_state_dict(stack.state_dict())
    torch.testing.assert_close(twin(inputs(), MASK).output, stack(inputs(), MASK).output)


def test_reset_parameters_repeats_with_the_seed():
    stack = encoder(gated=True)
    for _ in range(2):
        torch.manual_seed(5)
        stack.reset_parameters()
        state = {name: x.clone() for name, x in stack.state_dict().items()}
        stack = encoder(gated=True)
        torch.manual_seed(5)
        stack.reset_parameters()
        assert all(torch.equal(state[name], x) for name, x in stack.state_dict().items())


def test_exports_and_compiles():
    stack = encoder(attention(key_dim=4, causal=True, rotary=rnn.RotaryPosition(4))).eval()
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", min=2)
    row = {0: batch, 1: length}
    program = torch.export.export(stack, (inputs(), MASK), dynamic_shapes=(row, row)).module()
    torch.testing.assert_close(
        program(inputs()[:2, :5], MASK[:2, :5]).output, stack(inputs()[:2, :5], MASK[:2, :5]).output
    )
    torch.compiler.reset()
    compiled = torch.compile(stack, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(inputs(), MASK).output, stack(inputs(), MASK).output)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim must be an integer >= 1, got 0"),
        ({"num_layers": 0}, "num_layers must be an integer >= 1, got 0"),
        ({"feed_forward": "tanh"}, "feed_forward must be one of relu, gelu, silu, swiglu, none, got 'tanh'"),
        ({"norm": "both"}, "norm must be one of pre, post, got 'both'"),
        ({"dropout": -0.1}, "dropout must be in"),
        ({"dim": 24}, "attention must take and give width 24, got one with query_dim 22"),
        ({"attention": rnn.MultiHeadAttention(22, 13, num_heads=2)}, "got one with source_dim 13"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        rnn.Encoder(**{"dim": DIM, "attention": attention(), "num_layers": 1, **arguments})


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize(
    "layer",
    [
        attention(causal=True),
        attention(),
        rnn.MultiHeadAttention(DIM, DIM, num_heads=HEADS, key_dim=6, causal=True, rotary=rnn.RotaryPosition(6)),
        rnn.HSTUAttention(DIM, num_heads=HEADS, max_length=LENGTH, causal=True),
        rnn.LinearAttention(DIM, DIM, num_heads=HEADS, causal=True),
        rnn.ReformerAttention(DIM, num_heads=HEADS, num_buckets=2, chunk_size=3, causal=True),
    ],
    ids=["causal", "both-ways", "rotary", "hstu", "linear", "reformer"],
)
def test_the_last_places_alone_are_those_of_the_whole(layer, norm, gated):
    model = encoder(layer, norm=norm, gated=gated).double().eval()
    events = inputs().double()
    expected = model(events, MASK).output[torch.arange(4), (LENGTHS - 1).clamp(min=0)] * (LENGTHS > 0)[:, None]
    torch.testing.assert_close(model.last(events, LENGTHS), expected)


def test_the_last_places_get_their_own_biases():
    model, events = encoder().double().eval(), inputs().double()
    generator = torch.Generator().manual_seed(4)
    each = torch.randn(4, HEADS, LENGTH, LENGTH, generator=generator, dtype=torch.float64)
    shared = torch.randn(1, HEADS, LENGTH, LENGTH, generator=generator, dtype=torch.float64)
    for bias in ([each, shared], [shared, each[:, 0]], each, each[:, :, :1]):
        whole = model(events, MASK, bias=bias).output[torch.arange(3), LENGTHS[:3] - 1]
        torch.testing.assert_close(model.last(events, LENGTHS, bias=bias)[:3], whole)


def test_a_layer_without_heads_takes_the_bias_of_one():
    layer = rnn.AttentionPooling(rnn.ScaledDotScorer(), rnn.Sparsemax())
    encoder = rnn.Encoder(4, attention=layer, num_layers=2).eval()
    inputs, bias, lengths = torch.randn(2, 5, 4), torch.randn(2, 1, 5, 5), torch.tensor([5, 3])
    mask = torch.arange(5) < lengths[:, None]
    output = encoder(inputs, mask, bias=bias).output
    assert output.shape == (2, 5, 4)
    torch.testing.assert_close(encoder(inputs, mask, bias=bias.squeeze(1)).output, output)
    last = encoder.last(inputs, lengths, bias=bias)
    torch.testing.assert_close(last, output[torch.arange(2), lengths - 1])
