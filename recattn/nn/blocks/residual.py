"""The path around a sublayer: where the norm stands, and how much of the sublayer is let in."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from recattn.nn.checks import check_choice, check_count, check_fraction
from recattn.nn.dense.dropout import dropout

Norm = Literal["pre", "post"]


class Residual(nn.Module):
    """x + g ∘ f(norm(x)) with ``norm="pre"``, norm(x + g ∘ f(x)) with ``norm="post"``; g = sigmoid(W x) or 1.

    Post-norm is the original transformer's (Vaswani et al. 2017), pre-norm trains deeper stacks (Xiong et al. 2020),
    the gate g is the one of LiGR (Borisyuk et al. 2025). The norm is LayerNorm.

    dim: width, >= 1. norm: ``"pre"`` or ``"post"``. gated: whether there is a gate. dropout: in [0, 1), of what
    the sublayer gives, training only. Raises ConfigError for anything else.

    >>> Residual(3, norm="pre")(torch.ones(2, 5, 3), torch.zeros_like).tolist() == torch.ones(2, 5, 3).tolist()
    True
    """

    def __init__(self, dim: int, *, norm: Norm = "pre", gated: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        check_count("dim", dim)
        check_choice("norm", norm, ("pre", "post"))
        check_fraction("dropout", dropout)
        self.dim, self.gated, self.dropout = dim, gated, dropout
        self.norm: Norm = norm
        self.layer_norm = nn.LayerNorm(dim)
        self.gate = nn.Linear(dim, dim, bias=False) if gated else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The norm to 1 and 0, the gate Xavier-uniform: half open on average."""
        self.layer_norm.reset_parameters()
        if self.gate is not None:
            nn.init.xavier_uniform_(self.gate.weight)

    def forward(self, inputs: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Inputs (..., dim), and a function from such a tensor to one of its shape, to (..., dim)."""
        return self.after(inputs, sublayer(self.before(inputs)))

    def before(self, inputs: Tensor) -> Tensor:
        """What the sublayer reads, (..., dim)."""
        return self.layer_norm(inputs) if self.norm == "pre" else inputs

    def after(self, inputs: Tensor, change: Tensor) -> Tensor:
        """Inputs and what the sublayer made of `before`'s result, both (..., dim), to (..., dim)."""
        change = dropout(change, self.dropout, self.training)
        if self.gate is not None:
            change = change * torch.sigmoid(self.gate(inputs))
        outputs = inputs + change
        return outputs if self.norm == "pre" else self.layer_norm(outputs)
