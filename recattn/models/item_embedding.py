"""What stands for an item: a vector of its own, and what its features say."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.errors import ConfigError
from recattn.nn.checks import check_choice, check_count, check_fraction, check_positive

Combine = Literal["sum", "gate"]


class ItemEmbedding(nn.Module):
    """e_i = id_i + Σ_f mean of the vectors of i's values of feature f; without features an embedding table.

    With ``combine="gate"``: e_i = id_i + σ(W [id_i; features_i] + b) ∘ features_i.

    An item that never occurs in training has no id part: what it is like is all that is known of it. So that the
    features can stand alone, the id is dropped in training with probability ``id_dropout``: at each place of an item,
    or, where there are more places than items, at all of an item's places alike.

    num_items: catalogue without padding; row 0 is padding and always 0. dim: width.
    feature_sizes: codes of each feature, 0 (unknown, no value) included. feature_widths: how many values an item may
    have of each; by default one. Which items have which is set by `set_features`, as is what was met in training.
    embedding_std: standard deviation of the ids at the start; features start at half of it.
    Raises ConfigError for values outside of these.

    >>> items = ItemEmbedding(3, 4, feature_sizes=(5,), feature_widths=(2,))
    >>> items.set_features(torch.tensor([[0, 0], [1, 2], [1, 2], [4, 0]]), torch.tensor([False, False, False, True]))
    >>> vectors = items(torch.tensor([1, 2, 3]))
    >>> bool((vectors[0] == vectors[1]).all()), bool((vectors[0] == vectors[2]).all())
    (True, False)
    """

    codes: Tensor
    met: Tensor

    def __init__(
        self,
        num_items: int,
        dim: int,
        *,
        feature_sizes: Sequence[int] = (),
        feature_widths: Sequence[int] | None = None,
        combine: Combine = "sum",
        id_dropout: float = 0.1,
        embedding_std: float = 0.05,
    ) -> None:
        super().__init__()
        check_count("num_items", num_items)
        check_count("dim", dim)
        check_choice("combine", combine, ("sum", "gate"))
        check_fraction("id_dropout", id_dropout)
        check_positive("embedding_std", embedding_std)
        widths = (1,) * len(feature_sizes) if feature_widths is None else tuple(feature_widths)
        if len(widths) != len(feature_sizes):
            raise ConfigError(
                f"feature_widths must have {len(feature_sizes)} numbers, as feature_sizes has, got {widths}"
            )
        for name, sizes in (("feature_sizes", feature_sizes), ("feature_widths", widths)):
            for size in sizes:
                check_count(name, size)
        self.num_items, self.dim = num_items, dim
        self.feature_sizes, self.feature_widths = tuple(feature_sizes), widths
        self.combine: Combine = combine
        self.id_dropout, self.embedding_std = id_dropout, embedding_std
        self.weight = nn.Parameter(torch.empty(num_items + 1, dim))
        self.features = nn.ModuleList(nn.EmbeddingBag(size, dim, mode="sum", padding_idx=0) for size in feature_sizes)
        self.gate = nn.Linear(2 * dim, dim) if feature_sizes and combine == "gate" else None
        if feature_sizes:
            self.register_buffer("codes", torch.zeros(num_items + 1, sum(widths), dtype=torch.int32))
            self.register_buffer("met", torch.ones(num_items + 1, dtype=torch.bool))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal, the padding rows 0; a gate starts half open."""
        nn.init.normal_(self.weight, std=self.embedding_std)
        with torch.no_grad():
            self.weight[0] = 0.0
            for weight in self.features.parameters():
                nn.init.normal_(weight, std=self.embedding_std / 2)
                weight[0] = 0.0
        if self.gate is not None:
            nn.init.xavier_uniform_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)

    def set_features(self, codes: Tensor, met: Tensor) -> None:
        """Say which items have which values, and which were met in training.

        codes: (num_items + 1, sum of feature_widths) whole numbers, field by field, 0 for none.
        met: (num_items + 1,) bool. Raises ConfigError for other shapes, for codes outside of a feature's, and where
        there are no features.
        """
        if not self.feature_sizes:
            raise ConfigError("the model was made without feature_sizes: it reads no features")
        if codes.shape != self.codes.shape or met.shape != self.met.shape:
            raise ConfigError(f"codes must be {tuple(self.codes.shape)}, got {tuple(codes.shape)}")
        for size, part in zip(self.feature_sizes, codes.split(self.feature_widths, 1), strict=True):
            if bool((part < 0).any()) or bool((part >= size).any()):
                raise ConfigError(f"codes of a feature of {size} must be 0 to {size - 1}, got {int(part.max())}")
        self.codes.copy_(codes)
        self.met.copy_(met)

    def forward(self, items: Tensor) -> Tensor:
        """(..., dim) of items (...), int64; 0 for padding."""
        if not self.feature_sizes:
            own: Tensor = F.embedding(items, self.weight, padding_idx=0)
            return own
        if items.numel() > self.num_items:  # cheaper to make each once
            shared: Tensor = F.embedding(items, self.all())
            return shared
        flat = items.flatten()
        found: Tensor = self._combined(F.embedding(flat, self.weight, padding_idx=0), flat).unflatten(0, items.shape)
        return found

    def known(self, items: Tensor) -> Tensor:
        """Which items training met, bool like items: the others have nothing of their own. All without features."""
        return self.met[items] if self.feature_sizes else torch.ones_like(items, dtype=torch.bool)

    def all(self) -> Tensor:
        """The vectors of all items, (num_items + 1, dim); row 0 has no meaning and gets no gradient."""
        if not self.feature_sizes:
            return self.weight
        return self._combined(self.weight, torch.arange(self.num_items + 1, device=self.codes.device))

    def _combined(self, own: Tensor, items: Tensor) -> Tensor:
        codes, kept = self.codes[items].long(), self.met[items]
        if self.training and self.id_dropout:
            kept = kept & (torch.rand(kept.shape, device=kept.device) >= self.id_dropout)
        own = own * kept[:, None]
        told = torch.zeros_like(own)
        for table, part in zip(self.features, codes.split(self.feature_widths, 1), strict=True):
            count = (part != 0).sum(1, keepdim=True).clamp(min=1)
            told = told + table(part) / count
        if self.gate is not None:
            told = told * torch.sigmoid(self.gate(torch.cat([own, told], -1)))
        found: Tensor = (own + told) * (items != 0)[:, None]
        return found
