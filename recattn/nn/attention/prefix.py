"""Sums over all that came before, for every position of a sequence at once, in time linear in its length."""

import torch
from torch import Tensor
from torch.nn import functional as F

from recattn.nn.attended import causal_mask

CHUNK = 32
"""Events a chunk, whatever the length: pairs are formed inside of chunks only."""


def running_top(scale: Tensor) -> Tensor:
    """The largest scale (..., length) up to each position, finite also where all are -inf; without gradients."""
    return scale.detach().cummax(-1).values.clamp(min=torch.finfo(scale.dtype).min)


def decay(scale: Tensor, top: Tensor) -> Tensor:
    """e^(scale_j - top_i) for j <= i, else 0, (..., length, length); scale, top: (..., length)."""
    exponents = scale.unsqueeze(-2) - top.unsqueeze(-1)
    return exponents.masked_fill_(~causal_mask(scale.shape[-1], scale.device), -torch.inf).exp_()


def prefix_sums(q: Tensor, k: Tensor, scale: Tensor, v: Tensor) -> Tensor:
    """s_i = sum over j <= i of e^(scale_j - top_i) (q_i . k_j) v_j with top_i the largest scale up to i.

    q, k: (batch, heads, length, features). scale: (batch, heads, length), -inf for what is not there.
    v: (batch, heads, length, value_dim). Returns (batch, heads, length, value_dim).

    Pairs of one chunk are multiplied out; what lies in earlier chunks comes as their running sum of k v^T. Everything
    is scaled by maxima over the past alone: no future event, however large, touches the result.
    """
    length = q.shape[-2]
    chunks = max(1, -(-length // CHUNK))
    padding = chunks * CHUNK - length
    q, k, v = (F.pad(x, (0, 0, 0, padding)).unflatten(-2, (chunks, CHUNK)) for x in (q, k, v))
    scale = F.pad(scale, (0, padding), value=-torch.inf)
    scale, top = (x.unflatten(-1, (chunks, CHUNK)) for x in (scale, running_top(scale)))
    sums = (q @ k.mT * decay(scale, top)) @ v
    if chunks > 1:
        end = top[..., -1]  # (batch, heads, chunks)
        start = F.pad(end, (1, -1), value=torch.finfo(scale.dtype).min)
        # What each chunk adds to the state, (batch, heads, chunks, features, value_dim).
        added = k.mT @ (v * (scale - end.unsqueeze(-1)).exp().unsqueeze(-1))
        kept = (start - end).exp()[..., None, None]
        state, states = torch.zeros_like(added[..., 0, :, :]), []
        for more, share in zip(added.unbind(-3), kept.unbind(-3), strict=True):
            states.append(state)
            state = state * share + more
        sums = sums + (start.unsqueeze(-1) - top).exp().unsqueeze(-1) * (q @ torch.stack(states, -3))
    return sums.flatten(-3, -2)[..., :length, :]
