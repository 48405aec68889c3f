import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from recattn.nn.attention import pointwise
from recattn.nn.attention.pointwise import pointwise_attention, pointwise_weights

BATCH, HEADS, QUERIES, LENGTH, KEY_DIM, VALUE_DIM = 3, 2, 7, 11, 5, 3


def split(batch, tokens, dim, dtype=torch.float64):
    """A leaf (batch, tokens, heads, dim), and what attention gets of it: the heads in front."""
    leaf = torch.randn(batch, tokens, HEADS, dim, dtype=dtype, requires_grad=True)
    return leaf, leaf.transpose(1, 2)


def inputs(batch=BATCH, queries=QUERIES, length=LENGTH, dtype=torch.float64):
    leaves, heads = zip(
        split(batch, queries, KEY_DIM, dtype),
        split(batch, length, KEY_DIM, dtype),
        split(batch, length, VALUE_DIM, dtype),
        strict=True,
    )
    return list(leaves), heads


def by_loops(q, k, v, mask=None, bias=None, *, causal=False):
    """The formula, number by number."""
    q, k, v = q.tolist(), k.tolist(), v.tolist()
    rows = []
    for b, h, i in [(b, h, i) for b in range(len(q)) for h in range(HEADS) for i in range(len(q[0][0]))]:
        total = [0.0] * VALUE_DIM
        for j in range(len(k[0][0])):
            if (causal and j > i) or (mask is not None and not mask[b, h, i, j]):
                continue
            score = sum(x * y for x, y in zip(q[b][h][i], k[b][h][j], strict=True))
            score += 0 if bias is None else bias[b, h, i, j].item()
            gate = score / (1 + math.exp(-score))
            total = [t + gate * x for t, x in zip(total, v[b][h][j], strict=True)]
        rows.append(total)
    return torch.tensor(rows, dtype=torch.float64).view(len(q), HEADS, -1, VALUE_DIM)


MASKS = {
    "none": lambda queries, length: None,
    "shared": lambda queries, length: (torch.arange(length) < torch.tensor([[length], [4], [0]]))[:, None, None],
    "own": lambda queries, length: torch.rand(BATCH, 1, queries, length) > 0.4,
    "for all rows": lambda queries, length: torch.rand(1, 1, queries, length) > 0.4,
    "heads": lambda queries, length: torch.rand(BATCH, HEADS, 1, length) > 0.4,
}
BIASES = {
    "none": None,
    "full": (BATCH, HEADS, -1, -2),
    "heads": (1, HEADS, -1, -2),
    "rows": (BATCH, 1, 1, -2),
    "queries": (BATCH, HEADS, -1, 1),
    "one": (1, 1, 1, 1),
}


def bias_for(name, queries, length):
    shape = BIASES[name]
    if shape is None:
        return None
    sizes = [{-1: queries, -2: length}.get(size, size) for size in shape]
    return torch.randn(sizes, dtype=torch.float64, requires_grad=True)


def full(table, queries, length):
    return None if table is None else table.expand(BATCH, HEADS, queries, length)


@pytest.mark.parametrize("mask_name", MASKS)
@pytest.mark.parametrize("bias_name", ["none", "full", "rows"])
@pytest.mark.parametrize("causal", [False, True])
def test_both_forms_are_the_formula(mask_name, bias_name, causal):
    queries = LENGTH if causal else QUERIES
    _, (q, k, v) = inputs(queries=queries)
    mask, bias = MASKS[mask_name](queries, LENGTH), bias_for(bias_name, queries, LENGTH)
    expected = by_loops(q, k, v, full(mask, queries, LENGTH), full(bias, queries, LENGTH), causal=causal)
    torch.testing.assert_close(pointwise_attention(q, k, v, mask, bias, causal=causal), expected)
    torch.testing.assert_close(pointwise_weights(q, k, mask, bias, causal=causal) @ v, expected)


@pytest.mark.parametrize(("bound", "most"), [(1, 2), (7, 3), (60, 3), (60, 1), (150, 5), (2**20, 512)])
@pytest.mark.parametrize("causal", [False, True])
def test_blocks_of_any_size_give_its_values_and_gradients(bound, most, causal, monkeypatch):
    monkeypatch.setattr(pointwise, "CPU_ELEMENTS", bound)
    monkeypatch.setattr(pointwise, "MAX_QUERIES", most)
    monkeypatch.setattr(pointwise, "MAX_CAUSAL_QUERIES", most)
    queries = LENGTH if causal else QUERIES
    leaves, (q, k, v) = inputs(queries=queries)
    for mask_name, bias_name in zip(MASKS, list(BIASES)[1:], strict=True):
        mask, bias = MASKS[mask_name](queries, LENGTH), bias_for(bias_name, queries, LENGTH)
        for added in (None, bias):
            learnt = leaves if added is None else [*leaves, added]
            attended = pointwise_attention(q, k, v, mask, added, causal=causal)
            expected = pointwise_weights(q, k, mask, added, causal=causal) @ v
            slope = torch.randn_like(expected)
            torch.testing.assert_close(attended, expected)
            got, wanted = (
                torch.autograd.grad((x * slope).sum(), learnt, retain_graph=True) for x in (attended, expected)
            )
            torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("batch", [1, BATCH])
@pytest.mark.parametrize("causal", [False, True])
def test_gradients_are_those_of_finite_differences(batch, causal):
    queries = LENGTH if causal else QUERIES
    leaves, _ = inputs(batch, queries)
    mask = torch.rand(batch, 1, queries, LENGTH) > 0.3
    bias = torch.randn(1, HEADS, queries, LENGTH, dtype=torch.float64, requires_grad=True)

    def run(*parts):
        q, k, v = (x.transpose(1, 2) for x in parts[:3])
        return pointwise_attention(q, k, v, mask, parts[3], causal=causal)

    assert torch.autograd.gradcheck(run, [*leaves, bias])


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("causal", [False, True])
def test_scores_of_all_pairs_are_never_held(batch, causal, monkeypatch, largest_tensor):
    """2 x 97 x 97 pairs a row; the bound is a tenth of them, the inputs are smaller still."""
    monkeypatch.setattr(pointwise, "CPU_ELEMENTS", 2000)
    leaves, (q, k, v) = inputs(batch, 97, 97)
    mask, kept = (torch.arange(97) < torch.tensor([[90], [40]])[:batch])[:, None, None], []
    with (
        largest_tensor() as largest,
        torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x),
    ):
        pointwise_attention(q, k, v, mask, causal=causal).sum().backward()
    assert largest.elements <= max(2000, *(x.numel() for x in leaves))
    assert sum(x.numel() for x in kept) <= 3 * sum(x.numel() for x in leaves)
    assert all(x.grad.isfinite().all() for x in leaves)


@pytest.mark.parametrize("causal", [False, True])
def test_no_pair_is_left_out_or_met_twice(causal):
    """With q = 0 and a bias of 20 all gates are 20: it counts the pairs, by the block bounds as they are."""
    length = 2 * max(pointwise.MAX_QUERIES, pointwise.MAX_CAUSAL_QUERIES) + 5
    q = torch.zeros(1, 1, length, 2)
    counts = pointwise_attention(q, q, torch.ones(1, 1, length, 1), None, torch.full((1, 1, 1, 1), 20.0), causal=causal)
    expected = torch.arange(1.0, length + 1) if causal else torch.full((length,), float(length))
    torch.testing.assert_close(counts[0, 0, :, 0] / 20, expected)


def test_a_future_pair_is_not_even_looked_at():
    """Keys of the future cost nothing: less than two thirds of the products of a full square."""
    q, calls = torch.randn(1, 1, 320, 2), []

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if func is torch.ops.aten.silu.default:
                calls.append(result.numel())
            return result

    with Products():
        pointwise_attention(q, q, q, None, causal=True)
    assert sum(calls) < 320 * 320 * 2 / 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_and_sums_beyond_fp16_are_right(dtype):
    """A score of 200^2 x 5 = 200 000, a sum of 11 of them: neither fits into fp16."""
    q, k = (torch.full((1, HEADS, n, KEY_DIM), 200.0, dtype=dtype, requires_grad=True) for n in (QUERIES, LENGTH))
    v = torch.ones(1, HEADS, LENGTH, VALUE_DIM, dtype=dtype, requires_grad=True)
    attended = pointwise_attention(q, k, v, None)
    assert attended.dtype == torch.float32
    torch.testing.assert_close(attended, torch.full_like(attended, 2.2e6), rtol=0.01, atol=0)
    (attended.sum() * 1e-4).backward()
    assert q.grad.dtype == dtype
    for x in (q, k, v):
        assert x.grad.isfinite().all()


@pytest.mark.parametrize("queries", [1, 29])
@pytest.mark.parametrize("causal", [False, True])
def test_garbage_behind_a_mask_has_no_part_even_where_its_scores_overflow(queries, causal):
    queries = LENGTH if causal else queries
    leaves, (q, k, v) = inputs(queries=queries, dtype=torch.float32)
    mask = MASKS["shared"](queries, LENGTH)
    bias = torch.randn(BATCH, 1, queries, LENGTH)
    plain = pointwise_attention(q, k, v, mask, bias, causal=causal)
    unseen = ~mask.mT
    bad_k, bad_v = k.masked_fill(unseen, 3e38), v.masked_fill(unseen, -3e38)
    bad_bias = bias.masked_fill(~mask, 1e30)
    attended = pointwise_attention(q, bad_k, bad_v, mask, bad_bias, causal=causal)
    torch.testing.assert_close(attended, plain)
    got, wanted = (torch.autograd.grad(x.square().sum(), leaves) for x in (attended, plain))
    torch.testing.assert_close(got, wanted)


def test_a_wider_bias_is_added_exactly():
    leaves, (q, k, v) = inputs(dtype=torch.float32)
    bias = torch.randn(BATCH, HEADS, QUERIES, LENGTH, dtype=torch.float64, requires_grad=True)
    attended = pointwise_attention(q, k, v, None, bias)
    torch.testing.assert_close(attended, pointwise_attention(q, k, v, None, bias.float()))
    attended.sum().backward()
    assert bias.grad.dtype == torch.float64
    assert leaves[0].grad.dtype == torch.float32


@pytest.mark.parametrize("queries", [0, 7])
@pytest.mark.parametrize("length", [0, 11])
def test_nothing_to_ask_or_to_be_asked(queries, length):
    leaves, (q, k, v) = inputs(queries=queries, length=length)
    attended = pointwise_attention(q, k, v, torch.zeros(BATCH, 1, 1, length, dtype=torch.bool))
    assert attended.shape == (BATCH, HEADS, queries, VALUE_DIM)
    assert (attended == 0).all()
    attended.sum().backward()
    assert all((x.grad == 0).all() for x in leaves)


def test_an_empty_batch():
    _, (q, k, v) = inputs(batch=0)
    assert pointwise_attention(q, k, v, None).shape == (0, HEADS, QUERIES, VALUE_DIM)


def test_no_gradient_for_a_bias_that_wants_none():
    leaves, (q, k, v) = inputs()
    bias = torch.randn(1, HEADS, 1, LENGTH, dtype=torch.float64)
    pointwise_attention(q, k, v, None, bias).sum().backward()
    assert bias.grad is None
    assert leaves[0].grad.abs().sum() > 0


def test_gates_are_silu():
    scores = torch.tensor([-1e4, -1.2785, 0.0, 1.0, 1e4])[None, None, None]
    zeros = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 5, 2)
    weights = pointwise_weights(*zeros, None, scores)
    torch.testing.assert_close(weights, F.silu(scores))
    assert weights.min().item() == pytest.approx(-0.278, abs=1e-3)
