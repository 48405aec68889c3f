"""The position-wise feed-forward network of a transformer block."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from recattn.nn.checks import check_choice, check_count, check_fraction
from recattn.nn.dense.dropout import dropout

FeedForwardActivation = Literal["relu", "gelu", "silu", "swiglu"]
FEED_FORWARD_ACTIVATIONS = ("relu", "gelu", "silu", "swiglu")


class FeedForward(nn.Module):
    """x -> W_2 f(W_1 x + b_1) + b_2, or with SwiGLU x -> W_2 (silu(W_1 x + b_1) ∘ (W_3 x + b_3)) + b_2.

    Vaswani et al. 2017, section 3.3; Shazeer 2020 (SwiGLU; there without biases). Every token on its own.

    dim: width, >= 1. hidden_dim: >= 1, by default 4 dim.
    activation: ``"relu"``, ``"gelu"``, ``"silu"`` or ``"swiglu"``, which has a third matrix: at equal hidden_dim it
        costs one and a half times as much. dropout: in [0, 1), of the hidden layer, training only.
    Raises ConfigError for anything else.

    >>> import torch
    >>> FeedForward(6, activation="swiglu")(torch.ones(2, 5, 6)).shape
    torch.Size([2, 5, 6])
    """

    def __init__(
        self,
        dim: int,
        *,
        hidden_dim: int | None = None,
        activation: FeedForwardActivation = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_count("dim", dim)
        hidden_dim = 4 * dim if hidden_dim is None else hidden_dim
        check_count("hidden_dim", hidden_dim)
        self.hidden_dim = int(hidden_dim)  # torch splits by Python's integers alone
        check_choice("activation", activation, FEED_FORWARD_ACTIVATIONS)
        check_fraction("dropout", dropout)
        self.dim, self.dropout = dim, dropout
        self.activation: FeedForwardActivation = activation
        self.inward = nn.Linear(dim, self.hidden_dim * (1 + (activation == "swiglu")))
        self.outward = nn.Linear(self.hidden_dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform weights, the two halves of SwiGLU each on its own; biases 0."""
        for part in self.inward.weight.split(self.hidden_dim):
            nn.init.xavier_uniform_(part)
        nn.init.xavier_uniform_(self.outward.weight)
        for layer in (self.inward, self.outward):
            nn.init.zeros_(layer.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (..., dim) to (..., dim)."""
        hidden: Tensor = self.inward(inputs)
        if self.activation == "swiglu":
            gate, content = hidden.chunk(2, -1)
            hidden = F.silu(gate) * content
        elif self.activation == "relu":
            hidden = F.relu(hidden)
        else:
            hidden = F.gelu(hidden) if self.activation == "gelu" else F.silu(hidden)
        outputs: Tensor = self.outward(dropout(hidden, self.dropout, self.training))
        return outputs

    def extra_repr(self) -> str:
        return f"activation={self.activation!r}, dropout={self.dropout}"
