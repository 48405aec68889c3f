"""Weightings that retrieve a given number of events and leave the others at exactly 0: the best one, or the k best.

Equal scores are settled in favour of the EARLIER event (the smaller index), on every run and machine.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from recattn.nn.attended import WeightsKind, at_least_float32, fill_masked
from recattn.nn.checks import check_choice, check_count, check_positive
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
    scores = fill_masked(scores, mask, -torch.inf)
    threshold = scores.topk(k).values[..., -1:]
    above, equal = scores > threshold, scores == threshold
    equal = equal if mask is None else equal & mask  # a real score may be as low as a masked one
    room = k - above.sum(-1, keepdim=True)
    return above | (equal & (equal.cumsum(-1) <= room))


def gumbel_noise(like: Tensor) -> Tensor:
    """Independent draws of -ln(-ln u), u uniform in (0, 1): scores + noise is largest at j with probability softmax_j.

    like: gives shape, type and device; fp32 or wider. Drawn from torch's global generator, always finite.

    >>> gumbel_noise(torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    """
    # -ln u is a standard exponential; torch draws it without ever reaching 0, where the outer logarithm has its pole.
    return -torch.empty_like(like).exponential_().log()


class HardRetrieval(nn.Module):
    """The k best-scoring events, 1/k each, and 0 elsewhere; with k = 1 a dictionary look-up, a = onehot(argmax e).

    With fewer than k real events it is the mean of those. Ties go to the earlier event. Nothing real: all weights 0.

    The value is hard, in training and in evaluation. A step has no gradient of its own, so that training takes one
    from the softmax over all real events, straight through (Bengio et al. 2013): biased, of low variance.

    k: at least 1. temperature: > 0, of the softmax that lends its gradient. Raises ConfigError otherwise.
    gradient: ``"straight_through"``: that of softmax(e / temperature), the k best being taken as they are;
        ``"gumbel"``: in training Gumbel noise g is added to the scores first, which draws k different events with the
        probabilities softmax(e), one after the other (Kool et al. 2019), and the gradient is that of
        softmax((e + g) / temperature) (Jang et al. 2017; Maddison et al. 2017): events other than the best are tried.
        In evaluation there is no noise and no gradient.

    >>> HardRetrieval()(torch.tensor([[1.0, 2.0, 2.0]])).tolist()
    [[0.0, 1.0, 0.0]]
    >>> HardRetrieval(k=2)(torch.tensor([[1.0, 2.0, 2.0]])).tolist()
    [[0.0, 0.5, 0.5]]
    """

    kind: ClassVar[WeightsKind] = "probability"

    def __init__(
        self,
        *,
        k: int = 1,
        temperature: float = 1.0,
        gradient: Literal["straight_through", "gumbel"] = "straight_through",
    ) -> None:
        super().__init__()
        check_count("k", k)
        check_positive("temperature", temperature)
        check_choice("gradient", gradient, ("straight_through", "gumbel"))
        self.k, self.temperature, self.gradient = k, temperature, gradient

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores (..., queries, length) to weights that are equal for k real events of each row and 0 elsewhere."""
        if not self.training:
            return self._hard(scores, mask).to(scores.dtype)
        wide = at_least_float32(scores)
        wide = wide + gumbel_noise(wide) if self.gradient == "gumbel" else wide
        soft = masked_softmax(wide / self.temperature, mask)
        # The bracket is exactly 0 and carries the gradient.
        return (self._hard(wide, mask) + (soft - soft.detach())).to(scores.dtype)

    def _hard(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        best = best_k(scores.detach(), mask, self.k).to(at_least_float32(scores).dtype)
        return best if self.k == 1 else best / best.sum(-1, keepdim=True).clamp(min=1)

    def extra_repr(self) -> str:
        return f"k={self.k}, temperature={self.temperature}, gradient={self.gradient!r}"


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
