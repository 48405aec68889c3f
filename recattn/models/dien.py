"""DIEN: how the interest in the candidate evolved, by one GRU over the history and another over its states."""

from typing import Unpack

from recattn.models.target_ranker import RankerOptions, TargetRanker
from recattn.nn import InterestEvolution, InterestExtractor
from recattn.nn.recurrent.augru import AttentionForm


def DIEN(  # noqa: N802 - reads as the class that users look for
    num_items: int,
    *,
    dim: int = 64,
    form: AttentionForm = "augru",
    **options: Unpack[RankerOptions],
) -> TargetRanker:
    """Deep Interest Evolution Network (Zhou et al., AAAI 2019).

        h_t = GRU(e_1, ..., e_t),  a_t = softmax_t(h_t^T W e_c),  retrieved_c = last state of AUGRU(h, a)
        L = L_target + auxiliary_weight L_aux,  L_aux = -mean_t [log σ(h_t · e_{t+1}) + log(1 - σ(h_t · ê_{t+1}))]

    The first GRU reads a history once for all candidates; the second runs for each of them. ê is an item drawn at
    random; `RankingTask` adds L_aux by itself.

    form: ``"augru"``, ``"agru"`` or ``"aigru"``, see `AUGRU`. options: TargetRanker's; max_length is 50 (the steps are
    taken one after another), recency is off, as the GRUs know the order, and the MLP has Dice. With separate_tables a_t
    compares the embeddings for matching, and the GRUs read those of content.
    Raises ConfigError for another form, and for what TargetRanker refuses.

    >>> DIEN(11, dim=4).extractor
    InterestExtractor(
      input_dim=4, hidden_dim=4
      (gru): GRU(4, 4, batch_first=True)
    )
    """
    options.setdefault("max_length", 50)
    options.setdefault("recency", False)
    options.setdefault("readout_activation", "dice")
    return TargetRanker(
        num_items,
        dim=dim,
        extractor=InterestExtractor(dim, dim),
        attention_layer=InterestEvolution(dim, dim, hidden_dim=dim, form=form),
        **options,
    )
