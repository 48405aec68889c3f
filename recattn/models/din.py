"""The Deep Interest Network, as presets of TargetAttention."""

import math
from collections.abc import Sequence
from typing import Literal

from recattn.errors import ConfigError
from recattn.models.target_attention import TargetAttention
from recattn.nn import ActivationUnitScorer, Identity, Softmax
from recattn.nn.dense.mlp import Activation


def DIN(  # noqa: N802 - reads as the class that users look for
    num_items: int,
    *,
    dim: int = 64,
    form: Literal["paper", "code"] = "paper",
    softmax: bool | None = None,
    hidden_dims: Sequence[int] | None = None,
    readout_dims: Sequence[int] = (200, 80),
    readout_activation: Activation | None = None,
    max_length: int = 50,
    recency: bool = False,
    use_times: bool = False,
    rating_levels: Sequence[float] = (),
    embed_ratings: bool = True,
    profile_sizes: Sequence[int] = (),
    context_sizes: Sequence[int] = (),
    feature_sizes: Sequence[int] = (),
    feature_widths: Sequence[int] | None = None,
    transitions: int = 0,
    dropout: float = 0.0,
    embedding_std: float = 0.05,
) -> TargetAttention:
    """Deep Interest Network (Zhou et al., KDD 2018): one table, an activation unit as scorer, an MLP as readout.

    form: the paper and the code that its authors published are different models.
        ``"paper"``: weights are the unit's scores themselves (no softmax: their sum is the strength of the interest),
        hidden layers with Dice, one of 36.
        ``"code"``: weights are softmax(scores / sqrt(dim)), hidden layers of 80 and 40 with sigmoid.
    softmax: whether the scores are normalised to proportions, in place of the form's: what is retrieved is then a mean
        that the candidate weighs, and does not grow with the history.
    hidden_dims: hidden widths of the unit, in place of the form's.
    readout_dims: hidden widths of the MLP over retrieved vector, candidate, profile and context.
    readout_activation: of that MLP, in place of the form's (Dice, sigmoid).
    The other arguments are TargetAttention's, with what DIN does not have switched off: it knows no order.
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
    return TargetAttention(
        num_items,
        dim=dim,
        num_heads=1,
        scorer=scorer,
        weighting=weighting,
        separate_tables=False,
        readout_dims=readout_dims,
        readout_activation=readout_activation or ("dice" if form == "paper" else "sigmoid"),
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
        transitions=transitions,
        dropout=dropout,
        embedding_std=embedding_std,
    )
