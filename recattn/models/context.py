"""What is known of a request alone (the hour, the place on the page), told to the readout."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recattn.errors import ConfigError
from recattn.nn.checks import check_count


class ContextEmbedding(nn.Module):
    """One vector a column of a request's context, side by side; 0 for what is unknown (code 0).

    In training each column of each request is hidden with probability ``dropout``, so that a request of which nothing
    is known is answered as well.

    sizes: codes of each column, 0 included, each at least 1. dim: width of one vector.

    >>> embed = ContextEmbedding((5, 3), 4)
    >>> embed(torch.tensor([[[4, 0], [1, 2]]]), torch.tensor([[7, 9]])).shape, embed(None, torch.tensor([7, 9])).shape
    (torch.Size([1, 2, 8]), torch.Size([2, 8]))
    """

    def __init__(self, sizes: Sequence[int], dim: int, *, dropout: float = 0.0, embedding_std: float = 0.05) -> None:
        super().__init__()
        for size in sizes:
            check_count("context_sizes", size)
        self.sizes, self.dim, self.dropout, self.embedding_std = tuple(sizes), dim, dropout, embedding_std
        self.tables = nn.ModuleList(nn.Embedding(size, dim, padding_idx=0) for size in self.sizes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """From N(0, embedding_std²), what is unknown 0."""
        with torch.no_grad():
            for weight in self.parameters():
                nn.init.normal_(weight, std=self.embedding_std)[0] = 0.0

    def forward(self, codes: Tensor | None, candidates: Tensor) -> Tensor:
        """(..., columns · dim) of codes (..., columns) beside candidates (...); no codes at all count as unknown.

        What stands beside padding is not read. Raises ConfigError for another number of columns.
        """
        if codes is None:
            codes = candidates.new_zeros(*candidates.shape, len(self.sizes))
        if codes.shape[-1] != len(self.sizes):
            raise ConfigError(f"the context has {codes.shape[-1]} columns, the model was made for {len(self.sizes)}")
        known = (candidates != 0)[..., None]
        if self.training and self.dropout:
            known = known & (torch.rand(codes.shape, device=codes.device) >= self.dropout)
        told = [table(code) for table, code in zip(self.tables, (codes * known).unbind(-1), strict=True)]
        return torch.cat(told, -1)
