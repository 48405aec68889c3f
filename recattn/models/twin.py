"""TWIN: the search ranks events by the very scores of the attention behind it."""

from typing import Unpack

from recattn.models.target_ranker import RankerOptions, TargetRanker
from recattn.nn import DotScorer, DotSearch, MultiHeadAttention, SearchedAttention


def TWIN(  # noqa: N802 - reads as the class that users look for
    num_items: int,
    *,
    dim: int = 64,
    k: int = 100,
    num_heads: int = 1,
    **options: Unpack[RankerOptions],
) -> TargetRanker:
    """Two-stage interest network in the style of TWIN (Chang et al., KDD 2023): one score for search and attention.

        score_j = (e_j W_K) · (e_c W_Q) / sqrt(dim of a head) + bias_j
        retrieved_c = softmax over the k largest of score_j, applied to e_j W_V, then W_O

    bias_j stands for the paper's user-item cross features, each one number: here the event's age and the time since
    (``recency``, ``use_times``). With several heads the search ranks by their mean score. With a k of the history's
    length this is exact multi-head attention.

    k: events found at most. num_heads: of both attentions, divides dim.
    A second attention reads the last ``short_length`` events exactly. options: TargetRanker's; max_length is 1,000.
    Raises ConfigError for what TargetRanker and the layers refuse.

    >>> TWIN(11, dim=4, k=3).attention_layer.projected
    True
    """
    options.setdefault("max_length", 1000)
    attention = MultiHeadAttention(dim, dim, num_heads=num_heads)
    return TargetRanker(
        num_items,
        dim=dim,
        attention_layer=SearchedAttention(DotSearch(k, DotScorer()), attention, projected=True),
        short_layer=attention,
        **options,
    )
