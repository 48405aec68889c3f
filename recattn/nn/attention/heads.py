"""What layers with several heads share: their widths, splitting into heads and merging them, and the first weights."""

from torch import Tensor, nn

from recattn.errors import ConfigError
from recattn.nn.attended import full_mask
from recattn.nn.checks import check_count


def head_widths(
    query_dim: int,
    source_dim: int,
    num_heads: int,
    *,
    key_dim: int | None,
    value_dim: int | None,
    value_source_dim: int | None,
    output_dim: int | None,
) -> tuple[int, int, int, int]:
    """key_dim, value_dim, value_source_dim and output_dim with their defaults filled in.

    A head is query_dim // num_heads wide, the values come from the keys' source, the output is as wide as the query.
    Raises ConfigError for a width below 1, and for a query_dim that num_heads does not divide where the default needs
    it.

    >>> head_widths(8, 5, 2, key_dim=None, value_dim=3, value_source_dim=None, output_dim=None)
    (4, 3, 5, 8)
    """
    check_count("num_heads", num_heads)
    check_count("query_dim", query_dim)
    check_count("source_dim", source_dim)
    if (key_dim is None or value_dim is None) and query_dim % num_heads:
        raise ConfigError(
            f"num_heads must divide query_dim {query_dim} unless key_dim and value_dim are given, got {num_heads}"
        )
    widths = {
        "key_dim": query_dim // num_heads if key_dim is None else key_dim,
        "value_dim": query_dim // num_heads if value_dim is None else value_dim,
        "value_source_dim": source_dim if value_source_dim is None else value_source_dim,
        "output_dim": query_dim if output_dim is None else output_dim,
    }
    for name, width in widths.items():
        check_count(name, width)
    return widths["key_dim"], widths["value_dim"], widths["value_source_dim"], widths["output_dim"]


def reset_projections(*projections: nn.Linear) -> None:
    """Xavier-uniform weights, biases 0."""
    for projection in projections:
        nn.init.xavier_uniform_(projection.weight)
        if projection.bias is not None:
            nn.init.zeros_(projection.bias)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(batch, tokens, heads x dim) to (batch, heads, tokens, dim)."""
    batch, tokens, width = x.shape
    return x.view(batch, tokens, num_heads, width // num_heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(batch, heads, tokens, dim) to (batch, tokens, heads x dim)."""
    return x.transpose(1, 2).flatten(2)


def with_heads(bias: Tensor) -> Tensor:
    """A bias that broadcasts to (batch, queries, length) or (batch, heads, queries, length), with all four axes.

    >>> import torch
    >>> [with_heads(torch.zeros(shape)).shape[:2] for shape in ((5,), (3, 4, 5), (3, 2, 4, 5))]
    [torch.Size([1, 1]), torch.Size([3, 1]), torch.Size([3, 2])]
    """
    return bias.unsqueeze(1) if bias.dim() == 3 else bias[(None,) * (4 - bias.dim())]


def without_heads(bias: Tensor) -> Tensor:
    """The bias without the axis of heads where all have the same: layers without heads take it, the others too.

    >>> import torch
    >>> without_heads(torch.zeros(3, 1, 4, 5)).shape, without_heads(torch.zeros(3, 2, 4, 5)).shape
    (torch.Size([3, 4, 5]), torch.Size([3, 2, 4, 5]))
    """
    return bias.squeeze(1) if bias.dim() == 4 else bias


def shared_mask(layer: str, mask: Tensor | None, keys: Tensor) -> Tensor | None:
    """The mask (batch, length) of a layer that summarises a history once, whoever asks.

    mask: bool, (batch, length) or (batch, 1, length), True for real; None: all real. keys: (batch, length, dim).
    Raises ConfigError for a mask for each query, one that is not boolean and one of another length than the keys.
    """
    mask = full_mask(mask, keys)
    if mask is not None and mask.shape[-2] != 1:
        raise ConfigError(
            f"{layer} summarises the history once for all queries, so its mask must be (batch, length), "
            f"got shape {tuple(mask.shape)}: queries that see different events need MultiHeadAttention"
        )
    return None if mask is None else mask.squeeze(-2)
