"""Cross-entropy over the whole catalogue, in pieces, so that (targets x items) logits never exist at once."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from recattn.errors import ConfigError
from recattn.nn.attended import at_least_float32

LOGITS = 2**20
"""Logits of a piece: 4 MB in fp32, which caches hold. They are written to one place again and again: fresh memory for
each piece cost a third of the whole loss (page faults)."""


def full_softmax_loss(
    states: Tensor,
    embeddings: Tensor,
    targets: Tensor,
    ignored: tuple[Tensor, Tensor] | None = None,
    *,
    temperature: float = 1.0,
) -> Tensor:
    """-mean_t log( e^{s_t·e_y/τ} / Σ_c e^{s_t·e_c/τ} ): the exact cross-entropy of states with the items that followed.

    states: (targets, dim). embeddings: (items, dim): give ``table[1:]``, padding is no candidate.
    targets: (targets,) int64, rows of embeddings.
    ignored: which items are no candidates of which target, as pairs (rows of states, rows of embeddings), both
        (pairs,) int64 with the first ascending; a target must not be among its own.
    temperature: τ > 0; with both sides of length 1 it sets how sharp cosines are.
    Returns a scalar; 0 for no targets. Matrix products run in bf16 under autocast, sums and exponentials in fp32.

    Memory is a piece of ``LOGITS`` numbers and the gradients, which are computed along with the loss: each logit is
    used while it is there, for 6 targets · items · dim operations in all. It can be differentiated once.
    Raises ConfigError for shapes that do not fit.

    >>> table = torch.eye(3).requires_grad_()
    >>> loss = full_softmax_loss(torch.zeros(2, 3), table, torch.tensor([0, 2]))
    >>> round(loss.exp().item(), 3)
    3.0
    """
    if states.dim() != 2 or embeddings.dim() != 2 or states.shape[1] != embeddings.shape[1]:
        raise ConfigError(
            f"states and embeddings must be (targets, dim) and (items, dim), "
            f"got {tuple(states.shape)} and {tuple(embeddings.shape)}"
        )
    if targets.shape != states.shape[:1]:
        raise ConfigError(f"targets must be ({len(states)},), one for each state, got {tuple(targets.shape)}")
    if not temperature > 0:
        raise ConfigError(f"temperature must be > 0, got {temperature!r}")
    if not len(states):
        return states.sum() * 0.0
    rows, items = (None, None) if ignored is None else ignored
    loss: Tensor = _FullSoftmax.apply(states / temperature, embeddings, targets, rows, items)  # type: ignore[no-untyped-call]
    return loss


class _FullSoftmax(torch.autograd.Function):
    """The loss with its gradients made piece by piece: the automatic ones would keep or remake all logits."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, states: Tensor, embeddings: Tensor, targets: Tensor, rows: Tensor | None, items: Tensor | None
    ) -> Tensor:
        device = states.device.type
        wide = at_least_float32(states).dtype
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
        s, e = states.to(low), embeddings.to(low)
        wanted = ctx.needs_input_grad[:2]  # type: ignore[attr-defined]
        of_states = torch.empty_like(states) if any(wanted) else None
        of_embeddings = torch.zeros(embeddings.shape, dtype=wide, device=states.device) if any(wanted) else None
        size = max(1, LOGITS // len(embeddings))
        bounds = None
        if rows is not None:
            edges = torch.arange(0, len(states) + size, size, device=rows.device).clamp(max=len(states))
            bounds = torch.searchsorted(rows, edges).tolist()
        total = torch.zeros((), dtype=wide, device=states.device)
        room = torch.empty(size, len(embeddings), dtype=low, device=states.device)
        for number, first in enumerate(range(0, len(states), size)):
            piece = slice(first, min(first + size, len(states)))
            logits = torch.mm(s[piece], e.T, out=room[: piece.stop - first]).to(wide)
            if bounds is not None and rows is not None and items is not None:
                some = slice(bounds[number], bounds[number + 1])
                logits[rows[some] - first, items[some]] = -torch.inf
            aim = targets[piece, None]
            top = logits.amax(-1, keepdim=True)
            right = logits.gather(1, aim)
            shares = logits.sub_(top).exp_()
            mass = shares.sum(-1, keepdim=True)
            total += (mass.log() + top - right).sum()
            if of_states is None or of_embeddings is None:
                continue
            shares.div_(mass).scatter_add_(1, aim, shares.new_full((), -1.0).expand_as(aim))
            slope = shares.to(low)
            of_states[piece] = (slope @ e).to(states.dtype)
            of_embeddings.addmm_(slope.T, s[piece]) if low == wide else of_embeddings.add_(slope.T @ s[piece])
        ctx.count = len(states)  # type: ignore[attr-defined]
        if of_states is not None and of_embeddings is not None:
            ctx.save_for_backward(of_states, of_embeddings.to(embeddings.dtype))
        return total / len(states)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        of_states, of_embeddings = ctx.saved_tensors  # type: ignore[attr-defined]
        share = slope / ctx.count  # type: ignore[attr-defined]
        return (
            (of_states * share).to(of_states.dtype),
            (of_embeddings * share).to(of_embeddings.dtype),
            None,
            None,
            None,
        )
