"""Losses of next-item training: logits to a scalar."""

import torch
from torch import Tensor
from torch.nn import functional as F


def sampled_softmax_loss(
    positive: Tensor, negatives: Tensor, log_expected: Tensor, ignored: Tensor | None = None
) -> Tensor:
    """-log( e^p / (e^p + Σ_j e^{n_j} / E_j) ), the mean over targets: softmax over a sample of the catalogue.

    E_j is how often item j was expected in the sample (its probability times the number of draws): divided by it, the
    sum estimates the whole catalogue's without bias. The positive was not drawn and is not corrected. With the whole
    catalogue as the sample and E = 1 this is the full cross-entropy. Bengio and Senécal 2008, importance sampling.

    positive: (targets,) logits. negatives: (targets, samples) logits. log_expected: (samples,), log E.
    ignored: bool (targets, samples), True for what is no negative of that target: the target itself, or items
        that the user has already.
    Returns a scalar; 0 for no targets.

    >>> loss = sampled_softmax_loss(torch.zeros(1), torch.zeros(1, 3), torch.zeros(3))
    >>> round(loss.exp().item(), 3)
    4.0
    """
    corrected = negatives - log_expected
    if ignored is not None:
        corrected = corrected.masked_fill(ignored, -torch.inf)
    everything = torch.cat([positive.unsqueeze(-1), corrected], -1)
    return (everything.logsumexp(-1) - positive).sum() / max(len(positive), 1)


def binary_loss(positive: Tensor, negatives: Tensor, ignored: Tensor | None = None) -> Tensor:
    """-log σ(p) - mean_j log(1 - σ(n_j)), the mean over targets: each item is a yes or no of its own.

    Arguments as in `sampled_softmax_loss`; a target whose negatives are all ignored counts its positive alone.

    >>> round(binary_loss(torch.zeros(1), torch.zeros(1, 3)).item(), 4)
    1.3863
    """
    kept = torch.ones_like(negatives) if ignored is None else (~ignored).to(negatives.dtype)
    against = (F.softplus(negatives) * kept).sum(-1) / kept.sum(-1).clamp(min=1)
    return (F.softplus(-positive) + against).sum() / max(len(positive), 1)
