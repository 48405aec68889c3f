"""DIN without its attention: the baseline that an attention has to beat."""

from collections.abc import Sequence

from recattn.models.target_attention import TargetAttention
from recattn.nn import ConstantScorer
from recattn.nn.dense.mlp import Activation


def MeanPooling(  # noqa: N802 - reads as the class that users look for
    num_items: int,
    *,
    dim: int = 64,
    readout_dims: Sequence[int] = (200, 80),
    readout_activation: Activation = "dice",
    max_length: int = 50,
    recency: bool = False,
    use_times: bool = False,
    rating_levels: Sequence[float] = (),
    embed_ratings: bool = True,
    profile_sizes: Sequence[int] = (),
    context_sizes: Sequence[int] = (),
    feature_sizes: Sequence[int] = (),
    feature_widths: Sequence[int] | None = None,
    dropout: float = 0.0,
    embedding_std: float = 0.05,
) -> TargetAttention:
    """logit_c = MLP([mean of e_j over the history, e_c, profile, context_c]) + bias_c: `DIN` with equal weights.

    The pooled vector is the same for all candidates. With ``recency``, ``use_times`` or ``rating_levels`` the mean is
    weighed by what the event is, still not by the candidate. Zhou et al. (KDD 2018) call it the base model (section
    4.1, there a sum). The arguments are DIN's and TargetAttention's.
    Raises ConfigError for what TargetAttention refuses.

    >>> MeanPooling(11, dim=4).scorer
    ConstantScorer()
    """
    return TargetAttention(
        num_items,
        dim=dim,
        num_heads=1,
        scorer=ConstantScorer(),
        separate_tables=False,
        readout_dims=readout_dims,
        readout_activation=readout_activation,
        max_length=max_length,
        recency=recency,
        use_times=use_times,
        rating_levels=rating_levels,
        embed_ratings=embed_ratings,
        profile_sizes=profile_sizes,
        feature_sizes=feature_sizes,
        feature_widths=feature_widths,
        profile_in_readout=bool(profile_sizes),
        context_sizes=context_sizes,
        transitions=0,
        dropout=dropout,
        embedding_std=embedding_std,
    )
