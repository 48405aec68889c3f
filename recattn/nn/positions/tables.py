"""From numbers of rows or a wide formula to a bias: two steps that the biases share."""

import torch
from torch import Tensor


def look_up(table: Tensor, rows: Tensor) -> Tensor:
    """bias_h = table_h[row]: a number for each head and (query, event).

    table: (heads, num_rows). rows: int64 (batch, queries, length). Returns (batch, heads, queries, length).
    As a gather, which took 8 ms forward and backward (32 x 2 x 200 x 200 numbers, one core) where
    ``F.embedding`` of rows as narrow as the heads are few took 470 and left a layout that attention has to copy.

    >>> look_up(torch.tensor([[5.0, 6.0], [7.0, 8.0]]), torch.tensor([[[1, 0, 0]]])).tolist()
    [[[[6.0, 5.0, 5.0]], [[8.0, 7.0, 7.0]]]]
    """
    batch, queries, length = rows.shape
    heads = len(table)
    found = table.expand(batch, -1, -1).gather(-1, rows.flatten(1).unsqueeze(1).expand(-1, heads, -1))
    return found.view(batch, heads, queries, length)


def fit(bias: Tensor, dtype: torch.dtype) -> Tensor:
    """The bias in a type that may be narrower, cut to half of its range.

    An infinite bias would mask, in the worst case a whole row; and the score still has to be added.

    >>> fit(torch.tensor([-1e6, 2.0]), torch.float16).tolist()
    [-32752.0, 2.0]
    """
    if bias.dtype == dtype:
        return bias
    half = torch.finfo(dtype).max / 2
    return bias.clamp(-half, half).to(dtype)
