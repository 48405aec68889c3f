"""What presets hand on to the model they are made of."""

from collections.abc import Sequence
from typing import TypedDict

from recattn.models.item_embedding import Combine
from recattn.nn.dense.mlp import Activation


class PresetOptions(TypedDict, total=False):
    """Arguments that `TargetAttention` and `TargetRanker` both have, and that presets of either hand on."""

    separate_tables: bool
    readout_dims: Sequence[int]
    readout_activation: Activation
    max_length: int
    recency: bool
    use_times: bool
    time_aware: bool
    rating_levels: Sequence[float]
    profile_sizes: Sequence[int]
    context_sizes: Sequence[int]
    feature_sizes: Sequence[int]
    feature_widths: Sequence[int] | None
    combine_features: Combine
    id_dropout: float
    dropout: float
    embedding_std: float
