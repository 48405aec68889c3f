"""Softmax retrieval of many candidates at many moments of one history, for two matrix products."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from recattn.nn.attended import at_least_float32

SPAN = 40.0
"""Scores and biases are each cut at this far below their maximum: e^-80 is the least product fp32 can hold."""


def factored_readout(scores: Tensor, gains: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    """r[p, c] = sum_j a_pcj g_cj with a_pc = softmax over visible j of (s_cj + b_pj), without ever forming a.

    As exp(s + b) = exp(s) exp(b), with K = exp(b) (0 where not visible) and E = exp(s):

        r = K (E ∘ g)ᵀ / K Eᵀ

    which is what "softmax over the history, then a dot product with the candidate" gives at every position p for every
    candidate c, where g_cj = value_j · readout_c. The direct form costs positions × candidates × length exponentials;
    this one (positions + candidates) × length of them and two matrix products.

    scores, gains: (..., candidates, length). bias: (..., positions, length). mask: bool (..., positions or 1, length),
    broadcasts to bias, True for an event that the position sees. Returns (..., positions, candidates) in the type of
    scores, 0 where nothing is visible; fp16 and bf16 are computed in fp32. What lies where no position looks has no
    part, as long as it is finite.
    Exact, up to rounding, while the scores of one candidate and the biases of one position each span less than
    ``SPAN``; what lies further below the maximum is raised to there (e^-40 of the largest weight).

    >>> scores, gains = torch.zeros(1, 2), torch.tensor([[1.0, 3.0]])
    >>> factored_readout(scores, gains, torch.zeros(2, 2), torch.tensor([[True, False], [True, True]])).tolist()
    [[1.0], [2.0]]
    """
    if not scores.shape[-1]:
        return (bias.unsqueeze(-2) + scores.unsqueeze(-3)).sum(-1).to(scores.dtype)  # zeros of the right shape
    dtype = torch.promote_types(at_least_float32(scores).dtype, at_least_float32(bias).dtype)
    batch: torch.Size = torch.broadcast_shapes(scores.shape[:-2], gains.shape[:-2], bias.shape[:-2], mask.shape[:-2])
    full = [tensor.expand(*batch, *tensor.shape[-2:]) for tensor in (scores.to(dtype), gains.to(dtype), bias.to(dtype))]
    with torch.autocast(scores.device.type, enabled=False):  # a quotient of sums that may be as small as e^-80
        found: Tensor = _FactoredReadout.apply(  # type: ignore[no-untyped-call]
            *full, mask.expand(*batch, *bias.shape[-2:])
        )
    return found.to(scores.dtype)


class _FactoredReadout(torch.autograd.Function):
    """The quotient with its gradient written out: the automatic one keeps and walks through twice as many tensors."""

    @staticmethod
    def forward(ctx: FunctionCtx, scores: Tensor, gains: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
        # What no position sees must not be the maximum: the real scores below it would be raised.
        unseen = torch.zeros(mask.shape, dtype=scores.dtype, device=mask.device).masked_fill_(~mask, -torch.inf)
        exp_scores = scores + unseen.amax(-2, keepdim=True).clamp_(min=torch.finfo(scores.dtype).min / 2)
        # Any constant per candidate or per position cancels in the quotient, so the maxima need no gradient.
        exp_scores.sub_(exp_scores.amax(-1, keepdim=True)).clamp_(min=-SPAN).exp_()
        top = bias.masked_fill(~mask, -torch.inf).amax(-1, keepdim=True).nan_to_num(neginf=0.0)
        kernel = (bias - top).clamp(min=-SPAN, max=0.0).exp() * mask
        total = kernel @ exp_scores.mT
        # At least e^-SPAN where anything is visible. A tiny number in its place elsewhere would make gradients inf * 0.
        total += total == 0
        found = (kernel @ (exp_scores * gains).mT).div_(total)
        ctx.save_for_backward(exp_scores, gains, kernel, total, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        exp_scores, gains, kernel, total, found = ctx.saved_tensors  # type: ignore[attr-defined]
        of_product = slope / total
        of_total = of_product * found  # with the sign turned
        raised = of_product.mT @ kernel
        of_scores = torch.addcmul((of_total.mT @ kernel).neg_(), raised, gains).mul_(exp_scores)
        of_kernel = of_product @ (exp_scores * gains) - of_total @ exp_scores
        return of_scores, raised.mul_(exp_scores), of_kernel.mul_(kernel), None
