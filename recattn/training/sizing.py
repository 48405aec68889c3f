"""What a model's constructor has to know about the data."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from recattn.data.histories import Histories
from recattn.models.specification import find_factory, parameters_of

MOST_LEVELS = 20
"""Ratings with more distinct values than this are cut at quantiles."""


def data_arguments(
    class_path: str,
    histories: Histories,
    *,
    use_ratings: bool = True,
    use_profile: bool = False,
    use_features: bool = False,
    context_sizes: Sequence[int] = (),
) -> dict[str, Any]:
    """The arguments of a model that follow from the data, as far as its constructor takes them.

    num_items; ``rating_levels``, the ratings that occur; ``profile_sizes``, the codes of each profile field;
    ``feature_sizes`` and ``feature_widths`` of the items' features; ``context_sizes``, the codes of each column of a
    click table's context. histories: of the training part.
    Raises ConfigError for a class path that is no model's.

    >>> h = Histories(np.array([1], np.int32), np.array([0, 1]), num_items=7, ratings=np.array([4.0], np.float32))
    >>> data_arguments("recattn.models.TargetAttention", h)
    {'num_items': 7, 'rating_levels': [4.0]}
    """
    taken = {parameter.name for parameter in parameters_of(find_factory(class_path))}
    arguments: dict[str, Any] = {"num_items": histories.num_items}
    if use_ratings and histories.ratings is not None and "rating_levels" in taken:
        levels = np.unique(histories.ratings)
        if len(levels) > MOST_LEVELS:
            levels = np.unique(np.quantile(histories.ratings, np.linspace(0, 1, MOST_LEVELS)))
        arguments["rating_levels"] = [float(level) for level in levels]
    if use_profile and histories.profile is not None and "profile_sizes" in taken:
        arguments["profile_sizes"] = list(histories.profile_sizes)
    if use_features and histories.features is not None and "feature_sizes" in taken:
        arguments["feature_sizes"] = list(histories.feature_sizes)
        arguments["feature_widths"] = list(histories.feature_widths)
    if context_sizes and "context_sizes" in taken:
        arguments["context_sizes"] = list(context_sizes)
    return arguments
