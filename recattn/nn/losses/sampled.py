"""Softmax over a sample of the catalogue, corrected for how it was drawn."""

import torch
from torch import Tensor


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
