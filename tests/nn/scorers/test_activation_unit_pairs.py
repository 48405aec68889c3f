"""The activation unit of one Dice layer while it learns, against its formula over whole tables."""

import copy

import pytest
import torch

from recattn.nn import ActivationUnitScorer
from recattn.nn.scorers import pair_blocks, unit_inference

HEADS, QUERIES, LENGTH, DIM = 3, 7, 13, 11


def scorer_for(dtype=torch.float64):
    scorer = ActivationUnitScorer(DIM, DIM, hidden_dims=(5,), activation="dice").to(dtype)
    with torch.no_grad():
        for parameter in scorer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return scorer.train()


def inputs(dtype=torch.float64):
    query = torch.randn(2, HEADS, QUERIES, DIM, dtype=dtype, requires_grad=True)
    keys = torch.randn(2, HEADS, LENGTH, DIM, dtype=dtype, requires_grad=True)
    visible = torch.tensor([[0, 1, 2, 3, 4, 5, 6], [13, 12, 11, 0, 9, 8, 7]])
    steps = torch.arange(LENGTH)
    window = (steps < visible[..., None]) & (steps >= visible[..., None] - 5)
    return query, keys, window[:, None]


def results(score, scorer, query, keys, mask, slope):
    scores = score(query, keys, mask) * mask
    return scores, torch.autograd.grad((scores * slope).sum(), [query, keys, *scorer.parameters()]), scorer.state_dict()


def both(scorer, query, keys, mask):
    twin = copy.deepcopy(scorer)
    slope = torch.randn(2, HEADS, QUERIES, LENGTH, dtype=query.dtype)
    return (
        results(scorer.forward, scorer, query, keys, mask, slope),
        results(twin.reference, twin, query, keys, mask, slope),
    )


@pytest.mark.parametrize("bound", [1, 17, 2**13])
@pytest.mark.parametrize("table", ["windows", "any", "all"])
def test_scores_gradients_and_statistics_are_those_of_the_formula(table, bound, monkeypatch):
    monkeypatch.setattr(pair_blocks, "BLOCK_PAIRS", bound)
    query, keys, mask = inputs()
    if table == "any":
        mask = torch.rand(2, HEADS, QUERIES, LENGTH) < 0.4
    if table == "all":
        mask = torch.ones(1, 1, dtype=torch.bool)
    got, wanted = both(scorer_for(), query, keys, mask)
    torch.testing.assert_close(got, wanted)


def test_without_a_mask_all_pairs_are_real():
    query, keys, _ = inputs()
    scorer = scorer_for()
    twin = copy.deepcopy(scorer)
    torch.testing.assert_close(scorer(query, keys), twin.reference(query, keys))
    torch.testing.assert_close(scorer.state_dict(), twin.state_dict())


def test_fp32_agrees_with_the_formula_far_from_mean_zero():
    query, keys, mask = inputs(torch.float32)
    scorer = scorer_for(torch.float32)
    with torch.no_grad():
        scorer.first.bias += 100
    got, wanted = both(scorer, query, keys, mask)
    torch.testing.assert_close(got, wanted, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_scored_in_fp32(dtype):
    query, keys, mask = inputs(torch.float32)
    scorer = scorer_for(dtype)
    wide = copy.deepcopy(scorer).float()
    query, keys = query.to(dtype), keys.to(dtype)
    scores = scorer(query, keys, mask)
    assert scores.dtype == dtype
    torch.testing.assert_close(scores, wide(query.float(), keys.float(), mask).to(dtype))
    scores.sum().backward()
    assert all(p.grad.isfinite().all() for p in scorer.parameters())


def test_autocast_does_not_reach_the_pairs():
    query, keys, mask = inputs(torch.float32)
    scorer = scorer_for(torch.float32)
    twin = copy.deepcopy(scorer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = scorer(query, keys, mask)
    torch.testing.assert_close(scores, twin(query, keys, mask))
    scores.sum().backward()
    assert query.grad.isfinite().all()


@pytest.mark.parametrize("garbage", [1e3, torch.inf, torch.nan])
def test_padding_with_garbage_changes_nothing(garbage):
    query, keys, mask = inputs()
    scorer = scorer_for()
    twin = copy.deepcopy(scorer)
    more = torch.full((2, HEADS, 4, DIM), garbage, dtype=torch.float64)
    padded = torch.cat([keys.detach(), more], 2).requires_grad_()
    hidden = torch.cat([mask, torch.zeros(2, 1, QUERIES, 4, dtype=torch.bool)], -1)
    slope = torch.randn(2, HEADS, QUERIES, LENGTH, dtype=torch.float64)
    few, many = scorer(query, keys, mask), twin(query, padded, hidden)
    torch.testing.assert_close(many[..., :LENGTH], few)
    assert (many[..., LENGTH:] == 0).all()
    got = torch.autograd.grad((many[..., :LENGTH] * slope).sum(), [query, padded, *twin.parameters()])
    wanted = torch.autograd.grad((few * slope).sum(), [query, keys, *scorer.parameters()])
    assert (got[1][:, :, LENGTH:] == 0).all()
    torch.testing.assert_close([got[0], got[1][:, :, :LENGTH], *got[2:]], list(wanted))
    torch.testing.assert_close(twin.state_dict(), scorer.state_dict())


def test_nothing_real_scores_0_and_learns_nothing():
    query, keys, mask = inputs()
    scorer = scorer_for()
    before = copy.deepcopy(scorer.state_dict())
    scores = scorer(query, keys, mask & False)
    scores.sum().backward()
    assert (scores == 0).all()
    torch.testing.assert_close(scorer.state_dict(), before, rtol=0, atol=0)
    assert all((x.grad == 0).all() for x in (query, keys, *scorer.parameters()))


def test_one_real_pair_trains():
    query, keys, _ = inputs(torch.float32)
    scorer = scorer_for(torch.float32)
    mask = torch.zeros(2, HEADS, QUERIES, LENGTH, dtype=torch.bool)
    mask[1, 2, 3, 5] = True
    scores = scorer(query, keys, mask)
    scores.sum().backward()
    assert scores.count_nonzero() == 1
    assert all(x.grad.isfinite().all() for x in (query, keys, *scorer.parameters()))
    assert (scorer.activations[0].running_var == 1).all()


def test_a_graph_can_be_walked_twice():
    query, keys, mask = inputs()
    scores = scorer_for()(query, keys, mask).sum()
    first, second = (torch.autograd.grad(scores, [query, keys], retain_graph=True) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_gradient_is_that_of_the_scores():
    query, keys, mask = (x[:, :1] for x in inputs())
    mask = mask.expand(2, 1, QUERIES, LENGTH)
    scorer = scorer_for()
    assert torch.autograd.gradcheck(lambda q, k: scorer(q, k, mask), (query, keys))


def test_blocks_hold_each_real_pair_once():
    mask = torch.rand(3, 5, 11) < 0.3
    found = torch.zeros(mask.numel())
    for block in pair_blocks.real_pairs(mask):
        real = torch.ones(block.cells.shape) if block.real is None else block.real[..., 0]
        found.index_add_(0, block.cells.flatten(), real.flatten())
        row, key = block.cells // 55, block.cells % 11
        assert ((block.keys == row * 11 + key) | (real == 0)).all()
        assert ((block.queries[:, None] == block.cells // 11) | (real == 0)).all()
    assert torch.equal(found.view_as(mask), mask.float())


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
@pytest.mark.parametrize("block", [1, 100, 10**9])
def test_many_queries_of_a_history_are_answered_as_one_by_one(shape, block, monkeypatch):
    monkeypatch.setattr(unit_inference, "CACHE_ELEMENTS", block)
    generator = torch.Generator().manual_seed(2)
    unit = ActivationUnitScorer(5, 5, hidden_dims=(7,), activation="dice").double().eval()
    with torch.no_grad():
        for tensor in (*unit.parameters(), unit.activations[0].running_mean):
            tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
        unit.activations[0].running_var.uniform_(0.5, 2.0, generator=generator)
        query, keys = (torch.randn(*shape, size, 5, generator=generator, dtype=torch.float64) for size in (37, 11))
        assert unit._answers_many(query, keys)
        torch.testing.assert_close(unit(query, keys), unit.reference(query, keys))
    with torch.enable_grad():
        assert not unit._answers_many(query, keys)
