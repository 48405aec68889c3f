"""BST: the candidate becomes the last place of the sequence, and a transformer reads both."""

from typing import Unpack

from recattn.models.target_ranker import RankerOptions, TargetRanker
from recattn.nn import Encoder, MultiHeadAttention


def BST(  # noqa: N802 - reads as the class that users look for
    num_items: int,
    *,
    dim: int = 64,
    num_layers: int = 1,
    num_heads: int = 2,
    hidden_dim: int | None = None,
    **options: Unpack[RankerOptions],
) -> TargetRanker:
    """Behaviour Sequence Transformer, in the style of Chen et al. (DLP-KDD 2019): encoder([history, candidate]).

        S' = norm(S + MultiHead(S)),  F = norm(S' + FFN(S')),  S = [e_1, ..., e_n, e_c],  retrieved_c = F's last place

    Where it differs from the paper: the MLP reads the candidate's place, not all of them side by side (histories have
    many lengths); how long ago an event was is a bias of the scores, learned from its age and with ``use_times`` from
    the time since, not an embedding; FFN has ReLU.

    num_layers, num_heads, hidden_dim: of the encoder. options: TargetRanker's; max_length is 20, as there. Each
    candidate has a sequence of its own, so the cost of one is that of encoding its whole history.
    Raises ConfigError for separate_tables, and for what TargetRanker and the layers refuse.

    >>> BST(11, dim=4).attention_layer.norm
    'post'
    """
    options.setdefault("max_length", 20)
    attention = MultiHeadAttention(dim, dim, num_heads=num_heads)
    return TargetRanker(
        num_items,
        dim=dim,
        attention_layer=Encoder(dim, attention=attention, num_layers=num_layers, hidden_dim=hidden_dim, norm="post"),
        **options,
    )
