"""A stack in which the candidate asks the history again and again."""

from typing import Unpack

from recattn.models.target_ranker import RankerOptions, TargetRanker
from recattn.nn import MultiHeadAttention, TargetStack


def STCA(  # noqa: N802 - reads as the class that users look for
    num_items: int,
    *,
    dim: int = 64,
    num_layers: int = 2,
    num_heads: int = 2,
    hidden_dim: int | None = None,
    **options: Unpack[RankerOptions],
) -> TargetRanker:
    """Stacked target-to-history cross attention, in the style of STCA (2025, arXiv 2511.06077).

        h = norm(h + SwiGLU(h)),  q = q + MultiHead(norm(q), h),  q = q + SwiGLU(norm(q))      num_layers times

    No event looks at another: linear in the history's length, so the whole of it is read exactly. See `TargetStack`.

    num_layers, num_heads, hidden_dim: of the stack. options: TargetRanker's; max_length is 1,000.
    Raises ConfigError for what TargetRanker and the layers refuse.

    >>> STCA(11, dim=4, num_layers=3).attention_layer.num_layers
    3
    """
    options.setdefault("max_length", 1000)
    attention = MultiHeadAttention(dim, dim, num_heads=num_heads)
    return TargetRanker(
        num_items,
        dim=dim,
        attention_layer=TargetStack(dim, attention=attention, num_layers=num_layers, hidden_dim=hidden_dim),
        **options,
    )
