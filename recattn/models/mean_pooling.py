"""DIN without its attention: the baseline that an attention has to beat."""

from typing import Unpack

from recattn.models.din import BARE
from recattn.models.target_attention import TargetAttention, TargetAttentionOptions
from recattn.nn import ConstantScorer


def MeanPooling(  # noqa: N802 - reads as the class that users look for
    num_items: int, *, dim: int = 64, **options: Unpack[TargetAttentionOptions]
) -> TargetAttention:
    """logit_c = MLP([mean of e_j over the history, e_c, profile, context_c]) + bias_c: `DIN` with equal weights.

    The pooled vector is the same for all candidates. With ``recency`` or ``use_times`` the mean is weighed by how old
    an event is, still not by the candidate. Zhou et al. (KDD 2018) call it the base model (section 4.1, there a sum).
    options: as DIN's.
    Raises ConfigError for what TargetAttention refuses.

    >>> MeanPooling(11, dim=4).scorer
    ConstantScorer()
    """
    options.setdefault("readout_activation", "dice")
    return TargetAttention(
        num_items,
        dim=dim,
        num_heads=1,
        scorer=ConstantScorer(),
        profile_in_readout=bool(options.get("profile_sizes")),
        **(BARE | options),
    )
