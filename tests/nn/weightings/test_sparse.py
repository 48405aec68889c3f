"""Sparsemax and Entmax15, beside the `entmax` package, their papers' conditions and finite differences."""

import entmax
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recattn.errors import ConfigError
from recattn.nn import Entmax15, HardRetrieval, Softmax, Sparsemax, masked_entmax15, masked_sparsemax
from recattn.nn.weightings import sparse

OURS = {1: masked_sparsemax, 2: masked_entmax15}
LAYERS = {1: Sparsemax, 2: Entmax15}
PEERS = {1: entmax.sparsemax, 2: entmax.entmax15}
both = pytest.mark.parametrize("power", [1, 2], ids=["sparsemax", "entmax15"])


def weights_and_gradient(function, scores: Tensor) -> tuple[Tensor, Tensor]:
    scores = scores.clone().requires_grad_()
    weights = function(scores)
    slope = torch.randn(weights.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weights * slope.to(weights.dtype)).sum(), scores)
    return weights.detach(), gradient


@both
@pytest.mark.parametrize("spread", [0.001, 0.1, 1.0, 20.0])
@pytest.mark.parametrize("length", [1, 2, 3, 17, 101, 1000, 1023, 1024, 1025, 5003])
def test_equals_the_entmax_package(power, spread, length):
    scores = torch.randn(7, length, dtype=torch.float64) * spread
    expected = weights_and_gradient(lambda x: PEERS[power](x, dim=-1), scores)
    torch.testing.assert_close(weights_and_gradient(OURS[power], scores), expected, atol=1e-12, rtol=1e-9)
    single = weights_and_gradient(OURS[power], scores.float())
    again = weights_and_gradient(lambda x: PEERS[power](x.double(), dim=-1), scores.float())
    torch.testing.assert_close(single[0].double(), again[0], atol=1e-6, rtol=1e-4)


@both
@pytest.mark.parametrize("length", [5, 101, 2003])
def test_a_padded_row_is_the_row_without_its_padding(power, length):
    """The package has no mask: each row is asked for alone, cut to its real events."""
    scores = torch.randn(5, length, dtype=torch.float64)
    lengths = torch.tensor([length, length // 2, 3, 1, 0])
    mask = torch.arange(length) < lengths[:, None]
    padded = scores.masked_fill(~mask, 77.0)
    weights, gradient = weights_and_gradient(lambda x: OURS[power](x, mask), padded)
    slope = torch.randn(scores.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert (weights[~mask] == 0).all()
    assert (gradient[~mask] == 0).all()
    for row, real in enumerate(lengths.tolist()):
        if real:
            alone = scores[row, :real].clone().requires_grad_()
            expected = PEERS[power](alone, dim=-1)
            torch.testing.assert_close(weights[row, :real], expected)
            (wanted,) = torch.autograd.grad((expected * slope[row, :real]).sum(), alone)
            torch.testing.assert_close(gradient[row, :real], wanted)


@both
@pytest.mark.parametrize("length", [7, 2003])
def test_holes_in_the_mask_are_left_out(power, length):
    scores, mask = torch.randn(3, 2, length), torch.rand(3, 1, length) < 0.5
    weights = OURS[power](scores, mask)
    for row in range(3):
        real = mask[row, 0]
        torch.testing.assert_close(weights[row, :, real], PEERS[power](scores[row, :, real], dim=-1))


@both
@pytest.mark.parametrize("length", [3, 100, 2003, 20_011])
def test_nothing_real_gives_zeros_and_no_gradient(power, length):
    scores = torch.randn(2, length, requires_grad=True)
    mask = torch.tensor([[False], [True]]).expand(2, length)
    for function in (OURS[power], lambda x, m: sparse.reference(x, m, power, 1.0)):
        weights = function(scores, mask)
        (gradient,) = torch.autograd.grad(weights.square().sum(), scores)
        assert (weights[0] == 0).all()
        assert (gradient[0] == 0).all()
        assert weights[1].sum().item() == pytest.approx(1, abs=1e-5)
        assert gradient.isfinite().all()
        assert (function(scores, torch.zeros_like(mask)) == 0).all()


@both
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_an_empty_row_passes_anomaly_detection(power):
    scores, mask = torch.randn(2, 3, requires_grad=True), torch.tensor([[False] * 3, [True] * 3])
    with torch.autograd.detect_anomaly():
        sparse.reference(scores, mask, power, 1.0).square().sum().backward()
        OURS[power](scores, mask).square().sum().backward()


@both
@pytest.mark.parametrize("kind", ["long", "wide", "ties", "all equal", "steps", "two levels", "masked"])
@pytest.mark.parametrize("length", [16, 900, 1024, 3001, 17_001])
def test_fast_path_equals_the_reference(power, kind, length):
    """By the best few, by the best many, by the whole row: which one it is depends on length and on the scores."""
    random = torch.Generator().manual_seed(length)
    scores = torch.randn(3, length, generator=random, dtype=torch.float64)
    mask = None
    if kind == "wide":
        scores *= 1e-4
    elif kind == "ties":
        scores = scores.round()
    elif kind == "all equal":
        scores = torch.full_like(scores, -3.0)
    elif kind == "steps":  # the weights end within the events looked at first, or just after them
        scores = -torch.arange(length, dtype=torch.float64).expand(3, -1) * torch.tensor([[1e-2], [5e-4], [2e-6]])
    elif kind == "two levels":
        scores = torch.where(torch.arange(length) % 3 == 0, 0.0, -0.01).double().expand(3, -1)
    elif kind == "masked":
        mask = torch.arange(length) < torch.tensor([[length], [length // 3], [0]])
    fast = weights_and_gradient(lambda x: OURS[power](x, mask), scores)
    slow = weights_and_gradient(lambda x: sparse.reference(x, mask, power, 1.0), scores)
    torch.testing.assert_close(fast, slow, atol=1e-12, rtol=1e-8)
    assert ((fast[0] > 0) == (slow[0] > 1e-15)).all() or kind == "steps"


@both
@pytest.mark.parametrize("spread", [0.0, 1e-7, 1e-5, 1e-3, "cliff"])
def test_fp32_keeps_its_digits_over_100_000_events(power, spread):
    """Nearly equal scores, and one event that leaves 100,000 others at the edge. Running sums lose them there."""
    if spread == "cliff":
        scores = -0.99 * power + torch.randn(2, 100_000) * 1e-3
        scores[:, 0] = 0
    else:
        scores = torch.randn(2, 100_000) * spread
    exact, slope = weights_and_gradient(lambda x: PEERS[power](x, dim=-1), scores.double())
    for function in (OURS[power], lambda x: sparse.reference(x, None, power, 1.0)):
        weights, gradient = weights_and_gradient(function, scores)
        assert (weights - exact).abs().max() <= 1e-6 * exact.max()
        torch.testing.assert_close(weights.double().sum(-1), torch.ones(2, dtype=torch.float64), atol=1e-5, rtol=0)
        torch.testing.assert_close(gradient.double()[exact > 1e-6], slope[exact > 1e-6], atol=1e-2, rtol=1e-2)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.floats(-3, 3), st.integers(1, 40)), min_size=1, max_size=9),
    st.sampled_from([1, 2]),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from([0.05, 1.0, 7.0]),
)
def test_weights_are_those_of_one_threshold_and_sum_to_one(levels, power, dtype, temperature):
    """What has one solution only: p_j^(1/power) - x_j is one number where p_j > 0, and at least that elsewhere."""
    scores = torch.tensor([score for score, count in levels for _ in range(count)], dtype=dtype)
    weights = LAYERS[power](temperature=temperature)(scores[None])[0]
    assert (weights >= 0).all()
    exact = 1e-4 if dtype == torch.float32 else 1e-11
    assert weights.sum().item() == pytest.approx(1, abs=exact)
    over = weights.double() ** (1 / power) - scores.double() / (power * temperature)
    held = weights > 0
    assert over[held].max() - over[held].min() <= exact * (1 + over.abs().max())
    assert held.all() or over[~held].min() >= over[held].min() - exact * (1 + over.abs().max())
    assert len(weights.unique()) <= len({score for score, _ in levels})  # equal scores, equal weights


def test_sparsemax_by_hand():
    scores = torch.tensor([[3.0, 2.6, 2.0, -1.0], [5.0, 3.0, 1.0, 0.0]])
    torch.testing.assert_close(Sparsemax()(scores), torch.tensor([[0.7, 0.3, 0, 0], [1.0, 0, 0, 0]]))
    warm = Sparsemax(temperature=2.0)(scores)  # (1.5 + 1.3 + 1 - 1) / 3 = 2.8 / 3
    torch.testing.assert_close(warm[0], torch.tensor([1.7 / 3, 1.1 / 3, 0.2 / 3, 0]))


def test_entmax_by_hand():
    """x = (0, -0.2): (-tau)^2 + (-0.2 - tau)^2 = 1 at tau = -0.1 - sqrt(0.49)."""
    weights = Entmax15()(torch.tensor([[2.0, 1.6, -9.0]]))
    torch.testing.assert_close(weights, torch.tensor([[0.8**2, 0.6**2, 0.0]]), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(Entmax15(temperature=0.5)(torch.tensor([[1.0, 0.8, -9.0]])), weights)


@both
def test_is_a_minimum_of_its_problem(power):
    """argmax p . e + H(p): no other distribution is better, be it a random one or a softmax."""

    def objective(p: Tensor, e: Tensor) -> Tensor:
        entropy = (1 - p.square().sum(-1)) / 2 if power == 1 else 4 / 3 * (p - p**1.5).sum(-1)
        return (p * e).sum(-1) + entropy

    scores = torch.randn(5, 7, dtype=torch.float64)
    best = objective(OURS[power](scores), scores)
    others = torch.randn(1000, 5, 7, dtype=torch.float64).mul(3).softmax(-1)
    assert (objective(others, scores) < best).all()
    assert (objective(0.99 * OURS[power](scores) + 0.01 * others, scores) < best).all()


@both
def test_has_the_gradient_of_its_formula(power):
    scores = torch.randn(4, 2, 9, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(9) < torch.tensor([9, 5, 1, 0]).view(4, 1, 1)
    assert torch.autograd.gradcheck(lambda x: LAYERS[power](temperature=0.7)(x, mask), scores)
    long = torch.randn(1, 1100, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: OURS[power](x).square(), long, fast_mode=True)
    wide = (torch.randn(1, 1100, dtype=torch.float64) * 1e-2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: OURS[power](x).square(), wide, fast_mode=True)


@both
def test_the_reference_has_a_second_gradient_and_the_fast_path_says_that_it_has_none(power):
    scores = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: sparse.reference(x, None, power, 1.0), scores)
    (first,) = torch.autograd.grad(OURS[power](scores).square().sum(), scores, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@both
def test_events_without_weight_get_no_gradient(power):
    weights, gradient = weights_and_gradient(OURS[power], torch.randn(11, 31))
    assert (weights == 0).any()
    assert ((gradient != 0) <= (weights > 0)).all()
    torch.testing.assert_close(gradient.sum(-1), torch.zeros(11), atol=1e-6, rtol=0)  # a shift changes nothing


@both
def test_a_shift_of_all_scores_changes_nothing(power):
    scores = torch.randint(-8, 8, (5, 23)) / 8.0
    assert torch.equal(OURS[power](scores + 2.0**16), OURS[power](scores))


@both
@pytest.mark.parametrize("length", [4, 3000])
def test_huge_and_infinite_scores(power, length):
    """-inf is how a mask may have been written already: such an event has no weight, alone or not."""
    for huge in (1e30, 3e38):
        scores = torch.full((1, length), -huge)
        scores[0, 1] = huge
        for function in (OURS[power], lambda x: sparse.reference(x, None, power, 1.0)):
            weights, gradient = weights_and_gradient(function, scores)
            assert weights[0].nonzero().tolist() == [[1]]
            assert weights[0, 1] == 1
            assert gradient.isfinite().all()
    scores = torch.full((2, length), -torch.inf)
    scores[0, :2] = torch.tensor([0.5, 0.5])
    for function in (OURS[power], lambda x: sparse.reference(x, None, power, 1.0)):
        weights, gradient = weights_and_gradient(function, scores)
        torch.testing.assert_close(weights[0, :2], torch.tensor([0.5, 0.5]))
        assert weights[0, 2:].sum() == weights[1].sum() == 0
        assert gradient.isfinite().all()


@both
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_to_its_limits(power, dtype):
    scores = torch.tensor([[-6e4, -6e4, 6e4], [6e4, 6e4, -6e4]], dtype=dtype, requires_grad=True)
    weights = OURS[power](scores, torch.tensor([[True, True, False], [True, True, True]]))
    weights.float().square().sum().backward()
    torch.testing.assert_close(weights.float(), torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]]), atol=1e-3, rtol=0)
    assert weights.dtype == scores.grad.dtype == dtype
    assert scores.grad.isfinite().all()
    lowest = torch.full((1, 2), torch.finfo(dtype).min, dtype=dtype)
    assert OURS[power](lowest, torch.tensor([[True, False]])).tolist() == [[1, 0]]


@both
def test_nan_scores_are_not_hidden(power):
    """As under a softmax; and the search for tau ends."""
    for length in (3, 2000):
        scores = torch.zeros(2, length)
        scores[0, 1] = torch.nan
        weights = OURS[power](scores)
        assert weights[0].isnan().any()
        assert weights[1].sum().item() == pytest.approx(1, abs=1e-5)


@both
def test_at_a_low_temperature_it_is_hard_retrieval(power):
    """Not in the limit only: as soon as the two best scores are farther apart than the temperature allows."""
    scores = torch.randn(7, 501)
    top = scores.topk(2).values
    gap = (top[:, 0] - top[:, 1]).min().item()
    hard = HardRetrieval()(scores)
    assert torch.equal(LAYERS[power](temperature=gap / power * 0.99)(scores), hard)
    assert not torch.equal(Softmax(temperature=gap)(scores), hard)
    assert not torch.equal(LAYERS[power](temperature=gap / power * 1.1)(scores), hard)


def test_entmax_keeps_more_events_than_sparsemax_and_fewer_than_softmax():
    scores = torch.randn(13, 101)
    kept = [(weighting(scores) > 0).sum(-1) for weighting in (Sparsemax(), Entmax15(), Softmax())]
    assert (kept[0] <= kept[1]).all()
    assert (kept[1] < kept[2]).all()
    assert kept[0].sum() < kept[1].sum()


@both
def test_wrong_temperatures_are_named(power):
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="temperature"):
            LAYERS[power](temperature=temperature)


def test_exported_graph_agrees_beyond_the_length_it_was_made_with():
    """It sorts, whatever the length: where an eager call looks at the best events first, the graph does not."""

    class Both(torch.nn.Module):
        def forward(self, scores: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
            return tuple(LAYERS[power](temperature=0.7)(scores, mask) for power in (1, 2))

    def inputs(length: int) -> tuple[Tensor, Tensor]:
        return torch.randn(3, 2, length), torch.arange(length) < torch.tensor([length, 4, 0]).view(3, 1, 1)

    sizes = {2: torch.export.Dim("length", min=2)}
    program = torch.export.export(Both(), inputs(11), dynamic_shapes={"scores": sizes, "mask": sizes}).module()
    for length in (11, 5, 1500):
        scores, mask = inputs(length)
        torch.testing.assert_close(program(scores, mask), Both()(scores, mask), atol=1e-6, rtol=1e-4)
