import math

import pytest
import torch

from recattn.errors import ConfigError
from recattn.nn import (
    DecayBias,
    Encoder,
    HSTUAttention,
    RelativePositionBias,
    TimeBias,
    query_times,
    sequence_distances,
)
from recattn.nn.attention import hstu, pointwise

BATCH, QUERIES, LENGTH, DIM, HEADS = 3, 5, 7, 6, 2
LENGTHS = torch.tensor([7, 2, 4])
MASK = torch.arange(LENGTH) < LENGTHS[:, None]
NOW = 1_700_000_000


def awake(layer):
    """Weights large enough that gates are curved and the norm's eps does not hide anything."""
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return layer.double().eval()


def causal_layer(**more):
    return awake(HSTUAttention(DIM, num_heads=HEADS, max_length=13, causal=True, **more))


def sequence(batch=BATCH, length=LENGTH):
    return torch.randn(batch, length, DIM, dtype=torch.float64)


def silu(x):
    return x / (1 + math.exp(-x))


def times_weight(weight, vector):
    return [sum(w * x for w, x in zip(row, vector, strict=True)) for row in weight.tolist()]


def by_loops(layer, query, keys, values, mask, bias=None):
    """The paper's equations 1 to 3, number by number. mask (batch, queries, length), bias (batch, heads, ..)."""
    outputs, all_weights = [], []
    for b in range(len(keys)):
        u, q = (
            [[silu(x) for x in times_weight(projection.weight, vector)] for vector in query[b].tolist()]
            for projection in (layer.gate_projection, layer.query_projection)
        )
        k = [[silu(x) for x in times_weight(layer.key_projection.weight, vector)] for vector in keys[b].tolist()]
        v = [[silu(x) for x in times_weight(layer.value_projection.weight, vector)] for vector in values[b].tolist()]
        for i in range(query.shape[1]):
            found = []
            for h in range(layer.num_heads):
                wide, narrow = layer.value_dim, layer.key_dim
                of_head, gates = slice(h * narrow, (h + 1) * narrow), []
                for j in range(keys.shape[1]):
                    score = layer.scale * sum(x * y for x, y in zip(q[i][of_head], k[j][of_head], strict=True))
                    score += 0 if bias is None else bias[b, h, i, j].item()
                    gates.append(silu(score) / layer.max_length if mask[b, i, j] else 0.0)
                found += [sum(g * v[j][h * wide + d] for j, g in enumerate(gates)) for d in range(wide)]
                all_weights.append(gates)
            mean = sum(found) / len(found)
            spread = math.sqrt(sum((x - mean) ** 2 for x in found) / len(found) + layer.eps)
            read = [(x - mean) / spread for x in found]
            both = [x * y for x, y in zip(u[i], read, strict=True)]
            outputs.append(
                times_weight(layer.output_projection.weight, u[i] + read + both if layer.concat_ua else both)
            )
            if not mask[b, i].any():
                outputs[-1] = [0.0] * layer.query_dim
    shape = (len(keys), query.shape[1], layer.num_heads, keys.shape[1])
    weights = torch.tensor(all_weights, dtype=torch.float64).view(shape).transpose(1, 2)
    return torch.tensor(outputs, dtype=torch.float64).view(*shape[:2], -1), weights


def assert_is_the_formula(layer, query, keys, values=None, mask=None, bias=None, *, seen=None):
    seen = torch.ones(len(keys), query.shape[1], keys.shape[1], dtype=torch.bool) if seen is None else seen
    wide = None if bias is None else torch.broadcast_to(bias, (len(keys), layer.num_heads, *seen.shape[1:]))
    output, weights = by_loops(layer, query, keys, keys if values is None else values, seen, wide)
    got = layer(query, keys, values, mask, bias=bias)
    torch.testing.assert_close(got.output, output)
    torch.testing.assert_close(got.weights, weights)
    torch.testing.assert_close(layer(query, keys, values, mask, bias=bias, need_weights=False).output, output)


@pytest.mark.parametrize("concat_ua", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_self_attention_is_the_papers_formula(concat_ua, scale):
    layer, x = causal_layer(concat_ua=concat_ua, scale=scale, eps=1e-3), sequence()
    bias = torch.randn(BATCH, HEADS, LENGTH, LENGTH, dtype=torch.float64)
    seen = MASK[:, None] & torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    assert_is_the_formula(layer, x, x, mask=MASK, bias=bias, seen=seen)
    assert_is_the_formula(layer, x, x, bias=bias[:1], seen=torch.ones_like(seen).tril())


@pytest.mark.parametrize("concat_ua", [False, True])
def test_target_attention_is_the_papers_formula(concat_ua):
    widths = {"key_dim": 5, "value_dim": 2, "value_source_dim": 11}
    layer = awake(HSTUAttention(DIM, 3, num_heads=3, max_length=4, concat_ua=concat_ua, **widths))
    query, keys, values = (
        torch.randn(BATCH, n, dim, dtype=torch.float64) for n, dim in ((QUERIES, DIM), (LENGTH, 3), (LENGTH, 11))
    )
    bias = torch.randn(BATCH, 3, QUERIES, LENGTH, dtype=torch.float64)
    shared = MASK.clone()
    shared[1] = False
    assert_is_the_formula(layer, query, keys, values, shared, bias, seen=shared[:, None].expand(-1, QUERIES, -1))
    own = torch.rand(BATCH, QUERIES, LENGTH) > 0.5
    own[0, 3] = False
    assert_is_the_formula(layer, query, keys, values, own, bias[:, :1], seen=own)


def test_a_causal_layer_takes_a_mask_for_each_place():
    layer, x = causal_layer(concat_ua=True), sequence()
    own = torch.rand(BATCH, LENGTH, LENGTH) > 0.6
    assert_is_the_formula(layer, x, x, mask=own, seen=own & torch.ones_like(own).tril())


def test_bias_is_one_for_all_heads_or_one_for_each():
    layer, x = causal_layer(), sequence()
    bias = torch.randn(BATCH, HEADS, LENGTH, LENGTH, dtype=torch.float64)
    for need_weights in (True, False):

        def run(added, need_weights=need_weights):
            return layer(x, x, mask=MASK, bias=added, need_weights=need_weights).output

        one = bias[:, 0]
        torch.testing.assert_close(run(one), run(one[:, None].expand_as(bias)))
        torch.testing.assert_close(run(one[0]), run(one[:1, None].expand_as(bias)))
        torch.testing.assert_close(run(bias[:1]), run(bias[:1].expand_as(bias)))
        assert not torch.allclose(run(bias)[MASK], run(one)[MASK])


@pytest.mark.parametrize("concat_ua", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bound", [1, 40, 2**19])
def test_gradients_are_the_same_with_and_without_weights(concat_ua, causal, bound, monkeypatch):
    monkeypatch.setattr(pointwise, "CPU_ELEMENTS", bound)
    layer = awake(HSTUAttention(DIM, num_heads=HEADS, max_length=13, causal=causal, concat_ua=concat_ua))
    x, bias = sequence().requires_grad_(), torch.randn(1, HEADS, LENGTH, LENGTH, dtype=torch.float64)
    leaves, slope = [x, bias.requires_grad_(), *layer.parameters()], torch.randn_like(x) * MASK[..., None]
    for mask in (None, MASK, torch.rand(BATCH, LENGTH, LENGTH) > 0.5):
        got, wanted = (
            torch.autograd.grad((layer(x, x, mask=mask, bias=bias, need_weights=needed).output * slope).sum(), leaves)
            for needed in (False, True)
        )
        torch.testing.assert_close(got, wanted)


def test_the_divisor_is_max_length_and_not_the_padded_length():
    """Doubling it halves the weights; padding does nothing, beyond max_length either."""
    layer, x = causal_layer(), sequence()
    plain = layer(x, x, mask=MASK)
    twice = HSTUAttention(DIM, num_heads=HEADS, max_length=26, causal=True).double()
    twice.load_state_dict(layer.state_dict())
    torch.testing.assert_close(2 * twice(x, x, mask=MASK).weights, plain.weights)
    longer = torch.cat([x, torch.full((BATCH, 20, DIM), 50.0, dtype=torch.float64)], 1)
    real = torch.cat([MASK, torch.zeros(BATCH, 20, dtype=torch.bool)], 1)
    for need_weights in (True, False):
        padded = layer(longer, longer, mask=real, need_weights=need_weights).output
        torch.testing.assert_close(padded[:, :LENGTH][MASK], plain.output[MASK])


def test_how_much_of_a_taste_there_is_is_kept():
    """The weights' sum grows with the number of like events, where a softmax would give 1."""
    layer = causal_layer()
    x = sequence(1, 1).expand(1, LENGTH, DIM)
    total = layer(x, x).weights[0].sum(-1)
    torch.testing.assert_close(total, total[:, :1] * torch.arange(1, LENGTH + 1))
    assert layer.weights_kind == "gate"


@pytest.mark.parametrize("concat_ua", [False, True])
def test_nothing_to_attend_gives_zero_though_u_is_not(concat_ua):
    layer, x = causal_layer(concat_ua=concat_ua), sequence()
    own = torch.ones(BATCH, LENGTH, LENGTH, dtype=torch.bool)
    own[:, 3] = False  # place 3 sees nothing at all
    own[:, 1, :2] = False  # and place 1 would see the future alone
    late = torch.tensor([False, False, True, True, True, True, True]).expand(BATCH, -1)
    for need_weights in (True, False):
        output = layer(x, x, mask=own, need_weights=need_weights).output
        assert (output[:, [1, 3]] == 0).all()
        assert (output[:, [0, 2, 4]] != 0).all()
        output = layer(x, x, mask=late, need_weights=need_weights).output
        assert (output[:, :2] == 0).all()
        assert (output[:, 2:] != 0).all()


def rab(times, now, position, time):
    length = times.shape[1]
    return position(sequence_distances(length)) + time(times, query_times(times, now=now))


def test_the_bias_of_the_research_code():
    """rab_ij = pos_w[i - j] + ts_w[floor(log(max(t_i+1 - t_j, 1)) / 0.301)], t_n+1 being the request's time."""
    position = RelativePositionBias(HEADS, LENGTH - 1)
    time = TimeBias(num_heads=HEADS, num_buckets=130, base=math.exp(0.301))
    torch.nn.init.normal_(time.table)
    times = torch.tensor([[0, 0, 3, 100, 5000, 86400, 3 * 10**8]]) + NOW
    now = times[:, -1] + 7
    bias, moments = rab(times, now, position, time), [*times[0].tolist(), now.item()]
    assert bias.shape == (1, HEADS, LENGTH, LENGTH)
    for i in range(LENGTH):
        for j in range(i + 1):
            gap = moments[i + 1] - moments[j]
            bucket = 1 + math.floor(math.log(gap) / 0.301) if gap else 0
            expected = position.table[:, i - j] + time.table[:, bucket]
            torch.testing.assert_close(bias[0, :, i, j], expected)


@pytest.mark.parametrize("time", [TimeBias(num_heads=HEADS), DecayBias(HEADS)], ids=lambda bias: type(bias).__name__)
def test_time_counts_from_the_request_and_padding_neither_shifts_nor_trains_the_bias(time):
    layer, time = causal_layer(), time.double()
    position = RelativePositionBias(HEADS, 20).double()
    for parameter in (*time.parameters(), *position.parameters()):
        torch.nn.init.normal_(parameter)
    x, times = sequence(), torch.randint(0, 10**6, (BATCH, LENGTH)).cumsum(1)
    now, found = times[:, -1] + 500, []
    for shift, extra, garbage in ((0, 0, 0), (NOW, 0, 0), (0, 6, 0), (0, 6, 10**12)):
        more = torch.cat([x, torch.full((BATCH, extra, DIM), 9.0, dtype=torch.float64)], 1)
        real = torch.cat([MASK, torch.zeros(BATCH, extra, dtype=torch.bool)], 1)
        when = torch.cat([times + shift, torch.full((BATCH, extra), garbage)], 1)
        bias = position(sequence_distances(LENGTH + extra)) + time(when, query_times(when, real, now=now + shift))
        output = layer(more, more, mask=real, bias=bias, need_weights=False).output[:, :LENGTH] * MASK[..., None]
        leaves = [*time.parameters(), *position.parameters()]
        found.append((output, *torch.autograd.grad(output.square().sum(), leaves)))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("need_weights", [True, False])
def test_scores_beyond_fp16_give_what_float64_gives(dtype, need_weights):
    """Projections of 180 make scores of 97 200; sums over 500 events come on top."""
    layer = HSTUAttention(DIM, num_heads=HEADS, max_length=500)
    for projection in (layer.query_projection, layer.key_projection):
        torch.nn.init.constant_(projection.weight, 10.0)
    for projection in (layer.gate_projection, layer.value_projection, layer.output_projection):
        torch.nn.init.uniform_(projection.weight)
    layer, query, keys = layer.to(dtype), torch.full((1, 1, DIM), 3.0), torch.full((1, 500, DIM), 3.0)
    query, keys = (x.to(dtype).requires_grad_() for x in (query, keys))
    output, weights = layer(query, keys, need_weights=need_weights)
    exact = layer.double()(query.double(), keys.double())
    torch.testing.assert_close(output.double(), exact.output, rtol=0.03, atol=0.05)
    assert weights is None or weights.dtype == dtype
    (output.sum() * 0.01).backward()
    assert query.grad.isfinite().all()
    assert keys.grad.isfinite().all()


def test_a_bias_in_float64_is_taken_by_a_layer_in_float32():
    layer, x = causal_layer(), sequence()
    bias = torch.randn(1, HEADS, LENGTH, LENGTH, dtype=torch.float64)
    exact = layer(x, x, mask=MASK, bias=bias).output[MASK]
    for need_weights in (True, False):
        output = layer.float()(x.float(), x.float(), mask=MASK, bias=bias, need_weights=need_weights).output
        assert output.dtype == torch.float32
        torch.testing.assert_close(output[MASK].double(), exact, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("need_weights", [True, False])
def test_runs_under_autocast(need_weights):
    layer, x = causal_layer().float(), sequence().float()
    bias = torch.randn(1, HEADS, LENGTH, LENGTH, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(x, x, mask=MASK, bias=bias, need_weights=need_weights).output
        loss = output[MASK].float().square().sum()
    loss.backward()
    torch.testing.assert_close(output[MASK].float(), layer(x, x, mask=MASK, bias=bias).output[MASK], atol=0.2, rtol=0.2)
    assert bias.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_the_weights_of_a_long_history_are_never_held(monkeypatch, largest_tensor):
    monkeypatch.setattr(pointwise, "CPU_ELEMENTS", 4096)
    monkeypatch.setattr(hstu, "causal_mask", None)  # no length x length mask either
    layer, x, kept = causal_layer(), sequence(2, 211).requires_grad_(), []
    mask = torch.arange(211) < torch.tensor([[211], [97]])
    with (
        largest_tensor() as largest,
        torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x),
    ):
        layer(x, x, mask=mask, need_weights=False).output.sum().backward()
    assert largest.elements <= 4096
    assert max(kept) <= x.numel()


@pytest.mark.parametrize("causal", [True, False])
def test_compiled_without_weights_it_has_the_same_gradients(causal):
    torch.compiler.reset()
    layer = awake(HSTUAttention(DIM, num_heads=HEADS, max_length=13, causal=causal))
    x, bias = sequence().requires_grad_(), torch.randn(1, HEADS, LENGTH, LENGTH, dtype=torch.float64)
    compiled, leaves = torch.compile(layer, backend="aot_eager", fullgraph=True), [x, *layer.parameters()]
    outputs = [run(x, x, mask=MASK, bias=bias, need_weights=False).output[MASK] for run in (compiled, layer)]
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*(torch.autograd.grad(output.square().sum(), leaves) for output in outputs))


def test_the_history_is_projected_once_for_all_candidates():
    layer, rows = awake(HSTUAttention(DIM, num_heads=HEADS, max_length=13)), []
    for projection in (layer.key_projection, layer.value_projection):
        projection.register_forward_hook(lambda _, args, __: rows.append(args[0].shape[:-1].numel()))
    layer(torch.randn(BATCH, 101, DIM).double(), sequence(), mask=MASK, need_weights=False)
    assert rows == [BATCH * LENGTH] * 2


def test_dropout_is_of_what_is_projected_and_in_training_only():
    layer, x = causal_layer(dropout=0.5), sequence()
    still = layer(x, x, mask=MASK)
    torch.testing.assert_close(layer(x, x, mask=MASK).output, still.output)
    layer.train()
    first, second = layer(x, x, mask=MASK), layer(x, x, mask=MASK)
    assert not torch.allclose(first.output, second.output)
    assert torch.equal(first.weights, still.weights)
    mean = torch.stack([layer(x, x, mask=MASK, need_weights=False).output for _ in range(800)]).mean(0)
    torch.testing.assert_close(mean[MASK], still.output[MASK], atol=0.4, rtol=0.1)


def test_starts_as_the_research_code():
    layer = HSTUAttention(256, num_heads=4, max_length=50)
    for projection in (layer.gate_projection, layer.query_projection, layer.key_projection, layer.value_projection):
        assert projection.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert projection.bias is None
    limit = math.sqrt(6 / (256 + 256))
    assert layer.output_projection.weight.abs().max().item() == pytest.approx(limit, rel=0.01)
    assert layer.eps == 1e-6
    assert layer.scale == 1


def test_an_encoder_makes_the_whole_of_it():
    """y = x + HSTU(norm(x)), block after block; each block may have a bias of its own."""
    stack = Encoder(DIM, attention=causal_layer(), num_layers=2, feed_forward="none").double().eval()
    x, bias = sequence(), torch.randn(2, 1, HEADS, LENGTH, LENGTH, dtype=torch.float64)
    expected = x
    for block, added in zip(stack.blocks, bias, strict=True):
        awake(block.attention)
        normed = torch.nn.functional.layer_norm(expected, (DIM,))
        seen = torch.ones(BATCH, LENGTH, LENGTH, dtype=torch.bool).tril() & MASK[:, None]
        wide = added.expand(BATCH, -1, -1, -1)
        expected = expected + by_loops(block.attention, normed, normed, normed, seen, wide)[0]
    got = stack(x, MASK, bias=list(bias)).output
    torch.testing.assert_close(got[MASK], torch.nn.functional.layer_norm(expected, (DIM,))[MASK])
    assert stack.causal


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 4}, "num_heads must divide query_dim 6 unless key_dim and value_dim are given, got 4"),
        ({"max_length": 0}, "max_length must be an integer >= 1, got 0"),
        ({"scale": 0}, "scale must be a finite number > 0, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"eps": 0.0}, "eps must be a finite number > 0, got 0.0"),
        ({"key_dim": 0}, "key_dim must be an integer >= 1, got 0"),
        ({"source_dim": 0}, "source_dim must be an integer >= 1, got 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        HSTUAttention(**{"query_dim": DIM, "num_heads": 2, "max_length": 5, **arguments})


def test_a_causal_layer_asks_for_the_sequence_itself():
    with pytest.raises(ConfigError, match="a causal HSTUAttention takes a sequence as query and keys"):
        causal_layer()(sequence(length=3), sequence())
