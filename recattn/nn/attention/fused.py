"""Softmax attention on torch's fused kernels, with this package's rules for masks and empty rows."""

import torch
from torch import Tensor
from torch.nn import functional as F

from recattn.nn.attended import causal_mask, fill_masked


def fast_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    bias: Tensor | None = None,
    *,
    scale: float | None = None,
    causal: bool = False,
) -> Tensor:
    """softmax(scale q k^T + bias) v by torch's fused kernels; a row with nothing to attend gives 0.

    q: (batch, heads, queries, key_dim); k: (batch, heads, length, key_dim); v: (batch, heads, length, value_dim).
    mask: bool, bias: finite numbers; both broadcast to (batch, heads, queries, length).
    scale: by default 1 / sqrt(key_dim). causal: query i sees keys 0..i only, of as many keys as queries.
    Returns (batch, heads, queries, value_dim).

    The fused CPU kernel wants equally wide keys and values: the narrower are filled up with zeros, which changes
    nothing and was measured 1.1 to 2.6 times as fast as the unfused path (forward and backward, 2 cores).

    >>> fast_attention(torch.ones(1, 1, 2, 3), torch.ones(1, 1, 5, 3), torch.ones(1, 1, 5, 4), None).shape
    torch.Size([1, 1, 2, 4])
    """
    key_dim, value_dim = q.shape[-1], v.shape[-1]
    width = max(key_dim, value_dim)
    if key_dim != value_dim:
        q, k, v = (F.pad(x, (0, width - x.shape[-1])) for x in (q, k, v))
    if causal and (mask is not None or bias is not None):  # the kernels take no mask beside their own
        earlier = causal_mask(q.shape[-2], q.device)
        mask, causal = earlier if mask is None else mask & earlier, False
    alive, attn_mask = None, mask
    if mask is not None:
        # Kernels disagree on a row without keys. Such a row sees everything here, and its result is put to 0 below.
        alive = mask.any(-1, keepdim=True)
        attn_mask = mask | ~alive
    if bias is not None:
        attn_mask = bias.to(q.dtype) if attn_mask is None else fill_masked(bias.to(q.dtype), attn_mask, -torch.inf)
    scale = key_dim**-0.5 if scale is None else scale
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, scale=scale, is_causal=causal)
    return fill_masked(attended if width == value_dim else attended[..., :value_dim], alive, 0.0)
