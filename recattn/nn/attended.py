"""What an attention layer returns, and the one place where the mask convention is put to work.

A mask is boolean and ``True`` means *a real thing, may be attended*, as in ``scaled_dot_product_attention``
(``nn.MultiheadAttention`` means the opposite). Scores are masked BEFORE they are normalised: a product with
the mask after a softmax would leave the masked scores in the denominator.
"""

from typing import ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from recattn.errors import ConfigError

WeightsKind = Literal["probability", "gate", "count"]
"""What attention weights mean: ``probability`` (a row sums to 1), ``gate`` (signed or unbounded) or ``count``."""


class Attended(NamedTuple):
    """What was retrieved, and with which weights.

    output: (batch, queries, dim), or (batch, dim) where the layer was given one query a row.
    weights: (batch, queries, length), or (batch, heads, queries, length) from a layer with heads; one query a row
        counts as ``queries = 1``. Before dropout; exactly 0 where masked. None where they were not asked for.
    """

    output: Tensor
    weights: Tensor | None


class Scorer(Protocol):
    """How well does each thing match? (..., queries, dim) and (..., length, dim) to (..., queries, length)."""

    def __call__(self, query: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor: ...


class Weighting(Protocol):
    """From scores (..., queries, length) and a mask that broadcasts against them to weights of the same shape."""

    kind: ClassVar[WeightsKind]

    def __call__(self, scores: Tensor, mask: Tensor | None = None) -> Tensor: ...


def full_mask(mask: Tensor | None, keys: Tensor) -> Tensor | None:
    """A mask that broadcasts against scores (..., queries, length).

    mask: bool, (..., length) for every query alike or (..., queries, length) for each query on its own; None: all real.
    keys: (..., length, dim), the things that the mask is about.
    Returns mask as (..., 1 or queries, length), or None.
    Raises ConfigError for a mask that is not boolean or has another length than the keys.

    >>> full_mask(torch.tensor([[True, False]]), torch.zeros(1, 2, 3)).shape
    torch.Size([1, 1, 2])
    """
    if mask is None:
        return None
    if mask.dtype != torch.bool:
        raise ConfigError(f"mask must be boolean with True for a real event, got {mask.dtype}")
    if mask.shape[-1] != keys.shape[-2]:
        raise ConfigError(f"mask must cover the {keys.shape[-2]} keys, got shape {tuple(mask.shape)}")
    return mask.unsqueeze(-2) if mask.dim() == keys.dim() - 1 else mask


def fill_masked(values: Tensor, mask: Tensor | None, fill: float) -> Tensor:
    """The values with ``fill`` wherever the mask says False; its gradient there is exactly 0.

    >>> fill_masked(torch.tensor([3.0, 4.0]), torch.tensor([True, False]), 0.0).tolist()
    [3.0, 0.0]
    """
    return values if mask is None else values.masked_fill(~mask, fill)


def at_least_float32(values: Tensor) -> Tensor:
    """fp16 and bf16 widened to fp32, other types as they are: exponentials and sums over a history need the digits.

    >>> at_least_float32(torch.ones(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def causal_mask(length: int, device: torch.device | None = None) -> Tensor:
    """(length, length) bool: position i (row) sees itself and what came before it.

    >>> causal_mask(2).tolist()
    [[True, False], [True, True]]
    """
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def check_causal(layer: str, query: Tensor, keys: Tensor) -> None:
    """Raise ConfigError unless the queries (batch, queries, dim) are as many as the keys (batch, length, dim).

    Which keys come before a query is known only where the queries are the sequence itself. One query a row, (batch,
    dim), is taken to come last, and all real keys before it.
    """
    if query.dim() == keys.dim() and query.shape[-2] != keys.shape[-2]:
        raise ConfigError(
            f"a causal {layer} takes a sequence as query and keys, got shapes {tuple(query.shape)} and "
            f"{tuple(keys.shape)}: for other queries make it with causal=False and say by the mask what each may see"
        )
