"""Weightings that retrieve a few events and leave the others at exactly 0: the best one, or the k best.

Equal scores are settled in favour of the EARLIER event (the smaller index), on every run and machine.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from recattn.nn.attended import WeightsKind, at_least_float32, fill_masked
from recattn.nn.checks import check_count, check_positive
from recattn.nn.weightings.softmax import masked_softmax


def best_k(scores: Tensor, mask: Tensor | None, k: int) -> Tensor:
    """Which events are among the k best of their row: bool, like scores; ties go to the earlier event.

    scores: (..., length); mask: bool, broadcasts against scores, True for real; k: at least 1. A row with fewer than
    k real events keeps all of them. Linear in length, where a stable sort is not, and unlike ``torch.topk`` it does
    not leave open which of several equal scores it takes.

    >>> best_k(torch.tensor([[1.0, 3.0, 1.0, 1.0]]), None, 2).tolist()
    [[True, True, False, False]]
    """
    k = min(k, scores.shape[-1])
    scores = fill_masked(scores, mask, torch.finfo(scores.dtype).min)
    threshold = scores.topk(k).values[..., -1:]
    above, equal = scores > threshold, scores == threshold
    room = k - above.sum(-1, keepdim=True)
    best = above | (equal & (equal.cumsum(-1) <= room))
    return best if mask is None else best & mask


class HardRetrieval(nn.Module):
    """One-hot retrieval: weight 1 on the best-scoring event and 0 elsewhere, as in a dictionary look-up.

    a = onehot(argmax e). In training the gradient is that of softmax(e / temperature), straight through (Bengio et
    al. 2013): biased, of low variance, and the forward value stays one-hot. In evaluation there is no gradient.

    temperature: > 0, of the softmax that lends its gradient. Raises ConfigError otherwise.
    Ties go to the earlier event. Nothing real: all weights 0.

    >>> HardRetrieval()(torch.tensor([[1.0, 2.0, 2.0]])).tolist()
    [[0.0, 1.0, 0.0]]
    """

    kind: ClassVar[WeightsKind] = "probability"

    def __init__(self, *, temperature: float = 1.0) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        self.temperature = temperature

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores (..., queries, length) to weights that are 1 for one real event of each row."""
        hard = best_k(scores.detach(), mask, 1).to(scores.dtype)
        if not self.training:
            return hard
        soft = masked_softmax(at_least_float32(scores) / self.temperature, mask).to(scores.dtype)
        return hard + (soft - soft.detach())  # the bracket is exactly 0 and carries the gradient

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"


class TopK(nn.Module):
    """Softmax over the k best-scoring events and exactly 0 elsewhere: a = softmax(e / temperature) on the best k.

    k: at least 1; with fewer than k real events it is the softmax over those. temperature: > 0.
    The events left out get no gradient; ties go to the earlier event. Nothing real: all weights 0.
    Raises ConfigError for a k or a temperature outside of these.

    >>> TopK(2)(torch.tensor([[5.0, 5.0, 5.0, 1.0]])).tolist()
    [[0.5, 0.5, 0.0, 0.0]]
    """

    kind: ClassVar[WeightsKind] = "probability"

    def __init__(self, k: int, *, temperature: float = 1.0) -> None:
        super().__init__()
        check_count("k", k)
        check_positive("temperature", temperature)
        self.k, self.temperature = k, temperature

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores (..., queries, length) to weights that sum to 1 over at most k real events."""
        best = best_k(scores.detach(), mask, self.k)
        return masked_softmax(at_least_float32(scores) / self.temperature, best).to(scores.dtype)

    def extra_repr(self) -> str:
        return f"k={self.k}, temperature={self.temperature}"
