"""Softmax over a sample that all targets share, in pieces, so that (targets x samples) logits never exist at once."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from recattn.errors import ConfigError
from recattn.nn.attended import at_least_float32
from recattn.nn.losses.full_softmax import LOGITS


def shared_softmax_loss(
    states: Tensor,
    positives: Tensor,
    negatives: Tensor,
    log_expected: Tensor,
    ignored: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """`sampled_softmax_loss` of the logits states · positives and states negatives^T, without holding them.

    states, positives: (targets, dim), a vector of the item that followed for each. negatives: (samples, dim).
    log_expected: (samples,), the log of how often each was expected in the sample; of an item drawn n times and given
        once, less log n.
    ignored: what is no negative of which target, as pairs (rows of states, rows of negatives), both (pairs,) int64
        with the first ascending.
    Returns a scalar; 0 for no targets. Memory is a piece of ``LOGITS`` numbers and the gradients, which are computed
    along with the loss. It can be differentiated once. Raises ConfigError for shapes that do not fit.

    >>> loss = shared_softmax_loss(torch.zeros(2, 3), torch.ones(2, 3), torch.ones(4, 3), torch.zeros(4))
    >>> round(loss.exp().item(), 3)
    5.0
    """
    fits = states.dim() == 2 and negatives.dim() == 2 and positives.shape == states.shape
    if not fits or negatives.shape[1] != states.shape[1] or log_expected.shape != negatives.shape[:1]:
        raise ConfigError(
            "states and positives must be (targets, dim), negatives (samples, dim) and log_expected (samples,), got "
            f"{tuple(states.shape)}, {tuple(positives.shape)}, {tuple(negatives.shape)} and {tuple(log_expected.shape)}"
        )
    if not len(states):
        return states.sum() * 0.0
    rows, columns = (None, None) if ignored is None else ignored
    loss: Tensor = _SharedSoftmax.apply(states, positives, negatives, log_expected, rows, columns)  # type: ignore[no-untyped-call]
    return loss


class _SharedSoftmax(torch.autograd.Function):
    """As `full_softmax`'s: the loss with its gradients, piece by piece."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        states: Tensor,
        positives: Tensor,
        negatives: Tensor,
        log_expected: Tensor,
        rows: Tensor | None,
        columns: Tensor | None,
    ) -> Tensor:
        device = states.device.type
        wide = at_least_float32(states).dtype
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
        s, p, n = (x.to(low) for x in (states, positives, negatives))
        offset = log_expected.to(wide)
        of_states, of_positives = torch.empty_like(states), torch.empty_like(positives)
        of_negatives = torch.zeros(negatives.shape, dtype=wide, device=states.device)
        size = max(1, LOGITS // max(1, len(negatives)))
        edges = torch.arange(0, len(states) + size, size, device=states.device).clamp(max=len(states))
        bounds = None if rows is None else torch.searchsorted(rows, edges).tolist()
        room = torch.empty(size, len(negatives), dtype=low, device=states.device)
        total = torch.zeros((), dtype=wide, device=states.device)
        for number, first in enumerate(range(0, len(states), size)):
            piece = slice(first, min(first + size, len(states)))
            logits = torch.mm(s[piece], n.T, out=room[: piece.stop - first]).to(wide).sub_(offset)
            if bounds is not None and rows is not None and columns is not None:
                some = slice(bounds[number], bounds[number + 1])
                logits[rows[some] - first, columns[some]] = -torch.inf
            right = (s[piece].to(wide) * p[piece].to(wide)).sum(-1, keepdim=True)
            top = torch.maximum(logits.amax(-1, keepdim=True), right) if len(negatives) else right
            shares = logits.sub_(top).exp_()
            own = (right - top).exp_()
            mass = shares.sum(-1, keepdim=True) + own
            total += (mass.log() + top - right).sum()
            lacking = own / mass - 1  # the slope of the loss by the positive's logit
            slope = shares.div_(mass).to(low)
            of_states[piece] = (slope @ n).to(states.dtype) + (lacking * p[piece]).to(states.dtype)
            of_positives[piece] = (lacking * s[piece]).to(positives.dtype)
            of_negatives += slope.T @ s[piece]
        ctx.count = len(states)  # type: ignore[attr-defined]
        ctx.save_for_backward(of_states, of_positives, of_negatives.to(negatives.dtype))
        return total / len(states)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor | None, ...]:
        share = slope / ctx.count  # type: ignore[attr-defined]
        gradients = (found * share.to(found.dtype) for found in ctx.saved_tensors)  # type: ignore[attr-defined]
        return (*gradients, None, None, None)
