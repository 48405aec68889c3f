"""Ranks -> means with intervals: the ``metrics`` of a result."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recattn.errors import ConfigError
from recattn.evaluation.bootstrap import percentile_bounds, resampled_ratios
from recattn.evaluation.metrics import hit_rate, mrr, ndcg, recall


def summarise(
    ranks: NDArray[np.int64],
    users: NDArray[np.int64],
    ks: Sequence[int] = (5, 10, 20, 50),
    *,
    level: float = 0.95,
    num_samples: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """HR@k, NDCG@k, recall@k for each k, and MRR, each with its interval over users.

    HR, NDCG and MRR are means over targets, recall a mean over users (see :mod:`recattn.evaluation.metrics`). The
    interval resamples users, with the same draws for every metric.

    ranks, users: (targets,) the rank of each target and its user.
    Returns ``{"hr@10": {"mean": ..., "low": ..., "high": ...}, ...}``.
    Raises ConfigError without targets.

    >>> summarise(np.array([1, 30]), np.array([0, 1]), ks=(10,))["hr@10"]["mean"]
    0.5
    """
    if not len(ranks):
        raise ConfigError("ranks is empty: there is no target to summarise")
    _, rows = np.unique(users, return_inverse=True)
    targets_of = np.bincount(rows).astype(np.float64)
    per_target = {f"hr@{k}": hit_rate(ranks, k) for k in ks} | {f"ndcg@{k}": ndcg(ranks, k) for k in ks}
    per_target["mrr"] = mrr(ranks)
    numerators: dict[str, NDArray[np.float64]] = {
        name: np.bincount(rows, weights=values).astype(np.float64) for name, values in per_target.items()
    }
    denominators = dict.fromkeys(numerators, targets_of)
    for k in ks:
        numerators[f"recall@{k}"] = recall(ranks, users, k)
        denominators[f"recall@{k}"] = np.ones(len(targets_of))
    above, below = np.stack(list(numerators.values()), 1), np.stack(list(denominators.values()), 1)
    means = above.sum(0) / below.sum(0)
    low, high = percentile_bounds(resampled_ratios(above, below, num_samples=num_samples, seed=seed), level)
    return {
        name: {"mean": float(means[i]), "low": float(low[i]), "high": float(high[i])}
        for i, name in enumerate(numerators)
    }
