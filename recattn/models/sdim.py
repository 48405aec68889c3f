"""SDIM: the events whose hash code collides with the candidate's, summed up once a user."""

from typing import Unpack

from recattn.models.target_ranker import RankerOptions, TargetRanker
from recattn.nn import BucketHashPooling, MultiHeadAttention


def SDIM(  # noqa: N802 - reads as the class that users look for
    num_items: int,
    *,
    dim: int = 64,
    num_groups: int = 16,
    num_bits: int = 3,
    num_heads: int = 2,
    **options: Unpack[RankerOptions],
) -> TargetRanker:
    """Sampling is all you need on modelling Long-term user behaviours (Cao et al., CIKM 2022, section 4.2).

        retrieved_c = mean over groups g of unit( sum of e_j over the j with code_g(e_j) = code_g(e_c) )

    An event shares the candidate's bucket of a group with probability (1 - angle / pi)^num_bits: the attention that is
    meant, without a score for any pair. See `BucketHashPooling`.

    num_groups, num_bits: of the hashes. num_heads: of a second attention, which reads the last ``short_length`` events
    exactly; age and time count in this one alone. options: TargetRanker's; max_length is 1,000.
    Raises ConfigError for what TargetRanker and the layers refuse.

    >>> SDIM(11, dim=4).attention_layer
    BucketHashPooling(dim=4, num_groups=16, num_bits=3, normalize=True)
    """
    options.setdefault("max_length", 1000)
    return TargetRanker(
        num_items,
        dim=dim,
        attention_layer=BucketHashPooling(dim, num_groups=num_groups, num_bits=num_bits),
        short_layer=MultiHeadAttention(dim, dim, num_heads=num_heads),
        **options,
    )
