"""The local activation unit of the Deep Interest Network: a small network scores each (candidate, event) pair."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.errors import ConfigError
from recattn.nn.attended import at_least_float32
from recattn.nn.checks import check_choice, check_count
from recattn.nn.dense.dice import Dice
from recattn.nn.dense.mlp import Activation, make_activation
from recattn.nn.scorers.dice_pairs import Unit, dice_scores
from recattn.nn.scorers.pairs import PAIR_ELEMENTS, count_rows, score_pairs
from recattn.nn.scorers.unit_inference import unit_scores

MANY_QUERIES = 32
"""From so many queries a history on, each history is scored on its own where nothing is learnt."""


class ActivationUnitScorer(nn.Module):
    """e_ij = MLP([q_i, k_j, q_i - k_j, q_i * k_j]). Zhou et al., KDD 2018; the input as in the authors' code.

    The first layer is factored, W [q; k; q-k; q*k] = (W1 + W3) q + (W2 - W3) k + W4 (q*k): its query and key parts are
    computed once for each query and key, which leaves a quarter of the product for the pairs. `reference` is
    the formula written down. Pairs are scored in blocks of at most ``pairs.PAIR_ELEMENTS`` numbers, except while Dice
    learns: its statistics are those of all real pairs of the batch. One hidden layer of Dice, the paper's unit, then
    touches the real pairs alone (`recattn.nn.scorers.dice_pairs`): training is several times faster, and does without a
    second derivative; and many queries of one history are answered at once (`recattn.nn.scorers.unit_inference`).

    query_dim, key_dim: equal. hidden_dims: widths of the hidden layers, at least one.
    activation: ``"dice"`` (the paper), ``"prelu"`` (one slope a layer), ``"sigmoid"`` (authors' code) or ``"relu"``.
    Raises ConfigError for anything else. ``Identity`` weights give the paper's unit, ``Softmax`` the authors' code.

    >>> scores = ActivationUnitScorer(3, 3, hidden_dims=(8, 4))(torch.ones(2, 4, 3), torch.ones(2, 7, 3))
    >>> scores.shape
    torch.Size([2, 4, 7])
    """

    def __init__(
        self, query_dim: int, key_dim: int, *, hidden_dims: Sequence[int] = (80, 40), activation: Activation = "dice"
    ) -> None:
        super().__init__()
        check_count("query_dim", query_dim)
        if query_dim != key_dim:
            raise ConfigError(f"query_dim and key_dim must be equal (q - k, q * k), got {query_dim} and {key_dim}")
        if not hidden_dims:
            raise ConfigError(f"hidden_dims must name at least one width, got {hidden_dims!r}")
        for width in hidden_dims:
            check_count("hidden_dims", width)
        check_choice("activation", activation, ("dice", "prelu", "sigmoid", "relu"))
        self.query_dim, self.key_dim, self.activation = query_dim, key_dim, activation
        self.hidden_dims = tuple(hidden_dims)
        self.first = nn.Linear(4 * query_dim, self.hidden_dims[0])
        self.activations = nn.ModuleList(make_activation(activation, width) for width in self.hidden_dims)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise((*self.hidden_dims, 1)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform weights, biases 0; each activation to its own start."""
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)
            elif isinstance(part, Dice | nn.PReLU):
                part.reset_parameters()

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:
        """Query (..., queries, dim) and keys (..., length, dim) to scores (..., queries, length).

        mask: bool, broadcasts to (..., queries, length), True for real pairs: Dice learns from these only.
        """
        if mask is not None:
            mask = mask.broadcast_to(*mask.shape[:-2], query.shape[-2], keys.shape[-2])
        if self._learns_by_pairs(query, keys):
            return self._score_real_pairs(query, keys, mask)
        if self._answers_many(query, keys):
            dice, last = cast("Dice", self.activations[0]), cast("nn.Linear", self.layers[0])
            tables = zip(query.flatten(0, -3), keys.flatten(0, -3), strict=True)
            answers = [unit_scores(some, offered, self.first, dice, last) for some, offered in tables]
            return torch.stack(answers).view(*query.shape[:-1], keys.shape[-2])
        of_query, of_key, of_difference, of_product = self.first.weight.chunk(4, dim=1)
        asked = F.linear(query, of_query + of_difference, self.first.bias)
        offered = F.linear(keys, of_key - of_difference)

        def block(queries: slice, some_keys: slice) -> Tensor:
            product = query[..., queries, None, :] * keys[..., None, some_keys, :]
            hidden = F.linear(product, of_product)
            hidden = hidden + asked[..., queries, None, :] + offered[..., None, some_keys, :]
            return self._finish(hidden, None if mask is None else mask[..., queries, some_keys])

        if self.training and self.activation == "dice":
            return block(slice(None), slice(None))
        return score_pairs(
            block,
            rows=count_rows(query, keys),
            queries=query.shape[-2],
            length=keys.shape[-2],
            width=self.query_dim + 2 * sum(self.hidden_dims),
            bound=PAIR_ELEMENTS,
        )

    def _answers_many(self, query: Tensor, keys: Tensor) -> bool:
        """One hidden layer of Dice, no gradient, and so many queries a history that each is worth a pass of its own."""
        plain = len(self.hidden_dims) == 1 and self.activation == "dice" and not self.training and query.dim() > 2
        alike = query.shape[:-2] == keys.shape[:-2] and query.dtype == keys.dtype == self.first.weight.dtype
        quiet = (
            not torch.is_grad_enabled() and not torch.compiler.is_compiling() and not torch.is_autocast_enabled("cpu")
        )
        return plain and alike and quiet and query.shape[-2] >= MANY_QUERIES and min(query.shape[0], keys.shape[-2]) > 0

    def _learns_by_pairs(self, query: Tensor, keys: Tensor) -> bool:
        """One hidden layer of Dice in training, and a history of its own for each table of scores."""
        one_dice = len(self.hidden_dims) == 1 and self.activation == "dice"
        return one_dice and self.training and query.shape[:-2] == keys.shape[:-2] and not torch.compiler.is_compiling()

    def _score_real_pairs(self, query: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
        """Scores (..., queries, length), 0 where masked; Dice's running statistics move."""
        shape = (*query.shape[:-1], keys.shape[-2])
        real = torch.ones(shape, dtype=torch.bool, device=query.device) if mask is None else mask.broadcast_to(shape)
        dice, last = cast("Dice", self.activations[0]), cast("nn.Linear", self.layers[0])
        parts = (self.first.weight, self.first.bias, dice.alpha, last.weight, last.bias)
        scores, *moments = dice_scores(
            at_least_float32(query).flatten(0, -2),
            at_least_float32(keys).flatten(0, -2),
            real.reshape(math.prod(shape[:-2]), *shape[-2:]),
            Unit(*(at_least_float32(part) for part in parts)),
            dice.eps,
        )
        dice.observe(*moments)
        return scores.view(shape).to(query.dtype)

    def reference(self, query: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:
        """The specification of forward: the four parts side by side for every pair, through the whole first layer."""
        q, k = query[..., :, None, :], keys[..., None, :, :]
        q, k = q + torch.zeros_like(k), k + torch.zeros_like(q)
        return self._finish(self.first(torch.cat([q, k, q - k, q * k], dim=-1)), mask)

    def _finish(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """From the first layer's result (..., queries, length, width) to scores (..., queries, length)."""
        for activation, layer in zip(self.activations, self.layers, strict=True):
            hidden = activation(hidden, mask) if isinstance(activation, Dice) else activation(hidden)
            hidden = layer(hidden)
        return hidden.squeeze(-1)
