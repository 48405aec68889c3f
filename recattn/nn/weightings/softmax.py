"""Proportional retrieval: every real event takes part, by the softmax of its score.

A weighting turns scores (..., queries, length) and a mask that broadcasts against them into weights of the same
shape and dtype, exactly 0 where masked; ``kind`` says what the weights mean.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from recattn.nn.attended import WeightsKind, at_least_float32, fill_masked
from recattn.nn.checks import check_positive


def masked_softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax over the real positions of the last axis: a_j = exp(e_j) / sum over real i of exp(e_i).

    scores: (..., length); fp16 and bf16 are normalised in fp32 and cast back.
    mask: bool, broadcasts against scores, True for real; None: all real.
    Returns weights like scores. A row with nothing real is all zeros, and its gradients are zero (not NaN).

    >>> masked_softmax(torch.tensor([[1.0, 1.0, 9.0]]), torch.tensor([[True, True, False]])).tolist()
    [[0.5, 0.5, 0.0]]
    """
    wide = at_least_float32(scores)
    # The lowest finite number, not -inf: the softmax of a row of -inf is NaN, which the second fill would hide from
    # the result but not from anomaly detection. In fp32, because real scores may be as low as fp16 goes.
    weights = fill_masked(wide, mask, torch.finfo(wide.dtype).min).softmax(-1)
    return fill_masked(weights, mask, 0.0).to(scores.dtype)


class Softmax(nn.Module):
    """Proportional retrieval: a = softmax(e / temperature) over the real events.

    temperature: > 0; towards 0 it approaches HardRetrieval, large values approach the mean.
    Nothing real: all weights 0. Raises ConfigError for a temperature that is not above 0.
    Bahdanau et al. 2015 (the alignment softmax); Vaswani et al. 2017, eq. 1.

    >>> Softmax()(torch.tensor([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """

    kind: ClassVar[WeightsKind] = "probability"

    def __init__(self, *, temperature: float = 1.0) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        self.temperature = temperature

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores (..., queries, length) to weights that sum to 1 over the real events."""
        return masked_softmax(at_least_float32(scores) / self.temperature, mask).to(scores.dtype)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"
