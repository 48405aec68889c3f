"""Reformer's attention: a sequence attends to itself where hashes say that it pays."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.errors import ConfigError
from recattn.nn.attended import Attended, WeightsKind, at_least_float32, fill_masked
from recattn.nn.attention.heads import head_widths, merge_heads, reset_projections, shared_mask, split_heads
from recattn.nn.attention.lsh import Rounds, attend_in_rounds, hash_buckets, sort_rounds, visible_pairs
from recattn.nn.checks import check_count
from recattn.nn.weightings.softmax import masked_softmax


class ReformerAttention(nn.Module):
    """head_i = sum_j a_ij v_j, a_i = softmax over j in P_i of q_i . k_j / sqrt(key_dim), with k_j = q_j / |q_j|.

    Kitaev et al. 2020, section 2: P_i is what some round of hashing finds for event i, once each; i itself only where
    there is nothing else. In a round h(q) = argmax [qR; -qR] (Andoni et al. 2015) is the bucket; events sorted by
    (bucket, position) are cut into chunks, and i finds its own chunk and the one before. With causal=True it finds
    the ``chunk_size`` events before it in its own bucket instead: where chunks begin depends on the whole sequence,
    and masking the future in them, as the paper does, leaves its traces in what of the past is found.

    query_dim: width of the sequence. num_heads: >= 1.
    num_buckets: even, >= 2; about the typical length / chunk_size. Never that of a batch: padding would count.
    chunk_size: >= 1. num_rounds: >= 1; more find more of what exact attention would weigh.
    causal: position i of the sequence sees positions 0..i only.
    key_dim, value_dim: of each head, by default query_dim / num_heads. value_source_dim, output_dim: by default
        query_dim. bias: whether the projections have biases; by default they have none.
    Raises ConfigError for a width or number below 1, an odd num_buckets, and a query_dim that num_heads does not divide
    where the default needs it.

    Shared queries and keys: one sequence is both, so this is for self-attention only. R is made of random rotations. It
    is a buffer, drawn from torch's global generator when the layer is made; `redraw` draws another. Hashes have no
    gradient, and an event on the edge between two buckets falls by its last digits. Masked events are sorted behind all
    others: padding changes nothing. Everything between the projections is in fp32 or wider.

    Cost: num_rounds x length x (2 chunk_size + key_dim num_buckets / 2), and memory linear in the length, in training
    too: the scores are made again in the backward pass, which is differentiable once. Asking for weights forms all
    pairs of events; so does what torch.export makes. torch.compile unrolls the rounds, which takes it minutes for many.

    >>> layer = ReformerAttention(6, num_heads=2, num_buckets=4, chunk_size=3)
    >>> sequence = torch.ones(3, 7, 6)
    >>> output, weights = layer(sequence, sequence)
    >>> output.shape, weights.shape
    (torch.Size([3, 7, 6]), torch.Size([3, 2, 7, 7]))
    """

    sequence_only: ClassVar[bool] = True
    weights_kind: WeightsKind = "probability"
    summarises: ClassVar[bool] = True  # one mask for all queries, and no bias
    rotations: Tensor

    def __init__(
        self,
        query_dim: int,
        *,
        num_heads: int,
        num_buckets: int,
        chunk_size: int = 64,
        num_rounds: int = 4,
        causal: bool = False,
        key_dim: int | None = None,
        value_dim: int | None = None,
        value_source_dim: int | None = None,
        output_dim: int | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.query_dim, self.num_heads = query_dim, num_heads
        self.key_dim, self.value_dim, self.value_source_dim, self.output_dim = head_widths(
            query_dim,
            query_dim,
            num_heads,
            key_dim=key_dim,
            value_dim=value_dim,
            value_source_dim=value_source_dim,
            output_dim=output_dim,
        )
        check_count("num_buckets", num_buckets, least=2)
        if num_buckets % 2:
            raise ConfigError(f"num_buckets must be even, as each direction has its opposite, got {num_buckets}")
        check_count("chunk_size", chunk_size)
        check_count("num_rounds", num_rounds)
        self.num_buckets, self.chunk_size, self.num_rounds = num_buckets, chunk_size, num_rounds
        self.causal, self.bias = causal, bias
        self.query_projection = nn.Linear(query_dim, num_heads * self.key_dim, bias=bias)
        self.value_projection = nn.Linear(self.value_source_dim, num_heads * self.value_dim, bias=bias)
        self.output_projection = nn.Linear(num_heads * self.value_dim, self.output_dim, bias=bias)
        self.register_buffer("rotations", torch.empty(num_heads, num_rounds, self.key_dim, num_buckets // 2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform weights, biases 0; the rotations are drawn anew."""
        reset_projections(self.query_projection, self.value_projection, self.output_projection)
        self.redraw()

    def redraw(self) -> None:
        """Draw the rotations anew, from torch's global generator."""
        heads, rounds, dim, columns = self.rotations.shape
        blocks = -(-columns // dim)  # each dim columns are orthogonal: buckets are evener than with independent ones
        drawn = torch.randn(heads, rounds, blocks, dim, dim, device=self.rotations.device)
        turns = torch.linalg.qr(drawn).Q.transpose(2, 3).flatten(3)
        with torch.no_grad():
            self.rotations.copy_(turns[..., :columns])

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        bias: Tensor | None = None,
        need_weights: bool = True,
    ) -> Attended:
        """Let the sequence ask itself.

        query, keys: the same sequence (batch, length, query_dim), twice.
        values: (batch, length, value_source_dim), by default the keys.
        mask: bool, (batch, length) or (batch, 1, length), True for real; None: all real. bias: must be None.
        Returns output (batch, length, output_dim), and weights (batch, heads, length, length), 0 for what no round
        finds. Both are 0 at padding.
        Raises ConfigError for a query that is not the keys, a mask for each query, one that is not boolean or has
        another length than the keys, and for a bias.
        """
        _check_itself(query, keys)
        if bias is not None:
            raise ConfigError("bias must be None: ReformerAttention finds pairs by their hashes, which know of no bias")
        mask = shared_mask("ReformerAttention", mask, keys)
        mask = keys.new_ones(keys.shape[:2], dtype=torch.bool) if mask is None else mask.expand(keys.shape[:2])
        q, v = (
            at_least_float32(split_heads(fill_masked(x, mask.unsqueeze(-1), 0.0), self.num_heads))
            for x in (self.query_projection(keys), self.value_projection(keys if values is None else values))
        )
        with torch.autocast(keys.device.type, enabled=False):
            attended, weights = self._attend(q, v, mask, need_weights=need_weights)
        output = self.output_projection(merge_heads(attended).to(self.output_projection.weight.dtype))
        weights = None if weights is None else weights.to(keys.dtype)
        return Attended(fill_masked(output, mask.unsqueeze(-1), 0.0), weights)

    def _attend(self, q: Tensor, v: Tensor, mask: Tensor, *, need_weights: bool) -> tuple[Tensor, Tensor | None]:
        """Attended values (batch, heads, length, value_dim), and the weights if they are needed."""
        k = q * (self.key_dim * (q.square().sum(-1, keepdim=True) + 1e-12)).rsqrt()
        if need_weights or torch.compiler.is_exporting():
            weights = masked_softmax(q @ k.mT, visible_pairs(self._rounds(q, mask), mask))
            return weights @ v, weights if need_weights else None
        length = q.shape[2]
        filler = -length % self.chunk_size if length else self.chunk_size
        q, k, v = (F.pad(x, (0, 0, 0, filler)) for x in (q, k, v))
        return attend_in_rounds(q, k, v, self._rounds(q, F.pad(mask, (0, filler))))[:, :, :length], None

    def _rounds(self, q: Tensor, mask: Tensor) -> Rounds:
        with torch.no_grad():
            buckets = hash_buckets(q, self.rotations.to(q.dtype))
        return sort_rounds(buckets, mask, self.chunk_size, causal=self.causal)

    def extra_repr(self) -> str:
        kind = "causal, " if self.causal else ""
        return (
            f"{kind}num_heads={self.num_heads}, num_buckets={self.num_buckets}, chunk_size={self.chunk_size}, "
            f"num_rounds={self.num_rounds}, key_dim={self.key_dim}, value_dim={self.value_dim}"
        )


def _check_itself(query: Tensor, keys: Tensor) -> None:
    """Raise ConfigError unless both are one sequence (batch, length, dim): one tensor, or two with equal numbers.

    What is compiled or exported compares the shapes only, as numbers cannot decide there.
    """
    if query is keys and keys.dim() == 3:
        return
    alike = query.dim() == 3 and query.shape == keys.shape
    if not alike or not (torch.compiler.is_compiling() or torch.equal(query, keys)):
        raise ConfigError(
            "ReformerAttention takes one sequence (batch, length, dim) as query and keys, since it shares their "
            f"projection, got others of shapes {tuple(query.shape)} and {tuple(keys.shape)}"
        )
