"""SIM: the part of a long history that has to do with the candidate is searched first."""

from typing import Literal, Unpack

from recattn.models.target_ranker import RankerOptions, TargetRanker
from recattn.nn import CategorySearch, DotSearch, MultiHeadAttention, SearchedAttention
from recattn.nn.checks import check_choice


def SIM(  # noqa: N802 - reads as the class that users look for
    num_items: int,
    *,
    dim: int = 64,
    form: Literal["soft", "hard"] = "soft",
    k: int = 50,
    num_heads: int = 2,
    **options: Unpack[RankerOptions],
) -> TargetRanker:
    """Search-based Interest Model (Pi et al., CIKM 2020, section 3): attention to k events that a search found.

        found_c = the k events with the largest r_j,  retrieved_c = MultiHead(e_c, found_c)

    form: ``"hard"``: r_j = 1[category(j) = category(c)], the most recent first; the category is the first code of the
        items' first feature, so feature_sizes is needed. ``"soft"``: r_j = e_c · e_j / sqrt(dim) plus the bias of age
        and time. The paper learns projections for r by a loss of their own; here r compares the embeddings that the
        attention trains.
    k: events found at most. num_heads: of both attentions, divides dim.
    A second attention reads the last ``short_length`` events exactly. options: TargetRanker's; max_length is 1,000.
    Raises ConfigError for another form and for what TargetRanker and the layers refuse.

    >>> SIM(11, dim=4, k=3).attention_layer.search
    DotSearch(
      k=3
      (scorer): ScaledDotScorer()
    )
    """
    check_choice("form", form, ("soft", "hard"))
    options.setdefault("max_length", 1000)
    attention = MultiHeadAttention(dim, dim, num_heads=num_heads)
    return TargetRanker(
        num_items,
        dim=dim,
        attention_layer=SearchedAttention(CategorySearch(k) if form == "hard" else DotSearch(k), attention),
        short_layer=attention,
        **options,
    )
