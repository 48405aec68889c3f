"""ETA: the nearest events by hash codes, end to end."""

from typing import Unpack

from recattn.models.target_ranker import RankerOptions, TargetRanker
from recattn.nn import MultiHeadAttention, SearchedAttention, SimHashSearch


def ETA(  # noqa: N802 - reads as the class that users look for
    num_items: int,
    *,
    dim: int = 64,
    k: int = 50,
    num_bits: int = 64,
    num_heads: int = 2,
    **options: Unpack[RankerOptions],
) -> TargetRanker:
    """Efficient Target Attention (Chen et al. 2021, section 3.3): attention to the k events with the nearest codes.

        code(x) = sign(x R),  found_c = the k events with the smallest Hamming distance to code(e_c)
        retrieved_c = MultiHead(e_c, found_c)

    k: events found at most. num_bits: of a code, a multiple of 8. num_heads: of both attentions, divides dim.
    A second attention reads the last ``short_length`` events exactly. options: TargetRanker's; max_length is 1,000.
    Codes follow the embeddings as they are trained; R stays as it was drawn.
    Raises ConfigError for what TargetRanker and the layers refuse.

    >>> ETA(11, dim=4, k=3).attention_layer.search
    SimHashSearch(dim=4, num_bits=64, k=3)
    """
    options.setdefault("max_length", 1000)
    attention = MultiHeadAttention(dim, dim, num_heads=num_heads)
    return TargetRanker(
        num_items,
        dim=dim,
        attention_layer=SearchedAttention(SimHashSearch(dim, num_bits=num_bits, k=k), attention),
        short_layer=attention,
        **options,
    )
