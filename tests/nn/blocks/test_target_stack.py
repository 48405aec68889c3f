import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import recattn.nn as rnn
from recattn.errors import ConfigError
from recattn.models import build, describe

DIM, SOURCE_DIM, HEADS, BATCH, QUERIES, LENGTH, LAYERS = 10, 13, 2, 3, 5, 7, 3
MASK = torch.arange(LENGTH) < torch.tensor([7, 2, 4])[:, None]


def stack(num_layers=LAYERS, bias=False, **more):
    torch.manual_seed(4)
    attention = rnn.MultiHeadAttention(DIM, SOURCE_DIM, num_heads=HEADS, key_dim=3, value_dim=17, bias=bias)
    made = rnn.TargetStack(DIM, attention=attention, num_layers=num_layers, source_dim=SOURCE_DIM, **more).double()
    with torch.no_grad():
        for parameter in made.parameters():  # norms and biases away from their starts
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return made


def inputs(queries=QUERIES, length=LENGTH):
    generator = torch.Generator().manual_seed(3)
    shapes = (BATCH, queries, DIM), (BATCH, length, SOURCE_DIM)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def normed(norm, x):
    centred = x - x.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * norm.weight + norm.bias


def swiglu(network, x):
    hidden, content = (network.inward.weight @ x + network.inward.bias).chunk(2)
    return network.outward.weight @ (hidden / (1 + torch.exp(-hidden)) * content) + network.outward.bias


def attention_by_formula(attention, q, history):
    """One query, one head after another; 0 of nothing."""
    parts = []
    for head in range(HEADS):
        w_q, w_k = (x.weight.view(HEADS, -1, x.weight.shape[1])[head] for x in projections(attention)[:2])
        w_v = attention.value_projection.weight.view(HEADS, -1, SOURCE_DIM)[head]
        weights = torch.stack([(w_q @ q) @ (w_k @ h) / 3**0.5 for h in history]).exp()
        weights = weights / weights.sum()
        parts.append(sum(a * (w_v @ h) for a, h in zip(weights, history, strict=True)))
    return attention.output_projection.weight @ torch.cat(parts), weights


def projections(attention):
    return attention.query_projection, attention.key_projection, attention.value_projection


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_output_is_that_of_the_formula(norm):
    made = stack(norm=norm, hidden_dim=19)
    query, keys = inputs()
    output, weights = made(query, keys, mask=MASK)
    assert (made.last_norm is None) == (norm == "post")
    assert all(block.feed_forward.hidden_dim == block.source_feed_forward.hidden_dim == 19 for block in made.blocks)
    for row, length in enumerate(MASK.sum(1).tolist()):
        for i in range(QUERIES):
            history, q = list(keys[row, :length]), query[row, i]
            for block in made.blocks:
                kept = block.around_source.layer_norm
                history = [normed(kept, h + swiglu(block.source_feed_forward, h)) for h in history]
                norms = block.around_attention.layer_norm, block.around_feed_forward.layer_norm
                if norm == "pre":
                    found, last = attention_by_formula(block.attention, normed(norms[0], q), history)
                    q = q + found
                    q = q + swiglu(block.feed_forward, normed(norms[1], q))
                else:
                    found, last = attention_by_formula(block.attention, q, history)
                    q = normed(norms[0], q + found)
                    q = normed(norms[1], q + swiglu(block.feed_forward, q))
            q = q if made.last_norm is None else normed(made.last_norm, q)
            torch.testing.assert_close(output[row, i], q)
            torch.testing.assert_close(weights[row, 1, i, :length], last)


def test_order_of_the_history_does_not_matter():
    made, (query, keys) = stack(), inputs()
    order = torch.tensor([6, 2, 0, 5, 3, 1, 4])
    plain, permuted = made(query, keys), made(query, keys[:, order])
    torch.testing.assert_close(permuted.output, plain.output)
    torch.testing.assert_close(permuted.weights, plain.weights[..., order])


def test_candidates_do_not_see_each_other():
    made, (query, keys) = stack(), inputs()
    before = made(query, keys, mask=MASK).output
    query[:, 2] = query[:, 2].flip(-1) * 2
    after = made(query, keys, mask=MASK).output
    same = torch.tensor([0, 1, 3, 4])
    torch.testing.assert_close(after[:, same], before[:, same])
    assert not torch.allclose(after[:, 2], before[:, 2])
    for i in range(QUERIES):
        torch.testing.assert_close(made(query[:, i], keys, mask=MASK).output, after[:, i])


def test_an_event_changes_no_other_events_key():
    """What reaches the attention of any block for one event depends on that event alone."""
    made, (query, keys) = stack(), inputs()
    seen = []
    for block in made.blocks:
        block.attention.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    made(query, keys, mask=MASK)
    keys[:, 1] = keys[:, 1].flip(-1)
    made(query + 1, keys, mask=MASK)
    others = torch.tensor([0, 2, 3, 4, 5, 6])
    for before, after in zip(seen[:LAYERS], seen[LAYERS:], strict=True):
        torch.testing.assert_close(after[:, others], before[:, others])
        assert not torch.allclose(after[:, 1], before[:, 1])


def test_the_history_is_prepared_once_for_all_candidates():
    made, rows = stack(), []
    for block in made.blocks:
        parts = block.attention.key_projection, block.attention.value_projection
        for part in (block.source_feed_forward, *parts):
            part.register_forward_hook(lambda _, args, __: rows.append(args[0].shape[:-1].numel()))
    made(*inputs(queries=101), mask=MASK)
    assert rows == [BATCH * LENGTH] * 3 * LAYERS


def test_work_and_memory_grow_in_proportion_to_the_length(largest_tensor):
    made, flops = stack(), []
    for length in (101, 202, 303):
        query, keys = inputs(2, length)
        with largest_tensor() as largest, FlopCounterMode(display=False) as counter:
            made(query, keys, need_weights=False).output.sum().backward()
        flops.append(counter.get_total_flops())
        assert largest.elements == BATCH * length * 2 * 4 * SOURCE_DIM  # the two halves of SwiGLU; length^2 is more
    assert flops[2] - flops[1] == flops[1] - flops[0] > 0


def test_nothing_to_attend_gives_zero_and_not_the_target():
    made, (query, keys) = stack(bias=True), inputs()
    own = MASK[:, None].repeat(1, QUERIES, 1)
    own[0, 3] = False
    own[0, 1, :3] = False
    own[2] = False
    empty = ~own.any(-1)
    for need_weights in (True, False):
        output, weights = made(query, keys, mask=own, need_weights=need_weights)
        assert (output[empty] == 0).all()
        assert (output[~empty] != 0).all()
        assert not need_weights or (weights.movedim(1, 2)[empty] == 0).all()
        for i in range(QUERIES):
            alone = made(query[:, i], keys, mask=own[:, i], need_weights=need_weights).output
            torch.testing.assert_close(alone, output[:, i])
        nothing = made(query, keys[:, :0], need_weights=need_weights)
        assert nothing.output.shape == (BATCH, QUERIES, DIM)
        assert (nothing.output == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_padding_as_large_as_numbers_go_changes_nothing(dtype):
    made, (query, keys) = stack().to(dtype), (x.to(dtype) for x in inputs())
    for fill in (torch.finfo(dtype).max, torch.nan):
        garbage = keys.masked_fill(~MASK.unsqueeze(-1), fill).requires_grad_()
        for values in (None, garbage):
            made.zero_grad()
            output = made(query, garbage, values, MASK).output
            assert torch.equal(output, made(query, keys, None if values is None else keys, MASK).output)
            output.float().square().sum().backward()
            assert all(x.grad.isfinite().all() for x in made.parameters())
            assert (garbage.grad[~MASK] == 0).all()


def test_values_take_the_way_of_the_keys():
    made, (query, keys) = stack(), inputs()
    torch.testing.assert_close(made(query, keys, keys, MASK), made(query, keys, None, MASK))
    other = made(query, keys, keys.flip(-1), MASK)
    assert not torch.allclose(other.output, made(query, keys, None, MASK).output)


def test_weights_are_those_of_the_last_block():
    made, (query, keys) = stack(), inputs()
    asked, found = [], []

    def listen(_, __, kwargs, result):
        asked.append(kwargs["need_weights"])
        found.append(result.weights)

    for block in made.blocks:
        block.attention.register_forward_hook(listen, with_kwargs=True)
    weights = made(query, keys, mask=MASK).weights
    assert asked == [False, False, True]
    assert weights is found[-1]
    assert made(query, keys, mask=MASK, need_weights=False).weights is None


def test_one_bias_for_all_blocks_or_one_for_each():
    made, (query, keys) = stack(), inputs()
    bias = torch.randn(LAYERS, BATCH, QUERIES, LENGTH).double()
    for_all = made(query, keys, mask=MASK, bias=bias[0])
    torch.testing.assert_close(made(query, keys, mask=MASK, bias=[bias[0]] * LAYERS), for_all)
    assert not torch.allclose(made(query, keys, mask=MASK, bias=list(bias)).output, for_all.output)
    with pytest.raises(ConfigError, match="bias must be one tensor or one for each of the 3 blocks, got 2"):
        made(query, keys, bias=[bias[0]] * 2)


@pytest.mark.parametrize(
    "attention",
    [
        lambda: rnn.AttentionPooling(rnn.ScaledDotScorer(), rnn.Sparsemax()),
        lambda: rnn.HSTUAttention(DIM, DIM, num_heads=2, max_length=9),
        lambda: rnn.LinearAttention(DIM, DIM, num_heads=2),
    ],
    ids=["sparse", "hstu", "linear"],
)
def test_takes_any_layer_as_its_attention(attention):
    made, query = rnn.TargetStack(DIM, attention=attention(), num_layers=2), torch.randn(BATCH, QUERIES, DIM)
    output, weights = made(query, torch.randn(BATCH, LENGTH, DIM), mask=MASK)
    assert output.shape == query.shape
    assert weights.shape[-2:] == (QUERIES, LENGTH)
    assert made.weights_kind == attention().weights_kind


def test_blocks_have_weights_of_their_own_and_all_are_trained():
    made = stack(gated=True, dropout=0.2)
    firsts = [block.attention.query_projection.weight for block in made.blocks]
    assert not torch.equal(firsts[0], firsts[1])
    made(*inputs(), mask=MASK).output.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())
    before = {name: x.clone() for name, x in made.named_parameters() if x.dim() > 1}
    made.reset_parameters()
    assert not any(torch.equal(x, before[name]) for name, x in made.named_parameters() if x.dim() > 1)


def test_dropout_is_for_training_alone():
    made, given = stack(dropout=0.5), inputs()
    assert not torch.allclose(made(*given).output, made(*given).output)
    made.eval()
    torch.testing.assert_close(made(*given).output, made(*given).output, atol=0, rtol=0)


def test_can_be_written_down_and_built_again():
    made = stack(norm="post", feed_forward="gelu", gated=True, dropout=0.1).eval()
    twin = build(describe(made)).double().eval()
    twin.load_state_dict(made.state_dict())
    torch.testing.assert_close(twin(*inputs()).output, made(*inputs()).output)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim must be an integer >= 1, got 0"),
        ({"source_dim": 0}, "source_dim must be an integer >= 1, got 0"),
        ({"num_layers": 0}, "num_layers must be an integer >= 1, got 0"),
        ({"feed_forward": "none"}, "feed_forward must be one of relu, gelu, silu, swiglu, got 'none'"),
        ({"norm": "no"}, "norm must be one of pre, post, got 'no'"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"dim": 12}, "attention must take and give width 12, got one with query_dim 10"),
        ({"source_dim": 12}, "attention must take and give width 12, got one with source_dim 10"),
        (
            {"attention": rnn.MultiHeadAttention(10, 10, num_heads=2, causal=True)},
            "attention must not be causal: the target has no place in the history",
        ),
        (
            {"attention": rnn.MultiHeadAttention(10, 10, num_heads=1, rotary=rnn.RotaryPosition(10))},
            "attention must not be rotary",
        ),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    given = {"dim": 10, "attention": rnn.MultiHeadAttention(10, 10, num_heads=2), "num_layers": 2, **arguments}
    with pytest.raises(ConfigError, match=message):
        rnn.TargetStack(given.pop("dim"), **given)


@pytest.mark.parametrize(
    ("mask", "message"),
    [(torch.ones(BATCH, LENGTH), "mask must be boolean"), (MASK[:, :4], "mask must cover the 7 keys")],
)
def test_wrong_masks_are_named(mask, message):
    with pytest.raises(ConfigError, match=message):
        stack()(*inputs(), mask=mask)
