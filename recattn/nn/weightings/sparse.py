"""Sparse retrieval: probabilities that are exactly 0 for most events, and the scores decide how many are left.

Both maps are p_j = max(x_j - tau, 0)^power with x = e / (power temperature), and tau such that the p sum to 1: power 1
is sparsemax, power 2 the 1.5-entmax. tau depends only on the events that end up with a weight, and these are the best.
"""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recattn.nn.attended import WeightsKind, at_least_float32, fill_masked
from recattn.nn.checks import check_positive

Power = Literal[1, 2]

FEW = (64, 1024)
"""How many of the best events are looked at first, and next, in a history of at least 16 times as many."""


def masked_sparsemax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """The probabilities nearest to the scores: p = argmin ||p - e||^2 over all p >= 0 that sum to 1.

    p_j = max(e_j - tau, 0), with tau such that they sum to 1. Martins and Astudillo 2016, algorithm 1.

    scores: (..., length); fp16 and bf16 are normalised in fp32 and cast back.
    mask: bool, broadcasts against scores, True for real; None: all real.
    Returns weights like scores. A row with nothing real is all zeros, and its gradients are zero (not NaN).

    >>> masked_sparsemax(torch.tensor([[1.0, 0.5, -0.5, 9.0]]), torch.tensor([[True, True, True, False]])).tolist()
    [[0.75, 0.25, 0.0, 0.0]]
    """
    return _sparse_weights(scores, mask, 1, 1.0)


def masked_entmax15(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """The 1.5-entmax, between softmax and sparsemax: p = argmax p . e + 4/3 sum_j (p_j - p_j^1.5) over the same p.

    p_j = max(e_j / 2 - tau, 0)^2, with tau such that they sum to 1. Peters et al. 2019, section 3.

    Arguments and result as of `masked_sparsemax`.

    >>> masked_entmax15(torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0]])).tolist()
    [[0.25, 0.25, 0.25, 0.25, 0.0]]
    """
    return _sparse_weights(scores, mask, 2, 1.0)


class Sparsemax(nn.Module):
    """Retrieval of a crisp set: a = argmin ||p - e / temperature||^2 over all p >= 0 that sum to 1.

    a_j = max(e_j / temperature - tau, 0): every event whose score is within a margin (of temperature at most) of the
    best one's has a weight, in proportion to what it is above tau; all others have exactly 0. Martins and Astudillo
    2016. Towards temperature 0 it is HardRetrieval from some temperature on, and not only in the limit as a softmax.

    temperature: > 0 (ConfigError otherwise). Equal scores have equal weights. Nothing real: all weights 0.
    The gradient is exact: g_j minus the mean of g over the events with a weight, and 0 for those without one. So an
    event that starts without weight learns nothing from this row: begin with scores of small size, or a softmax.
    Linear in length: a few passes over the row, or over its best events where the row is long. The gradient has no
    gradient of its own. While torch.export or torch.compile captures a graph, the row is sorted instead.

    >>> Sparsemax()(torch.tensor([[1.0, 0.5, -0.5]])).tolist()
    [[0.75, 0.25, 0.0]]
    """

    kind: ClassVar[WeightsKind] = "probability"

    def __init__(self, *, temperature: float = 1.0) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        self.temperature = temperature

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores (..., queries, length) to weights that sum to 1 over the real events, most of them 0."""
        return _sparse_weights(scores, mask, 1, self.temperature)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"


class Entmax15(nn.Module):
    """Between Softmax and Sparsemax: a = argmax p . e / temperature + 4/3 sum_j (p_j - p_j^1.5) over p as there.

    a_j = max(e_j / (2 temperature) - tau, 0)^2: more events have a weight than under Sparsemax, and at the border the
    weights go to 0 without a kink. Peters, Niculae and Martins 2019, section 3 (alpha-entmax with alpha = 1.5).

    temperature: > 0 (ConfigError otherwise). Equal scores have equal weights. Nothing real: all weights 0.
    Gradient, cost and capture by torch.export and torch.compile as for Sparsemax, each event's part in the mean being
    the root of its weight.

    >>> Entmax15()(torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0]])).tolist()
    [[0.25, 0.25, 0.25, 0.25, 0.0]]
    """

    kind: ClassVar[WeightsKind] = "probability"

    def __init__(self, *, temperature: float = 1.0) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        self.temperature = temperature

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores (..., queries, length) to weights that sum to 1 over the real events, many of them 0."""
        return _sparse_weights(scores, mask, 2, self.temperature)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"


def _sparse_weights(scores: Tensor, mask: Tensor | None, power: Power, temperature: float) -> Tensor:
    """`reference` without a sort: from the best events of each row where these are all that have a weight."""
    length = scores.shape[-1]
    if length == 0 or torch.compiler.is_compiling():  # a graph has no branch or loop that depends on the scores
        return reference(scores, mask, power, temperature)
    seen = fill_masked(at_least_float32(scores), mask, -torch.inf)
    least = seen.new_tensor(-1.0)
    for few in FEW:
        if 16 * few > length:
            break
        index = seen.detach().topk(few, sorted=False).indices
        weights = _over_threshold(seen.gather(-1, index), least, power, temperature)
        # Where one of the best has no weight, no event below it has one either, and all weights are found.
        if (weights == 0).any(-1).all():
            return scores.new_zeros(scores.shape).scatter(-1, index, weights.to(scores.dtype))
        least = -(weights.detach().amax(-1, keepdim=True) ** (1 / power))  # the tau of the few; more events raise it
    return _over_threshold(seen, least, power, temperature).to(scores.dtype)


def reference(scores: Tensor, mask: Tensor | None, power: Power, temperature: float) -> Tensor:
    """The specification: sort the row to find its support, from which tau follows in closed form.

    With k events in the support, sum (x - tau) = 1 gives tau = mean - 1 / k, and sum (x - tau)^2 = 1 gives
    tau = mean - sqrt((1 - sum (x - mean)^2) / k). Both have their gradients as they stand.
    """
    if scores.shape[-1] == 0:
        return scores
    seen = fill_masked(at_least_float32(scores), mask, -torch.inf)
    x = _below_best(seen, power, temperature)
    support = x >= _lowest_of_support(x.detach(), power)
    size = support.sum(-1, keepdim=True, dtype=x.dtype)
    mean = (x * support).sum(-1, keepdim=True) / size
    if power == 1:
        weights = (x - mean + 1 / size).relu()
    else:
        spread = ((x - mean).square() * support).sum(-1, keepdim=True)
        rest = torch.maximum(1 - spread, 1 / size)  # at least 1 / k, were it not for rounding
        weights = (x - mean + (rest / size).sqrt()).relu().square()
    return fill_masked(weights, seen > -torch.inf, 0.0).to(scores.dtype)


def _below_best(seen: Tensor, power: Power, temperature: float) -> Tensor:
    """x, 0 for the best event: a shift of all scores changes no weight, and large ones would lose their digits.

    No event at -1 or below has a weight, as the best one alone has all of it by then. -2 is clearly beyond, and takes
    the place of what may be infinite.
    """
    best = seen.detach().amax(-1, keepdim=True).clamp(min=torch.finfo(seen.dtype).min)
    return ((seen - best) / (power * temperature)).clamp(min=-2.0)


def _lowest_of_support(x: Tensor, power: Power) -> Tensor:
    """The lowest x that has a weight: in falling order, the last one that is above the tau of all up to itself."""
    falling = x.sort(-1, descending=True).values
    rank = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    mean = falling.cumsum(-1) / rank
    if power == 1:
        tau = mean - 1 / rank
    else:
        spread = falling.square().cumsum(-1) - rank * mean.square()
        tau = mean - ((1 - spread).clamp(min=0) / rank).sqrt()
    size = (falling > tau).sum(-1, keepdim=True)
    return falling.gather(-1, size - 1)


def _find_tau(x: Tensor, least: Tensor, power: Power) -> Tensor:
    """The tau at which the weights sum to 1, by Newton's method: about five to ten passes over the row.

    The sum falls with tau and is convex, so that from a tau below the right one each step goes up and none too far.
    ``least`` is such a tau, and so is the one that all events would have if none were cut off at 0 and all were equal.
    """
    tau = torch.maximum(x.mean(-1, keepdim=True) - x.shape[-1] ** (-1 / power), least)
    over = torch.empty_like(x)
    while True:
        torch.sub(x, tau, out=over).relu_()
        if power == 1:
            total, slope = over.sum(-1, keepdim=True), over.sign_().sum(-1, keepdim=True)
        else:
            slope, total = 2 * over.sum(-1, keepdim=True), over.square_().sum(-1, keepdim=True)
        higher = tau + (total - 1) / slope  # -inf where nothing is to be seen
        if not (higher > tau).any():
            return tau
        tau = torch.maximum(tau, higher)


def _over_threshold(seen: Tensor, least: Tensor, power: Power, temperature: float) -> Tensor:
    """The weights of scores (..., length), -inf where masked; tau is searched from ``least`` upwards."""
    weights: Tensor = _OverThreshold.apply(seen, least, power, temperature)  # type: ignore[no-untyped-call]
    return weights


class _OverThreshold(torch.autograd.Function):
    """p = max(x - tau, 0)^power, with tau's own dependence on the scores in the gradient.

    dp_j = power r_j (dx_j - dtau) with r = p^(1 - 1 / power) on the support and 0 elsewhere; as the dp sum to 0,
    dtau = sum_j r_j dx_j / sum_j r_j.
    """

    @staticmethod
    def forward(ctx: Any, seen: Tensor, least: Tensor, power: Power, temperature: float) -> Tensor:  # noqa: ANN401
        x = _below_best(seen, power, temperature)
        weights = x.sub_(_find_tau(x, least, power)).relu_()
        weights = weights.square_() if power == 2 else weights
        ctx.save_for_backward(weights)
        ctx.power, ctx.temperature = power, temperature
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        (weights,) = ctx.saved_tensors
        rate = weights.sqrt() if ctx.power == 2 else weights.sign()
        # Where there is a weight at all, the rates sum to 1 or more.
        mean = (gradient * rate).sum(-1, keepdim=True) / rate.sum(-1, keepdim=True).clamp(min=0.5)
        return (gradient - mean).mul_(rate).div_(ctx.temperature), None, None, None
