"""The user's profile as things that can be asked, or told to the readout."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recattn.batch import History
from recattn.errors import ConfigError


class Tokens(NamedTuple):
    """One token a field. keys, values: (batch, fields, dim). known: (batch, fields) bool, False for code 0."""

    keys: Tensor
    values: Tensor
    known: Tensor

    @property
    def told(self) -> Tensor:
        """The values, 0 for what is unknown, (batch, fields, dim)."""
        return self.values * self.known[..., None]


class ProfileTokens(nn.Module):
    """A key and a value for each profile field, looked up by its code; what is unknown (0) is masked.

    In training each field of each user is hidden with probability ``dropout``, so that a user without a profile is
    answered as well.

    sizes: codes of each field, 0 included. dim: width of keys and values.
    """

    def __init__(self, sizes: Sequence[int], dim: int, *, dropout: float) -> None:
        super().__init__()
        self.sizes, self.dim, self.dropout = tuple(sizes), dim, dropout
        self.keys = nn.ModuleList(nn.Embedding(size, dim) for size in self.sizes)
        self.values = nn.ModuleList(nn.Embedding(size, dim) for size in self.sizes)

    def forward(self, history: History) -> Tokens:
        """The tokens of ``history.profile``; no profile at all counts as unknown.

        Raises ConfigError for a profile with another number of fields.
        """
        codes = history.profile
        if codes is None:
            codes = torch.zeros(len(history.lengths), len(self.sizes), dtype=torch.int64, device=history.items.device)
        if codes.shape[1] != len(self.sizes):
            raise ConfigError(f"the profile has {codes.shape[1]} fields, the model was made for {len(self.sizes)}")
        known = codes != 0
        if self.training and self.dropout:
            known = known & (torch.rand(codes.shape, device=codes.device) >= self.dropout)
        keys = [table(code) for table, code in zip(self.keys, codes.unbind(1), strict=True)]
        values = [table(code) for table, code in zip(self.values, codes.unbind(1), strict=True)]
        return Tokens(torch.stack(keys, 1), torch.stack(values, 1), known)
