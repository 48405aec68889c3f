import pytest
import torch

import recattn.nn as rnn
from recattn.errors import ConfigError
from recattn.models import build, describe
from recattn.nn.dense.dropout import dropout as dropout_layer

DIM, HEADS, LENGTH = 22, 2, 7
LENGTHS = torch.tensor([7, 2, 4, 0])
MASK = torch.arange(LENGTH) < LENGTHS[:, None]


def attention(**more):
    return rnn.MultiHeadAttention(DIM, DIM, num_heads=HEADS, **more)


def reformer(**more):
    return rnn.ReformerAttention(DIM, num_heads=HEADS, num_buckets=4, chunk_size=2, **more)


ATTENTIONS = {
    "multi-head": attention,
    "rotary": lambda: attention(key_dim=4, causal=True, rotary=rnn.RotaryPosition(4)),
    "reformer": reformer,
    "causal reformer": lambda: reformer(causal=True),
    "top k": lambda: rnn.AttentionPooling(rnn.ScaledDotScorer(), rnn.TopK(2)),
    "linear": lambda: rnn.LinearAttention(DIM, DIM, num_heads=HEADS, causal=True),
}


def encoder(layer=None, seed=0, **more):
    torch.manual_seed(seed)
    made = rnn.ReversibleEncoder(DIM, attention=attention() if layer is None else layer, **{"num_layers": 3, **more})
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return made


def inputs(dtype=torch.float32):
    return torch.randn(4, LENGTH, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).to(dtype)


def keeping_everything(made, x, mask, biases=(None, None, None)):
    """The same layers by the formula of Kitaev et al. 2020, section 3, and torch's own backward pass."""
    x1 = x2 = x
    for block, bias in zip(made.blocks, biases, strict=False):
        asked = block.attention_norm(x2)
        more = {}
        if getattr(block.attention, "rotary", None) is not None:
            more = dict.fromkeys(("query_positions", "key_positions"), torch.arange(x.shape[1])[None])
        output = block.attention(asked, asked, mask=mask, bias=bias, need_weights=False, **more).output
        x1 = x1 + dropout_layer(output, made.dropout, made.training)
        output = block.feed_forward(block.feed_forward_norm(x1))
        x2 = x2 + dropout_layer(output, made.dropout, made.training)
    return made.last_norm((x1 + x2) / 2) * mask[..., None]


def gradients(made, run, x, *more):
    x = x.clone().requires_grad_()
    torch.manual_seed(11)
    output = run(x)
    after = torch.rand(1)
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(5)).to(output.dtype)
    wanted = [x, *(p for p in made.parameters() if p.requires_grad), *more]
    found = torch.autograd.grad((output * direction).sum(), wanted, allow_unused=True)
    return [output, after, *(torch.zeros(()) if g is None else g for g in found)]


def assert_same(left, right, **more):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other, **more)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_gradients_are_those_of_the_same_layers_that_keep_everything(name, dropout):
    """With dropout: the second run of a block draws what the first one drew, at every depth."""
    made, x = encoder(ATTENTIONS[name](), dropout=dropout).double(), inputs(torch.float64)
    got = gradients(made, lambda x: made(x, MASK).output, x)
    expected = gradients(made, lambda x: keeping_everything(made, x, MASK), x)
    assert_same(got, expected, atol=1e-9, rtol=1e-7)
    assert all(g.abs().sum() > 0 for g in got[2:])


def test_in_training_dropout_is_drawn_and_in_evaluation_it_is_not():
    made, x = encoder(dropout=0.5), inputs()
    assert not torch.equal(made(x, MASK).output, made(x, MASK).output)
    made.eval()
    assert torch.equal(made(x, MASK).output, made(x, MASK).output)


def test_the_second_run_leaves_the_random_state_alone():
    made = encoder(dropout=0.3)
    loss = made(inputs(), MASK).output.square().sum()
    torch.manual_seed(17)
    expected = torch.rand(3)
    torch.manual_seed(17)
    loss.backward()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("autocast", [False, True], ids=["", "autocast"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("num_layers", [1, 12])
def test_going_back_recovers_bit_for_bit_what_every_layer_saw_and_gave(dtype, num_layers, autocast):
    """Rounding in float32 would move events to other buckets and other choices in the second run."""
    made = encoder(reformer(), num_layers=num_layers, dropout=0.2).to(dtype)
    seen = {}

    def note(name, given, got):
        output = got.output if isinstance(got, rnn.Attended) else got
        seen.setdefault(name, []).append((given[0].detach(), output.detach()))

    for name, module in made.named_modules():
        if name.endswith(("attention", "feed_forward")):
            module.register_forward_hook(lambda _, given, got, name=name: note(name, given, got))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = made((5 * inputs()).to(dtype), MASK).output.float().square().sum()
    loss.backward()
    assert len(seen) == 2 * num_layers
    for first, second in seen.values():
        assert not autocast or first[1].dtype == torch.bfloat16
        assert all(
            torch.equal(one, other) and one.dtype == other.dtype for one, other in zip(first, second, strict=True)
        )


def kept_activations(made, **more):
    parameters = {p.data_ptr() for p in made.parameters()}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        made(inputs().requires_grad_(), MASK, **more)
    return sum(t.numel() for t in kept if t.data_ptr() not in parameters)


def test_kept_activations_do_not_grow_with_the_depth():
    sizes = [kept_activations(encoder(num_layers=n, dropout=0.1)) for n in (1, 3, 7)]
    assert sizes[0] == sizes[1] == sizes[2]
    assert sizes[0] < 8 * inputs().numel()
    plain = [kept_activations(encoder(num_layers=n), need_weights=True) for n in (1, 3)]
    assert plain[1] > 2 * plain[0]


def test_weights_of_every_block_on_request_and_the_same_output():
    made, x = encoder().eval(), inputs()
    assert made(x, MASK).weights == ()
    output, weights = made(x, MASK, need_weights=True)
    assert [w.shape for w in weights] == [(4, HEADS, LENGTH, LENGTH)] * 3
    torch.testing.assert_close(output, made(x, MASK).output, atol=1e-5, rtol=1e-5)
    weights[0].sum().backward()
    with torch.no_grad():
        torch.testing.assert_close(made(x, MASK).output, output)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_padding_changes_nothing_and_gives_nothing(name):
    made, x = encoder(ATTENTIONS[name]()).eval(), inputs()
    more = torch.cat([x.masked_fill(~MASK[..., None], 97.0), torch.full((4, 6, DIM), 31.0)], 1)
    wide = torch.cat([MASK, torch.zeros(4, 6, dtype=torch.bool)], 1)
    plain, padded = made(x, MASK).output, made(more, wide).output
    torch.testing.assert_close(padded[:, :LENGTH], plain, atol=1e-5, rtol=1e-5)
    assert (padded[~wide] == 0).all()
    assert plain[:3].abs().sum() > 0


def test_biases_go_to_all_blocks_or_one_to_each_and_have_gradients():
    made, x = encoder().double(), inputs(torch.float64)
    biases = torch.randn(3, 4, HEADS, LENGTH, LENGTH, dtype=torch.float64).requires_grad_()
    for chosen in ([biases[0]] * 3, list(biases.unbind()), [biases[1].detach(), biases[0], biases[1]]):
        got = gradients(made, lambda x, b=chosen: made(x, MASK, bias=b).output, x, biases)
        expected = gradients(made, lambda x, b=chosen: keeping_everything(made, x, MASK, b), x, biases)
        assert_same(got, expected, atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(made(x, MASK, bias=biases[0]).output, made(x, MASK, bias=[biases[0]] * 3).output)
    with pytest.raises(ConfigError, match="one for each of the 3 blocks, got 2"):
        made(x, MASK, bias=[biases[0], biases[1]])


def test_a_frozen_part_has_no_gradient_and_the_others_keep_theirs():
    made, x = encoder().double(), inputs(torch.float64)
    made.blocks[1].feed_forward.requires_grad_(requires_grad=False)
    made.blocks[2].attention.query_projection.requires_grad_(requires_grad=False)
    got = gradients(made, lambda x: made(x, MASK).output, x)
    assert_same(got, gradients(made, lambda x: keeping_everything(made, x, MASK), x), atol=1e-9, rtol=1e-7)
    made(x, MASK).output.sum().backward()
    assert made.blocks[1].feed_forward.inward.weight.grad is None
    assert made.blocks[1].attention.query_projection.weight.grad is not None


def test_inputs_without_gradients_train_the_layers():
    made = encoder(dropout=0.1)
    made(inputs(), MASK).output.square().sum().backward()
    assert all(p.grad is not None for p in made.parameters())


def test_each_position_may_have_a_mask_of_its_own():
    made, x = encoder().double(), inputs(torch.float64)
    own = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()[None]
    causal = encoder(attention(causal=True)).double()
    causal.load_state_dict(made.state_dict())
    torch.testing.assert_close(made(x, own).output, causal(x).output)
    assert causal.causal
    assert not made.causal


def test_the_future_is_not_seen():
    made, x = encoder(reformer(causal=True)), inputs()
    changed = torch.cat([x[:, :5], x[:, 5:].flip(-1)], 1)
    torch.testing.assert_close(made(changed).output[:, :5], made(x).output[:, :5])


def test_empty_histories_have_finite_gradients():
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        made = encoder(reformer()).to(dtype)
        for mask in (torch.zeros_like(MASK), MASK):
            output = made(inputs(dtype), mask).output
            assert output.dtype == dtype
            assert (output[~mask] == 0).all()
            output.float().square().sum().backward()
            assert all(p.grad.isfinite().all() for p in made.parameters() if p.grad is not None)


def test_autocast_caches_no_weight_without_its_gradient():
    made, x = encoder(), inputs()
    with torch.autocast("cpu", torch.bfloat16):
        made(x, MASK)
        made(x, MASK, need_weights=True).output.float().square().sum().backward()
    assert all(p.grad is not None for p in made.parameters())


def test_parameters_changed_before_the_backward_pass_are_noticed():
    made = encoder()
    loss = made(inputs(), MASK).output.square().sum()
    with torch.no_grad():
        made.blocks[0].feed_forward.inward.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_second_backward_pass_gives_the_same():
    made = encoder(dropout=0.2)
    loss = made(inputs(), MASK).output.square().sum()
    first = torch.autograd.grad(loss, list(made.parameters()), retain_graph=True)
    assert_same(first, torch.autograd.grad(loss, list(made.parameters())), atol=0, rtol=0)


def test_can_be_written_down_and_built_again():
    made = encoder(reformer(causal=True), hidden_dim=5, feed_forward="swiglu", dropout=0.1).eval()
    twin = build(describe(made)).eval()
    twin.load_state_dict(made.state_dict())
    torch.testing.assert_close(twin(inputs(), MASK).output, made(inputs(), MASK).output)


def test_reset_parameters_repeats_with_the_seed():
    states = []
    for seed in (1, 2):
        made = encoder(reformer(), seed=seed)
        torch.manual_seed(5)
        made.reset_parameters()
        states.append(made.state_dict())
    assert all(torch.equal(states[0][name], x) for name, x in states[1].items())
    first, second = (block.attention.query_projection.weight for block in made.blocks[:2])
    assert not torch.equal(first, second)


def test_exports_and_compiles():
    made = encoder(reformer(causal=True), num_layers=1)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", min=2)
    row = {0: batch, 1: length}
    program = torch.export.export(made, (inputs(), MASK), dynamic_shapes=(row, row)).module()
    expected = made(inputs()[:2, :5], MASK[:2, :5]).output
    torch.testing.assert_close(program(inputs()[:2, :5], MASK[:2, :5]).output, expected, atol=1e-5, rtol=1e-5)
    torch.compiler.reset()
    made = encoder(num_layers=1)
    compiled = torch.compile(made, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(inputs(), MASK).output, made(inputs(), MASK).output, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim must be an integer >= 1, got 0"),
        ({"num_layers": 0}, "num_layers must be an integer >= 1, got 0"),
        ({"feed_forward": "none"}, "feed_forward must be one of relu, gelu, silu, swiglu, got 'none'"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"hidden_dim": 0}, "hidden_dim must be an integer >= 1, got 0"),
        ({"dim": 24}, "attention must take and give width 24, got one with query_dim 22"),
        ({"attention": rnn.MultiHeadAttention(22, 13, num_heads=2)}, "got one with source_dim 13"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        rnn.ReversibleEncoder(**{"dim": DIM, "attention": attention(), "num_layers": 1, **arguments})
