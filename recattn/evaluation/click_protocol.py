"""Any ranker -> its logits on labelled samples, and what they are worth, with intervals over users."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recattn.batch import RankingBatch
from recattn.data.click_samples import ClickSamples
from recattn.data.click_tables import ClickTable, ClickTableLoader
from recattn.data.clicks import ClickLoader
from recattn.data.histories import Histories
from recattn.errors import ConfigError
from recattn.evaluation.bootstrap import resampled_counts
from recattn.evaluation.click_metrics import (
    OrderedPairs,
    auc,
    checked,
    log_losses,
    reliability_curve,
    sigmoid,
    user_aucs,
)

BATCH_SIZE = 1024


@dataclass(frozen=True)
class ClickEvaluation:
    """What the logits of labelled samples are worth.

    metrics: auc, gauc (weighted by samples), gauc_users (each user alike), log_loss and calibration, each with mean,
        low and high; no gauc where no user has both a positive and a negative.
    about: counts and the reliability curve, as plain data: samples, positives, users, users_without_both (left out of
        gauc), reliability ({"expected", "observed", "counts"}, a list each, see `reliability_curve`).
    """

    metrics: dict[str, dict[str, float]]
    about: dict[str, Any]


def predict_clicks(
    ranker: Callable[[RankingBatch], Tensor], histories: Histories, samples: ClickSamples, *, max_length: int
) -> NDArray[np.float64]:
    """(samples,) the logit of each sample, in the order of the table.

    ranker: from a RankingBatch to logits (batch, candidates), in evaluation mode. max_length: the events that it reads.
    """
    return _logits(ranker, ClickLoader(histories, samples, batch_size=BATCH_SIZE, context=max_length, shuffle=False))


def predict_table(
    ranker: Callable[[RankingBatch], Tensor], table: ClickTable, *, max_length: int
) -> NDArray[np.float64]:
    """(rows,) the logit of each row of a click table, in the order of the table; see `predict_clicks`."""
    return _logits(ranker, ClickTableLoader(table, batch_size=BATCH_SIZE, max_length=max_length, shuffle=False))


def _logits(ranker: Callable[[RankingBatch], Tensor], batches: Iterable[RankingBatch]) -> NDArray[np.float64]:
    with torch.inference_mode():
        found = [ranker(batch)[batch.candidates != 0].cpu().double() for batch in batches]
    return torch.cat(found).numpy()


def evaluate_clicks(
    labels: NDArray[np.bool_] | NDArray[np.float32],
    users: NDArray[np.int64] | NDArray[np.int32],
    logits: Sequence[NDArray[np.float64]],
    *,
    bins: int = 10,
    level: float = 0.95,
    num_samples: int = 1000,
    seed: int = 0,
) -> ClickEvaluation:
    """AUC, GAUC, log-loss and calibration of one model's trainings on the same samples: the mean of each over them.

    The intervals resample users, with the same draws for every metric and training. A resample that leaves a metric
    without a value (no positive, say) has no part in that metric's interval. The reliability curve is that of the
    trainings' mean probability.

    labels: (samples,), 0 or 1. users: (samples,). logits: of each training, (samples,).
    Raises ConfigError for no logits, scores that are no finite numbers, and labels that are all equal.

    >>> found = evaluate_clicks(np.array([True, False]), np.array([3, 3]), [np.array([0.5, -0.5])])
    >>> found.metrics["auc"]["mean"], found.about["users_without_both"]
    (1.0, 0)
    """
    if not logits:
        raise ConfigError("logits is empty: there is no training to measure")
    checks = [checked(labels, each) for each in logits]
    auc(labels, logits[0])  # says what is wrong where labels are all equal
    users = np.asarray(users, np.int64)
    known, rows = np.unique(users, return_inverse=True)
    pairs = [OrderedPairs(*each, rows) for each in checks]
    sums = [_user_sums(*each, rows, users) for each in checks]
    names = ["auc", *sums[0]]
    above = np.stack([np.stack([each[name][0] for name in names[1:]], 1) for each in sums])
    below = np.stack([np.stack([each[name][1] for name in names[1:]], 1) for each in sums])

    def values(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """(metrics,) with user u taken counts[u] times, the mean over trainings."""
        areas = np.mean([each.auc(counts) for each in pairs])
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios = (counts @ above) / (counts @ below)
        return np.concatenate([[areas], np.where(np.isfinite(ratios), ratios, np.nan).mean(0)])

    means = values(np.ones(len(known)))
    blocks = resampled_counts(len(known), num_samples=num_samples, seed=seed)
    resampled = np.array([values(counts) for block in blocks for counts in block])
    defined = np.flatnonzero(np.isfinite(means))
    low, high = np.nanquantile(resampled[:, defined], [(1 - level) / 2, (1 + level) / 2], axis=0)
    curve = reliability_curve(labels, np.mean([sigmoid(each) for _, each in checks], 0), bins=bins)
    about = {
        "samples": len(rows),
        "positives": int(np.sum(labels)),
        "users": len(known),
        "users_without_both": int((~user_aucs(labels, logits[0], users).defined).sum()),
        "reliability": {name: column.tolist() for name, column in curve._asdict().items()},
    }
    metrics = {
        names[metric]: {"mean": float(means[metric]), "low": float(low[place]), "high": float(high[place])}
        for place, metric in enumerate(defined)
    }
    return ClickEvaluation(metrics, about)


def _user_sums(
    labels: NDArray[np.bool_], logits: NDArray[np.float64], rows: NDArray[np.int64], users: NDArray[np.int64]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """For each metric that is a ratio of sums over users: what each user adds above and below, (users,) each."""
    of_users = user_aucs(labels, logits, users)
    both = of_users.defined.astype(np.float64)
    areas = np.nan_to_num(of_users.auc)
    samples = of_users.samples.astype(np.float64)

    def total(values: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(rows, weights=values).astype(np.float64)

    return {
        "gauc": (samples * areas, samples * both),
        "gauc_users": (areas, both),
        "log_loss": (total(log_losses(labels, logits)), samples),
        "calibration": (total(sigmoid(logits)), total(labels)),
    }
