import pytest
import torch

from recattn.nn.attention import lsh
from recattn.nn.attention.lsh import attend_in_rounds, hash_buckets, sort_rounds, visible_pairs
from recattn.nn.weightings.softmax import masked_softmax

BATCH, HEADS, LENGTH, DIM, VALUE_DIM, ROUNDS = 3, 2, 24, 5, 7, 4
MASK = torch.arange(LENGTH) < torch.tensor([[LENGTH], [11], [0]])
HOLES = torch.rand(BATCH, LENGTH, generator=torch.Generator().manual_seed(3)) < 0.7
both_orders = pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])


def vectors(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def some_buckets(rounds=ROUNDS, count=6):
    return hash_buckets(vectors(BATCH, HEADS, LENGTH, DIM), vectors(HEADS, rounds, DIM, count // 2, seed=2))


def found_by_the_paper(buckets, mask, chunk_size, *, causal):
    """Kitaev et al. 2020, section 2, for one row, head and round, with lists: which j does each i find?"""
    real = [i for i in range(len(buckets)) if mask[i]]
    line = sorted(real, key=lambda i: (buckets[i], i))
    found = torch.zeros(len(buckets), len(buckets), dtype=torch.bool)
    for i in real:
        if causal:
            together = [j for j in real if buckets[j] == buckets[i] and j < i][-chunk_size:]
        else:
            chunk = line.index(i) // chunk_size
            together = line[max(0, chunk - 1) * chunk_size : (chunk + 1) * chunk_size]
        found[i, together] = True
    return found


@both_orders
@pytest.mark.parametrize("mask", [MASK, HOLES], ids=["padded", "holes"])
@pytest.mark.parametrize("chunk_size", [1, 3, 8, 24])
def test_visible_is_what_some_round_finds(chunk_size, mask, causal):
    buckets = some_buckets()
    visible = visible_pairs(sort_rounds(buckets, mask, chunk_size, causal=causal), mask)
    for row in range(BATCH):
        for head in range(HEADS):
            expected = torch.zeros(LENGTH, LENGTH, dtype=torch.bool)
            for numbers in buckets[row, head].tolist():
                expected |= found_by_the_paper(numbers, mask[row].tolist(), chunk_size, causal=causal)
            expected.fill_diagonal_(False)
            alone = mask[row] & ~expected.any(-1)
            expected |= torch.diag(alone)
            assert torch.equal(visible[row, head], expected)


def test_an_event_sees_itself_only_where_there_is_nothing_else():
    mask = torch.tensor([[True, True, True, False]])
    apart = sort_rounds(torch.tensor([[[[0, 2, 1, 0]]]]), mask, 1, causal=True)
    assert visible_pairs(apart, mask)[0, 0].int().tolist() == torch.diag(torch.tensor([1, 1, 1, 0])).tolist()
    together = sort_rounds(torch.tensor([[[[0, 0, 0, 0]]]]), mask, 4, causal=False)
    assert visible_pairs(together, mask)[0, 0].int().tolist() == [[0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0], [0] * 4]


def test_the_first_chunk_looks_back_at_nothing():
    """Looking back in a ring shows it the last chunk, and with the rounds in one line another round's."""
    mask = torch.ones(1, 9, dtype=torch.bool)
    rounds = sort_rounds(torch.arange(9).expand(1, 1, 2, 9), mask, 3, causal=False)
    assert visible_pairs(rounds, mask)[0, 0, 0].nonzero().flatten().tolist() == [1, 2]
    assert visible_pairs(rounds, mask)[0, 0, 5].nonzero().flatten().tolist() == [0, 1, 2, 3, 4]


def test_buckets_are_argmax_of_the_rotated_vector_and_its_opposite():
    x, rotations = vectors(BATCH, HEADS, LENGTH, DIM), vectors(HEADS, ROUNDS, DIM, 3, seed=2)
    turned = torch.einsum("bhnd,hrdk->bhrnk", x, rotations)
    assert torch.equal(hash_buckets(x, rotations), torch.cat([turned, -turned], -1).argmax(-1))


def test_buckets_know_the_direction_only():
    x, rotations = vectors(BATCH, HEADS, LENGTH, DIM), vectors(HEADS, ROUNDS, DIM, 3, seed=2)
    buckets = hash_buckets(x, rotations)
    assert torch.equal(hash_buckets(x * vectors(BATCH, 1, LENGTH, 1).abs(), rotations), buckets)
    assert torch.equal(hash_buckets(-x, rotations), (buckets + 3) % 6)
    again = x[:, :, torch.randint(0, LENGTH, (LENGTH,), generator=torch.Generator().manual_seed(5))]
    same = (again.unsqueeze(3) == x.unsqueeze(2)).all(-1)
    shared = hash_buckets(again, rotations).unsqueeze(-1) == buckets.unsqueeze(-2)
    assert shared[same.unsqueeze(2).expand_as(shared)].all()


def test_close_vectors_share_a_bucket_more_often():
    x, rotations = vectors(1, 1, 4001, 16), vectors(1, 1, 16, 8, seed=2)
    buckets = hash_buckets(x, rotations)
    shared = []
    for noise in (0.1, 0.5, 2.0):
        moved = hash_buckets(x + noise * vectors(1, 1, 4001, 16, seed=4), rotations)
        shared.append((moved == buckets).double().mean())
    assert 1 > shared[0] > shared[1] > shared[2] > 1 / 16


def inputs(scale=1.0):
    q = vectors(BATCH, HEADS, LENGTH, DIM) * scale
    return q, q / q.norm(dim=-1, keepdim=True), vectors(BATCH, HEADS, LENGTH, VALUE_DIM, seed=6)


@both_orders
@pytest.mark.parametrize("mask", [MASK, HOLES], ids=["padded", "holes"])
@pytest.mark.parametrize("chunk_size", [1, 3, 8, 24])
@pytest.mark.parametrize("block_pairs", [1, 2**18])
def test_chunks_are_the_softmax_over_visible_pairs_with_its_gradients(
    chunk_size, mask, causal, block_pairs, monkeypatch
):
    monkeypatch.setattr(lsh, "BLOCK_PAIRS", block_pairs)
    rounds = sort_rounds(some_buckets(), mask, chunk_size, causal=causal)
    weights_of_loss = vectors(BATCH, HEADS, LENGTH, VALUE_DIM, seed=8) * mask[:, None, :, None]
    found = []
    for fast in (True, False):
        q, k, v = (x.clone().requires_grad_() for x in inputs(3.0))
        weights = masked_softmax(q @ k.mT, visible_pairs(rounds, mask))
        out = attend_in_rounds(q, k, v, rounds) if fast else weights @ v
        loss = (out.masked_fill(~mask[:, None, :, None], 0.0).sin() * weights_of_loss).sum()
        found.append((loss, *torch.autograd.grad(loss, (q, k, v))))
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-9)


def test_rounds_are_weighed_by_what_they_find():
    """Softmax of each round's logsumexp, where no pair is found twice: the formula of the paper's section 2."""
    mask = torch.ones(1, 4, dtype=torch.bool)
    q = vectors(1, 1, 4, DIM)
    k, v = q / q.norm(dim=-1, keepdim=True), vectors(1, 1, 4, VALUE_DIM, seed=6)
    buckets = torch.tensor([[[[0, 0, 1, 1], [0, 1, 1, 0]]]])  # event 3 finds 2, then 0
    got = attend_in_rounds(q, k, v, sort_rounds(buckets, mask, 4, causal=True))[0, 0, 3]
    first, second = (q[0, 0, 3] @ k[0, 0, j] for j in (2, 0))
    share = torch.sigmoid(first - second)
    torch.testing.assert_close(got, share * v[0, 0, 2] + (1 - share) * v[0, 0, 0])


@both_orders
def test_finding_a_pair_again_changes_nothing(causal):
    buckets = some_buckets(rounds=1)
    once, often = (
        attend_in_rounds(*inputs(), sort_rounds(b, MASK, 3, causal=causal))
        for b in (buckets, buckets.expand(-1, -1, 5, -1))
    )
    torch.testing.assert_close(once[:2, :, :11], often[:2, :, :11], atol=1e-14, rtol=1e-12)


def test_huge_scores_neither_overflow_nor_vanish():
    rounds = sort_rounds(some_buckets(), MASK, 3, causal=False)
    for scale in (1e-30, 1e6, 1e30):
        q, k, v = (x.float().requires_grad_() for x in inputs(scale))
        out = attend_in_rounds(q, k, v, rounds)
        expected = masked_softmax(q @ k.mT, visible_pairs(rounds, MASK)) @ v
        torch.testing.assert_close(out[:2, :, :11], expected[:2, :, :11])
        assert all(g.isfinite().all() for g in torch.autograd.grad(out[:2, :, :11].sum(), (q, k, v)))


def kept(length):
    """Numbers that a pass over events keeps for its backward pass."""
    q, k, v = (torch.randn(1, 1, length, DIM, requires_grad=True) for _ in range(3))
    mask = torch.ones(1, length, dtype=torch.bool)
    rounds = sort_rounds(torch.randint(0, 4, (1, 1, 2, length)), mask, 8, causal=False)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        attend_in_rounds(q, k, v, rounds)
    return sum(sizes)


def test_what_is_kept_grows_with_the_length_and_not_with_the_pairs():
    assert kept(512) == 2 * kept(256) < 512 * 40
