"""The positive against the negatives that come closest to it."""

import torch
from torch import Tensor
from torch.nn import functional as F


def bpr_max_loss(
    positive: Tensor, negatives: Tensor, ignored: Tensor | None = None, *, regularisation: float = 0.0
) -> Tensor:
    """-log Σ_j w_j σ(p - n_j) + λ Σ_j w_j n_j², w = softmax of the negatives; the mean over targets.

    Hidasi and Karatzoglou 2018 (GRU4Rec), equations 10 and 11. The gradient flows through w as well.

    Arguments as in `sampled_softmax_loss`; a target whose negatives are all ignored counts 0. regularisation: λ >= 0.

    >>> round(bpr_max_loss(torch.zeros(1), torch.zeros(1, 3)).item(), 4)
    0.6931
    """
    scores = negatives if ignored is None else negatives.masked_fill(ignored, torch.finfo(negatives.dtype).min)
    log_weights = scores.log_softmax(-1)
    margins = F.logsigmoid(positive.unsqueeze(-1) - scores)
    penalty = regularisation * (log_weights.exp() * negatives.square()).sum(-1)
    losses = penalty - (log_weights + margins).logsumexp(-1)
    if ignored is not None:
        losses = losses.masked_fill(ignored.all(-1), 0.0)
    return losses.sum() / max(len(positive), 1)
