"""The Deep Interest Network, as presets of TargetAttention."""

import math
from collections.abc import Sequence
from typing import Literal, Unpack

from recattn.errors import ConfigError
from recattn.models.target_attention import TargetAttention, TargetAttentionOptions
from recattn.nn import ActivationUnitScorer, Identity, Softmax

BARE: TargetAttentionOptions = {
    "separate_tables": False,
    "readout_dims": (200, 80),
    "max_length": 50,
    "recency": False,
    "use_times": False,
    "embed_ratings": True,
    "transitions": 0,
    "dropout": 0.0,
}
"""TargetAttention's arguments without what DIN does not have: order, time, counts, tables of their own, dropout."""


def DIN(  # noqa: N802 - reads as the class that users look for
    num_items: int,
    *,
    dim: int = 64,
    form: Literal["paper", "code"] = "paper",
    softmax: bool | None = None,
    hidden_dims: Sequence[int] | None = None,
    **options: Unpack[TargetAttentionOptions],
) -> TargetAttention:
    """Deep Interest Network (Zhou et al., KDD 2018): one table, an activation unit as scorer, an MLP as readout.

    form: the paper and the code that its authors published are different models.
        ``"paper"``: weights are the unit's scores themselves (no softmax: their sum is the strength of the interest),
        hidden layers with Dice, one of 36.
        ``"code"``: weights are softmax(scores / sqrt(dim)), hidden layers of 80 and 40 with sigmoid.
    softmax: whether the scores are normalised to proportions, in place of the form's: what is retrieved is then a mean
        that the candidate weighs, and does not grow with the history.
    hidden_dims: hidden widths of the unit, in place of the form's.
    options: TargetAttention's, by default as in `BARE`; readout_activation by default the form's (Dice, sigmoid). The
        profile goes to the MLP.
    Raises ConfigError for another form and for what TargetAttention refuses.

    >>> DIN(11, dim=4, form="code").weighting
    Softmax(temperature=2.0)
    """
    if form == "paper":
        scorer = ActivationUnitScorer(dim, dim, hidden_dims=hidden_dims or (36,), activation="dice")
        weighting: Identity | Softmax = Softmax() if softmax else Identity()
    elif form == "code":
        scorer = ActivationUnitScorer(dim, dim, hidden_dims=hidden_dims or (80, 40), activation="sigmoid")
        weighting = Identity() if softmax is False else Softmax(temperature=math.sqrt(dim))
    else:
        raise ConfigError(f"form must be 'paper' or 'code', got {form!r}")
    options.setdefault("readout_activation", "dice" if form == "paper" else "sigmoid")
    return TargetAttention(
        num_items,
        dim=dim,
        num_heads=1,
        scorer=scorer,
        weighting=weighting,
        profile_in_readout=bool(options.get("profile_sizes")),
        **(BARE | options),
    )
