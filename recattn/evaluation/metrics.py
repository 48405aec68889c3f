"""Metrics as pure functions of ranks.

The rule: each target is a query of its own, with one relevant item; HR, NDCG and MRR are means over the targets.
Recall is a mean over users: the share of a user's targets that the top k of their queries hold. Where each user has
one target, recall@k and HR@k are the same number.

The functions return one value per target (recall: per user); :mod:`recattn.evaluation.summary` makes means and
intervals of them. A k above the number of items is allowed: every target is then in the top k. Ranks count from 1.
"""

import numpy as np
from numpy.typing import NDArray

from recattn.errors import ConfigError

Ranks = NDArray[np.int64]
Values = NDArray[np.float64]


def _checked(ranks: Ranks, k: int | None) -> Ranks:
    if k is not None and k < 1:
        raise ConfigError(f"k is {k}: it must be at least 1")
    ranks = np.asarray(ranks)
    if ranks.size and ranks.min() < 1:
        raise ConfigError(f"ranks hold {ranks.min()}: they count from 1")
    return ranks


def hit_rate(ranks: Ranks, k: int) -> Values:
    """HR@k of each target: 1 if rank <= k, else 0. Denominator of the mean: the targets.

    >>> hit_rate(np.array([1, 3, 11]), 10).tolist()
    [1.0, 1.0, 0.0]
    """
    return (_checked(ranks, k) <= k).astype(np.float64)


def ndcg(ranks: Ranks, k: int) -> Values:
    """NDCG@k of each target: 1 / log2(rank + 1) if rank <= k, else 0 (Järvelin & Kekäläinen 2002).

    A query has one relevant item, so the ideal DCG is 1 and divides nothing away. Denominator of the mean: the targets.

    >>> ndcg(np.array([1, 3, 11]), 10).tolist()
    [1.0, 0.5, 0.0]
    """
    ranks = _checked(ranks, k)
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)


def mrr(ranks: Ranks, k: int | None = None) -> Values:
    """Reciprocal rank of each target: 1 / rank, and 0 beyond rank k where k is given. Denominator: the targets.

    With one relevant item a query, average precision is the same number: the mean is MAP@k too.

    >>> mrr(np.array([1, 4, 20]), 10).tolist()
    [1.0, 0.25, 0.0]
    """
    ranks = _checked(ranks, k)
    reciprocal = 1.0 / ranks
    return reciprocal if k is None else np.where(ranks <= k, reciprocal, 0.0)


def recall(ranks: Ranks, users: NDArray[np.int64], k: int) -> Values:
    """Recall@k of each user: the user's targets with rank <= k, divided by all of the user's targets.

    The denominator is not cut at k: a user with more targets than k can still reach 1, as each target has a top k
    of its own.

    users: (targets,) the user of each target.
    Returns (distinct users,) in ascending order of user.

    >>> recall(np.array([1, 30, 2]), np.array([7, 7, 5]), 10).tolist()
    [1.0, 0.5]
    """
    hits = hit_rate(ranks, k)
    if np.shape(users) != hits.shape:
        raise ConfigError(f"users is {np.shape(users)}: it must be {hits.shape} as ranks are")
    _, rows = np.unique(users, return_inverse=True)
    counts: NDArray[np.int64] = np.bincount(rows)
    return np.bincount(rows, weights=hits) / counts
