"""A plain multi-layer perceptron."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from recattn.nn.checks import check_choice, check_count
from recattn.nn.dense.dice import Dice

Activation = Literal["dice", "prelu", "sigmoid", "relu"]


def make_activation(name: Activation, width: int) -> nn.Module:
    """The activation of a hidden layer ``width`` wide.

    >>> make_activation("relu", 3)
    ReLU()
    """
    if name == "dice":
        return Dice(width)
    if name == "prelu":
        return nn.PReLU()
    return nn.Sigmoid() if name == "sigmoid" else nn.ReLU()


class MLP(nn.Module):
    """Linear layers with an activation between them: x -> W_n f(... f(W_1 x + b_1) ...) + b_n.

    input_dim, output_dim: widths, >= 1. hidden_dims: widths of the hidden layers, may be empty.
    activation: ``"dice"`` (its statistics are those of all real rows), ``"prelu"``, ``"sigmoid"`` or ``"relu"``.
    Raises ConfigError for anything else.

    >>> import torch
    >>> MLP(3, (8, 4), 1)(torch.ones(2, 5, 3)).shape
    torch.Size([2, 5, 1])
    """

    def __init__(
        self, input_dim: int, hidden_dims: Sequence[int], output_dim: int, *, activation: Activation = "relu"
    ) -> None:
        super().__init__()
        for name, width in (
            ("input_dim", input_dim),
            *(("hidden_dims", w) for w in hidden_dims),
            ("output_dim", output_dim),
        ):
            check_count(name, width)
        check_choice("activation", activation, ("dice", "prelu", "sigmoid", "relu"))
        self.input_dim, self.output_dim, self.activation = input_dim, output_dim, activation
        self.hidden_dims = tuple(hidden_dims)
        layers: list[nn.Module] = []
        for wide, narrow in pairwise((input_dim, *self.hidden_dims)):
            layers += [nn.Linear(wide, narrow), make_activation(activation, narrow)]
        self.layers = nn.Sequential(*layers, nn.Linear((input_dim, *self.hidden_dims)[-1], output_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-normal weights, biases 0; each activation to its own start."""
        for part in self.layers:
            if isinstance(part, nn.Linear):
                nn.init.xavier_normal_(part.weight)
                nn.init.zeros_(part.bias)
            elif isinstance(part, Dice | nn.PReLU):
                part.reset_parameters()

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Inputs (..., input_dim) to (..., output_dim).

        mask: bool, broadcasts to (...), True for a real row: Dice learns from these only. None: all are real.
        """
        for layer in self.layers:
            inputs = layer(inputs, mask) if isinstance(layer, Dice) else layer(inputs)
        return inputs
