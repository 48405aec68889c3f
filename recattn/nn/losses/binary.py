"""Each item is a yes or no of its own: binary cross-entropy, and its correction for sampled negatives."""

import math
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from recattn.errors import ConfigError
from recattn.nn.attended import at_least_float32
from recattn.nn.checks import check_share

Number = TypeVar("Number", float, Tensor)


def binary_loss(positive: Tensor, negatives: Tensor, ignored: Tensor | None = None) -> Tensor:
    """-log σ(p) - mean_j log(1 - σ(n_j)), the mean over targets: each item is a yes or no of its own.

    Arguments as in `sampled_softmax_loss`; a target whose negatives are all ignored counts its positive alone.

    >>> round(binary_loss(torch.zeros(1), torch.zeros(1, 3)).item(), 4)
    1.3863
    """
    positive, negatives = at_least_float32(positive), at_least_float32(negatives)
    kept = kept_negatives(negatives, ignored)
    against = (F.softplus(negatives) * kept).sum(-1) / kept.sum(-1).clamp(min=1)
    return (F.softplus(-positive) + against).sum() / max(len(positive), 1)


def gbce_loss(
    positive: Tensor, negatives: Tensor, ignored: Tensor | None = None, *, num_items: int, calibration: float = 0.75
) -> Tensor:
    """-(β log σ(p) + Σ_j log(1 - σ(n_j))) / (k + 1), the mean over targets; β = 1 - t (1 - α), α = k / (num_items - 1).

    With k negatives out of num_items - 1 a share α of the catalogue is seen, so plain binary cross-entropy comes out
    overconfident; β weakens the positive by as much. Petrov and Macdonald 2023 (gSASRec), equations 12 to 15.

    Arguments as in `sampled_softmax_loss`; k counts the negatives of a target that are not ignored.
    num_items: size of the catalogue, more than k. calibration: t in [0, 1]; 0 is binary cross-entropy, 1 gives
        calibrated probabilities.
    Raises ConfigError for values outside of these.

    >>> round(gbce_loss(torch.zeros(1), torch.zeros(1, 3), num_items=4, calibration=1.0).item(), 4)
    0.6931
    """
    check_share("calibration", calibration)
    if num_items <= negatives.shape[-1]:
        raise ConfigError(
            f"num_items must be more than the {negatives.shape[-1]} negatives of a target, got {num_items}"
        )
    # In bf16 the counts of large catalogues, and so β, would be far off.
    positive, negatives = at_least_float32(positive), at_least_float32(negatives)
    kept = kept_negatives(negatives, ignored)
    count = kept.sum(-1)
    beta = _positive_weight(count, num_items, calibration)
    losses = (beta * F.softplus(-positive) + (F.softplus(negatives) * kept).sum(-1)) / (count + 1)
    return losses.sum() / max(len(positive), 1)


def gbce_prior(num_negatives: int, *, num_items: int, calibration: float = 0.75) -> float:
    """log(β / k): `gbce_loss` is least at this logit for a model that knows nothing and gives all items the same.

    Arguments as in `gbce_loss`; num_negatives: k.

    >>> round(gbce_prior(3, num_items=4, calibration=0.0), 4)
    -1.0986
    """
    return math.log(_positive_weight(num_negatives, num_items, calibration) / num_negatives)


def _positive_weight(count: Number, num_items: int, calibration: float) -> Number:
    """β."""
    return 1 - calibration * (1 - count / (num_items - 1))


def kept_negatives(negatives: Tensor, ignored: Tensor | None) -> Tensor:
    """1 for each negative that counts and 0 for the others, like negatives."""
    return torch.ones_like(negatives) if ignored is None else (~ignored).to(negatives.dtype)
