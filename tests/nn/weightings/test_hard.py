import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recattn.errors import ConfigError
from recattn.nn import AttentionPooling, DotScorer, HardRetrieval, Softmax, Sparsemax, TopK
from recattn.nn.weightings.hard import best_k, gumbel_noise


def test_hard_retrieval_takes_the_best_real_event():
    scores = torch.tensor([[1.0, 3.0, 2.0, 9.0]])
    assert HardRetrieval()(scores, torch.tensor([[True, True, True, False]])).tolist() == [[0, 1, 0, 0]]


@pytest.mark.parametrize("length", [3, 8, 100, 1000])
def test_ties_go_to_the_earlier_event(length):
    scores = torch.zeros(2, length)
    scores[:, 0] = -1
    assert HardRetrieval()(scores).argmax(-1).tolist() == [1, 1]
    assert TopK(2)(scores).nonzero()[:, 1].tolist() == [1, 2, 1, 2]


def test_hard_retrieval_is_one_hot_in_training_with_the_gradient_of_the_softmax():
    scores = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(7) < torch.tensor([[7], [4], [0]])
    direction = torch.randn(3, 7, dtype=torch.float64)
    weights = HardRetrieval(temperature=0.5)(scores, mask)
    assert sorted(weights.unique().tolist()) == [0, 1]
    (hard,) = torch.autograd.grad((weights * direction).sum(), scores)
    (soft,) = torch.autograd.grad((Softmax(temperature=0.5)(scores, mask) * direction).sum(), scores)
    torch.testing.assert_close(hard, soft)
    assert not HardRetrieval().eval()(scores, mask).requires_grad


def test_softmax_at_a_low_temperature_is_hard_retrieval():
    scores = torch.randn(5, 11)
    torch.testing.assert_close(Softmax(temperature=1e-4)(scores), HardRetrieval()(scores))


def test_top_k_is_the_softmax_over_the_k_best():
    scores = torch.tensor([1.0, 2.0, 5.0, 100.0]).log()[None]
    mask = torch.tensor([[True, True, True, False]])
    torch.testing.assert_close(TopK(2)(scores, mask), torch.tensor([[0, 2 / 7, 5 / 7, 0]]))
    for k in (3, 4, 17):
        torch.testing.assert_close(TopK(k)(scores, mask), Softmax()(scores, mask))


def test_top_k_gives_no_gradient_to_events_left_out():
    scores = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    TopK(2)(scores).square().sum().backward()
    assert scores.grad[0, 0] == 0
    assert (scores.grad[0, 1:] != 0).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(-2, 2), st.booleans()), min_size=1, max_size=9), st.integers(1, 11))
def test_best_k_is_a_stable_sort(row, k):
    scores = torch.tensor([[float(score) for score, _ in row]])
    mask = torch.tensor([[real for _, real in row]])
    order = sorted((j for j, (_, real) in enumerate(row) if real), key=lambda j: (-row[j][0], j))
    assert best_k(scores, mask, k)[0].nonzero().flatten().tolist() == sorted(order[:k])


def test_one_hot_weights_are_indexing():
    """Retrieval by a key, as in a dictionary: `weights @ values` is `values[argmax]`, to the last bit."""
    query, keys, values = torch.randn(3, 5, 11), torch.randn(3, 97, 11), torch.randn(3, 97, 13)
    mask = torch.arange(97) < torch.tensor([[97], [41], [1]])
    layer = AttentionPooling(DotScorer(), HardRetrieval())
    best = layer.score(query, keys).masked_fill(~mask[:, None], -torch.inf).argmax(-1)
    looked_up = torch.stack([row[chosen] for row, chosen in zip(values, best, strict=True)])
    for train in (False, True):
        output, weights = layer.train(train)(query, keys, values, mask)
        assert torch.equal(output, looked_up)
        assert torch.equal(weights, torch.nn.functional.one_hot(best, 97).float())


@pytest.mark.parametrize("soft", [Softmax, Sparsemax])
def test_soft_retrieval_goes_to_indexing_as_the_temperature_falls(soft):
    query, keys, values = torch.randn(3, 5, 11), torch.randn(3, 97, 11), torch.randn(3, 97, 13)
    hard = AttentionPooling(DotScorer(), HardRetrieval()).eval()(query, keys, values).output
    apart = [
        (AttentionPooling(DotScorer(), soft(temperature=t))(query, keys, values).output - hard).abs().max().item()
        for t in (10, 1, 0.1, 0.01, 1e-4)
    ]
    assert apart == sorted(apart, reverse=True)
    assert apart[0] > 0.1
    assert apart[-1] < 1e-6


@pytest.mark.parametrize("k", [1, 2, 5])
def test_hard_retrieval_of_k_is_the_mean_of_the_k_best_or_of_all_there_are(k):
    scores, values = torch.randn(4, 1, 7), torch.randn(4, 7, 2)
    mask = (torch.arange(7) < torch.tensor([[7], [3], [1], [0]]))[:, None]
    for train in (False, True):
        weights = HardRetrieval(k=k).train(train)(scores, mask)
        for row, real in enumerate((7, 3, 1, 0)):
            best = scores[row, 0, :real].argsort(descending=True)[:k]
            expected = values[row, best].mean(0) if real else torch.zeros(2)
            torch.testing.assert_close((weights @ values)[row, 0], expected)
            assert weights[row].count_nonzero() == min(k, real)


def test_ties_at_the_edge_of_the_k_best_go_to_the_earlier_events():
    scores = torch.tensor([[2.0, 5.0, 2.0, 2.0, 5.0, 2.0]])
    assert (HardRetrieval(k=4)(scores) * 4).tolist() == [[1, 1, 1, 0, 1, 0]]
    mask = torch.tensor([[False, True, True, True, True, True]])
    assert (HardRetrieval(k=4)(scores, mask) * 4).tolist() == [[0, 1, 1, 1, 1, 0]]


def test_masked_events_never_win_however_low_the_real_ones_are():
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for low in (torch.finfo(dtype).min, -torch.inf):
            scores = torch.tensor([[9.0, low, low]], dtype=dtype)
            mask = torch.tensor([[False, True, True]])
            assert best_k(scores, mask, 1).tolist() == [[False, True, False]]
            assert best_k(scores, mask, 3).tolist() == [[False, True, True]]
            assert HardRetrieval().eval()(scores, mask).tolist() == [[0, 1, 0]]
            assert HardRetrieval(k=3).eval()(scores, mask).tolist() == [[0, 0.5, 0.5]]
    low = torch.tensor([[9.0, -6e4, -6e4]], dtype=torch.float16)
    assert TopK(1)(low, torch.tensor([[False, True, True]])).tolist() == [[0, 1, 0]]


DRAWS = 20_000
SCORES = torch.tensor([1.0, 2.0, 5.0, 2.0, 1000.0]).log()
MASK = torch.tensor([True, True, True, True, False])


def test_gumbel_draws_events_as_often_as_the_softmax_says():
    """The masked event, 100 times as likely as all others together, is never drawn."""
    weights = HardRetrieval(gradient="gumbel", temperature=0.3)(SCORES.expand(DRAWS, -1), MASK)
    assert (weights.sum(-1) == 1).all()
    assert sorted(weights.unique().tolist()) == [0, 1]
    assert weights[:, 4].sum() == 0
    often = weights.mean(0)[:4]
    wanted = torch.tensor([0.1, 0.2, 0.5, 0.2])
    error = (wanted * (1 - wanted) / DRAWS).sqrt()
    assert ((often - wanted).abs() < 4 * error).all()
    pulls = (DRAWS * (often - wanted).square() / wanted).sum().item()
    assert pulls < 16.3  # chi-squared of three degrees of freedom: one in a thousand is above


def test_gumbel_draws_k_events_without_putting_them_back():
    """Each pair as often as drawing one after the other says: p_a p_b / (1 - p_a) + p_b p_a / (1 - p_b)."""
    weights = HardRetrieval(k=2, gradient="gumbel")(SCORES.expand(DRAWS, -1), MASK)
    torch.testing.assert_close(weights.sum(-1), torch.ones(DRAWS))
    share = (0.1, 0.2, 0.5, 0.2)
    for a, b in itertools.combinations(range(4), 2):
        wanted = share[a] * share[b] * (1 / (1 - share[a]) + 1 / (1 - share[b]))
        often = ((weights[:, a] > 0) & (weights[:, b] > 0)).float().mean().item()
        assert often == pytest.approx(wanted, abs=4 * math.sqrt(wanted * (1 - wanted) / DRAWS))


def test_gumbel_gradient_is_that_of_the_softmax_of_the_noisy_scores():
    scores = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(7) < torch.tensor([[7], [4], [0]])
    direction = torch.randn(3, 7, dtype=torch.float64)
    torch.manual_seed(11)
    weights = HardRetrieval(gradient="gumbel", temperature=0.4)(scores, mask)
    torch.manual_seed(11)
    noisy = scores + gumbel_noise(scores)
    assert torch.equal(weights, HardRetrieval().eval()(noisy, mask))
    (hard,) = torch.autograd.grad((weights * direction).sum(), scores)
    (soft,) = torch.autograd.grad(
        (((noisy / 0.4).masked_fill(~mask, -1e9)).softmax(-1) * direction * mask).sum(), scores
    )
    torch.testing.assert_close(hard, soft)
    assert (hard[2] == 0).all()


def test_gumbel_has_no_noise_in_evaluation():
    scores = torch.randn(50, 7, requires_grad=True)
    weighting = HardRetrieval(gradient="gumbel")
    assert not torch.equal(weighting(scores), weighting(scores))
    evaluated = weighting.eval()(scores)
    assert torch.equal(evaluated, HardRetrieval()(scores))
    assert not evaluated.requires_grad


def test_gumbel_noise_is_finite_and_has_its_distribution():
    """exp(-exp(-g)) is uniform. -ln(-ln u) of a u that fp32 rounded to 0 or 1 would be infinite."""
    noise = gumbel_noise(torch.zeros(1_000_000))
    assert noise.isfinite().all()
    uniform = (-(-noise.double()).exp()).exp().sort().values
    steps = torch.arange(1, 1_000_001, dtype=torch.float64) / 1_000_000
    assert (uniform - steps).abs().max() < 1.95 / 1000  # Kolmogorov-Smirnov, one in a thousand
    assert gumbel_noise(torch.zeros(3, dtype=torch.float64)).dtype == torch.float64


def test_gumbel_in_half_precision_draws_in_single():
    scores = torch.zeros(2000, 3, dtype=torch.float16, requires_grad=True)
    weights = HardRetrieval(gradient="gumbel")(scores)
    assert weights.dtype == torch.float16
    assert ((weights.float().mean(0) - 1 / 3).abs() < 0.05).all()
    weights[:, 0].sum().backward()
    assert scores.grad.isfinite().all()


def test_wrong_arguments_are_named():
    for k in (0, -1, 1.5, True):
        with pytest.raises(ConfigError, match="k must be an integer >= 1"):
            HardRetrieval(k=k)
        with pytest.raises(ConfigError, match="k must be an integer >= 1"):
            TopK(k)
    for weighting in (HardRetrieval, lambda temperature: TopK(3, temperature=temperature)):
        with pytest.raises(ConfigError, match="temperature must be a finite number > 0"):
            weighting(temperature=0.0)
    with pytest.raises(ConfigError, match="gradient must be one of straight_through, gumbel, got 'reinforce'"):
        HardRetrieval(gradient="reinforce")
