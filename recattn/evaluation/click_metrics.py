"""Metrics of labelled candidates as pure functions of labels and scores.

The rules: of a positive and a negative with equal scores half a pair counts; a score that is not a finite number is
refused (ConfigError), as are labels other than 0 and 1. A label is True where the user took the item. ``scores`` may be
anything that orders; ``logits`` are log-odds, probability = 1 / (1 + exp(-logit)).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recattn.errors import ConfigError
from recattn.nn.checks import check_count

Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """The share of all pairs of a positive and a negative in which the positive scores higher, ties half.

    labels, scores: (samples,). Raises ConfigError where all labels are equal.

    >>> auc([1, 0, 1, 0], [0.9, 0.3, 0.3, 0.1])
    0.875
    """
    taken, found = checked(labels, scores)
    if taken.all() or not taken.any():
        raise ConfigError(f"all {len(taken)} labels are equal: AUC needs a positive and a negative")
    return OrderedPairs(taken, found, np.zeros(len(taken), np.int64)).auc(np.ones(1))


class OrderedPairs:
    """Samples sorted once, to compute AUC for many choices of their users, as a bootstrap does.

    labels, scores: (samples,), checked. rows: (samples,) numbers of their users, from 0.

    >>> pairs = OrderedPairs(np.array([True, False, False]), np.array([0.5, 0.3, 0.9]), np.array([0, 0, 1]))
    >>> pairs.auc(np.array([3.0, 1.0]))
    0.75
    """

    def __init__(self, labels: Labels, scores: Floats, rows: NDArray[np.int64]) -> None:
        negatives = scores[~labels]
        order = np.argsort(negatives)
        self._positive, self._negative = rows[labels], rows[~labels][order]
        # How many negatives score lower than each positive, and how many at most as high.
        self._below = np.searchsorted(negatives[order], scores[labels], side="left")
        self._not_above = np.searchsorted(negatives[order], scores[labels], side="right")

    def auc(self, counts: Floats) -> float:
        """AUC where user u counts ``counts[u]`` times; NaN where these leave no positive or no negative."""
        negatives = np.concatenate([[0.0], np.cumsum(counts[self._negative])])
        positives = counts[self._positive]
        pairs = positives.sum() * negatives[-1]
        if pairs == 0:
            return float("nan")
        return float(positives @ (negatives[self._below] + negatives[self._not_above]) / (2 * pairs))


class UserAUC(NamedTuple):
    """AUC within each user.

    users: (users,) distinct, ascending. auc: (users,), NaN where all of the user's labels are equal.
    samples: (users,) how many samples each has.
    """

    users: NDArray[np.int64]
    auc: Floats
    samples: NDArray[np.int64]

    @property
    def defined(self) -> Labels:
        """(users,) whether the user has a positive and a negative."""
        return ~np.isnan(self.auc)


def user_aucs(labels: ArrayLike, scores: ArrayLike, users: ArrayLike) -> UserAUC:
    """AUC within each user, all users at once: (R - P (P + 1) / 2) / (P N), R the sum of the P positives' mid-ranks.

    labels, scores, users: (samples,).

    >>> user_aucs([1, 0, 1, 1], [0.9, 0.3, 0.2, 0.4], [7, 7, 7, 5]).auc.tolist()
    [nan, 0.5]
    """
    taken, found = checked(labels, scores)
    owners = np.asarray(users)
    if owners.shape != taken.shape:
        raise ConfigError(f"users is {owners.shape}: it must be {taken.shape} as labels are")
    known, rows = np.unique(owners, return_inverse=True)
    order = np.lexsort((found, rows))
    ordered, owner = found[order], rows[order]
    samples = np.bincount(rows)
    begins = np.cumsum(samples) - samples
    new = np.concatenate([[True], (owner[1:] != owner[:-1]) | (ordered[1:] != ordered[:-1])])
    first = np.flatnonzero(new)
    ties = np.diff(first, append=len(order))
    mid = (first + (ties + 1) / 2)[np.cumsum(new) - 1] - begins[owner]  # ranks from 1, the mean where scores tie
    positives = np.bincount(rows, weights=taken)
    pairs = positives * (samples - positives)
    above = np.bincount(owner, weights=mid * taken[order]) - positives * (positives + 1) / 2
    return UserAUC(known, np.divide(above, pairs, out=np.full(len(known), np.nan), where=pairs > 0), samples)


def gauc(labels: ArrayLike, scores: ArrayLike, users: ArrayLike, *, alike: bool = False) -> float:
    """The mean over users of AUC within the user, weighted by samples: Σ_u n_u AUC_u / Σ_u n_u (Zhu et al. 2017).

    Users whose labels are all equal have no AUC and are left out of both sums (`user_aucs` tells which).
    alike: weigh each user alike instead, n_u = 1.
    Raises ConfigError where no user has a positive and a negative.

    >>> gauc([1, 0, 1, 1, 0], [0.9, 0.3, 0.2, 0.1, 0.2], [7, 7, 7, 5, 5])
    0.3
    """
    of_users = user_aucs(labels, scores, users)
    kept = of_users.defined
    if not kept.any():
        raise ConfigError(
            f"none of {len(kept)} users has both a positive and a negative: GAUC needs one, AUC (monitor auc) does not"
        )
    return float(np.average(of_users.auc[kept], weights=None if alike else of_users.samples[kept]))


def log_loss(labels: ArrayLike, logits: ArrayLike) -> float:
    """-mean(y log p + (1 - y) log(1 - p)) in nats, from the logits, so that no probability is clipped.

    >>> round(log_loss([1, 0], [0.0, -2.0]), 4)
    0.41
    """
    return float(log_losses(*checked(labels, logits)).mean())


def log_losses(labels: Labels, logits: Floats) -> Floats:
    """(samples,) the loss of each sample: log(1 + exp(z)) - y z."""
    return np.logaddexp(0.0, logits) - labels * logits


def sigmoid(logits: Floats) -> Floats:
    """Probabilities 1 / (1 + exp(-z)), without overflow for any z."""
    return np.exp(-np.logaddexp(0.0, -logits))


def calibration(labels: ArrayLike, logits: ArrayLike) -> float:
    """Σ p / Σ y, expected over observed positives: 1 is right on the whole, above 1 expects too many (He et al. 2014).

    Raises ConfigError where no label is positive.

    >>> calibration([1, 0], [0.0, 0.0])
    1.0
    """
    taken, found = checked(labels, logits)
    if not taken.any():
        raise ConfigError(f"none of {len(taken)} labels is positive: calibration divides by their number")
    return float(sigmoid(found).sum() / taken.sum())


class ReliabilityCurve(NamedTuple):
    """Bins of equally many samples by ascending probability.

    expected: (bins,) mean probability. observed: (bins,) share of positives. counts: (bins,) samples.
    """

    expected: Floats
    observed: Floats
    counts: NDArray[np.int64]


def reliability_curve(labels: ArrayLike, probabilities: ArrayLike, *, bins: int = 10) -> ReliabilityCurve:
    """What was expected beside what was observed, in bins whose counts differ by one at most.

    Equal probabilities may fall into neighbouring bins, in the order of the samples. Fewer samples than bins: a bin
    each.
    labels, probabilities: (samples,). Raises ConfigError for bins below 1.

    >>> reliability_curve([0, 0, 1, 1], [0.3, 0.3, 0.9, 0.9], bins=2).observed.tolist()
    [0.0, 1.0]
    """
    check_count("bins", bins)
    taken, found = checked(labels, probabilities)
    order = np.argsort(found, kind="stable")
    edges = np.linspace(0, len(order), min(bins, len(order)) + 1).astype(np.int64)
    counts = np.diff(edges)
    sums = (np.add.reduceat(values[order], edges[:-1]) for values in (found, taken.astype(np.float64)))
    expected, observed = (total / counts for total in sums)
    return ReliabilityCurve(expected, observed, counts)


def checked(labels: ArrayLike, scores: ArrayLike) -> tuple[Labels, Floats]:
    """Labels as bool and scores as float64, (samples,) each; raises ConfigError by the rules of this module.

    >>> checked([1, 0], [2, 3])[0].tolist()
    [True, False]
    """
    given, found = np.asarray(labels), np.asarray(scores, np.float64)
    if given.ndim != 1 or not given.size or given.shape != found.shape:
        raise ConfigError(f"labels {given.shape} and scores {found.shape}: both must be (samples,), at least one")
    if not np.isin(given, (0, 1)).all():
        raise ConfigError(f"labels hold {given[~np.isin(given, (0, 1))][0]}: allowed are 0 and 1")
    wrong = ~np.isfinite(found)
    if wrong.any():
        raise ConfigError(f"{wrong.sum()} of {len(found)} scores are no finite numbers, the first is {found[wrong][0]}")
    return given.astype(bool), found
