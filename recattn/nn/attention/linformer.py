"""Linformer: attention over a fixed number of slots, each a learned mixture of the history's positions."""

from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.errors import ConfigError
from recattn.nn.attended import Attended, WeightsKind, fill_masked
from recattn.nn.attention.fused import fast_attention
from recattn.nn.attention.heads import head_widths, merge_heads, reset_projections, shared_mask, split_heads
from recattn.nn.checks import check_choice, check_count, check_fraction
from recattn.nn.weightings.softmax import masked_softmax


class LinformerSummary(NamedTuple):
    """What a history is to `LinformerAttention`: num_slots keys and values, whatever its length.

    keys: (batch, heads, num_slots, key_dim), E^T K. values: (batch, heads, num_slots, value_dim), F^T V.
    seen: (batch,) bool, whether the history has a real event.
    """

    keys: Tensor
    values: Tensor
    seen: Tensor


class LinformerAttention(nn.Module):
    """head = softmax(Q (E^T K)^T / sqrt(key_dim)) F^T V, with the projections Q, K, V of MultiHeadAttention.

    Wang et al. 2020, section 4 (eq. 7). E and F (max_length, num_slots) are learned; row j belongs to the j-th event
    of a history, oldest first. The num_slots mixtures of events that are attended in place of the events do not depend
    on the query: `summarize` makes them once, `ask` asks them as often as needed (a cache per user of constant size).

    max_length: >= 1, the most events of a history; what lies beyond must be padding. num_slots: >= 1.
    share: "none" gives each head E and F of its own, "headwise" one E and one F for all heads, "key_value" E = F for
        all heads. (The paper's "layer-wise" is left out: layers here own their weights.)
    dropout: in [0, 1), training only: each head of each row loses whole SLOTS with this probability, and the softmax
        renormalises over those left, as MultiHeadAttention does with keys. The weights returned are before dropout.
    causal: must be False, as each slot mixes events from the whole history; here so that the refusal says why.
    query_dim, source_dim, num_heads, key_dim, value_dim, value_source_dim, output_dim, bias: as MultiHeadAttention's.
    Raises ConfigError for a width or number below 1, a query_dim that num_heads does not divide where the default
    needs it, another share, a dropout outside of [0, 1), and causal=True.

    Weights are w_ij = sum_s a_is F_js, where a_is is the softmax over slots: a head's output is exactly sum_j w_ij v_j,
    so w_ij is what the value of event j counts there. They are signed and sum to a mean of F's column sums over the
    real events, not to 1 (``weights_kind`` is "gate"). They are no probability of an event and not how well it matched:
    its key shapes all slots, so that without the event the weights of the others change too.

    Padding is zeroed after the projections and so brings nothing to any slot. No real event: exactly 0, past the bias
    of the output projection too. Slots are attended even where their events are all missing: a history shorter than
    those trained on leaves such slots with keys near 0, not without weight.
    Cost: (length + queries) x num_slots x heads x (key_dim + value_dim), and queries x length x num_slots x heads more
    for the weights. Where heads share E and F, the mixtures are made before the projections, which is the same by
    associativity and projects num_slots vectors, not length.
    Under torch.export and torch.compile a real event beyond max_length can't raise: its row's output is NaN.

    >>> layer = LinformerAttention(6, 5, num_heads=2, max_length=100, num_slots=4)
    >>> output, weights = layer(torch.ones(3, 4, 6), torch.ones(3, 7, 5))
    >>> output.shape, weights.shape
    (torch.Size([3, 4, 6]), torch.Size([3, 2, 4, 7]))
    >>> torch.allclose(layer.ask(torch.ones(3, 4, 6), layer.summarize(torch.ones(3, 7, 5))), output, atol=1e-6)
    True
    """

    weights_kind: WeightsKind = "gate"
    summarises: ClassVar[bool] = True  # one mask for all queries, and no bias
    value_mixture: nn.Parameter | None

    def __init__(
        self,
        query_dim: int,
        source_dim: int,
        *,
        num_heads: int,
        max_length: int,
        num_slots: int,
        key_dim: int | None = None,
        value_dim: int | None = None,
        value_source_dim: int | None = None,
        output_dim: int | None = None,
        share: Literal["none", "headwise", "key_value"] = "none",
        causal: bool = False,
        dropout: float = 0.0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.query_dim, self.source_dim, self.num_heads = query_dim, source_dim, num_heads
        self.key_dim, self.value_dim, self.value_source_dim, self.output_dim = head_widths(
            query_dim,
            source_dim,
            num_heads,
            key_dim=key_dim,
            value_dim=value_dim,
            value_source_dim=value_source_dim,
            output_dim=output_dim,
        )
        check_count("max_length", max_length)
        check_count("num_slots", num_slots)
        check_choice("share", share, ("none", "headwise", "key_value"))
        check_fraction("dropout", dropout)
        if causal:
            raise ConfigError(
                "causal must be False: each slot mixes events from the whole history, so no slot is blind to the future"
            )
        self.max_length, self.num_slots, self.share = max_length, num_slots, share
        self.causal, self.dropout, self.bias = causal, dropout, bias
        self.query_projection = nn.Linear(query_dim, num_heads * self.key_dim, bias=bias)
        self.key_projection = nn.Linear(source_dim, num_heads * self.key_dim, bias=bias)
        self.value_projection = nn.Linear(self.value_source_dim, num_heads * self.value_dim, bias=bias)
        self.output_projection = nn.Linear(num_heads * self.value_dim, self.output_dim, bias=bias)
        heads = (num_heads,) if share == "none" else ()
        self.key_mixture = nn.Parameter(torch.empty(*heads, max_length, num_slots))
        self.value_mixture = None
        if share != "key_value":
            self.value_mixture = nn.Parameter(torch.empty(*heads, max_length, num_slots))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform projections and mixtures (each head's of its own), biases 0."""
        reset_projections(self.query_projection, self.key_projection, self.value_projection, self.output_projection)
        for mixture in (self.key_mixture, self.value_mixture):
            for matrix in () if mixture is None else mixture.view(-1, self.max_length, self.num_slots):
                nn.init.xavier_uniform_(matrix)

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
        """Ask the source.

        query: (batch, queries, query_dim), or (batch, query_dim) for one query a row.
        keys: (batch, length, source_dim). values: (batch, length, value_source_dim), by default the keys.
        mask: bool, (batch, length) or (batch, 1, length), True for real; None: all real. bias: must be None.
        Returns output (batch, queries, output_dim) or (batch, output_dim), and weights (batch, heads, queries, length).
        Raises ConfigError for a mask for each query and for any bias, as the slots are made once and are no events; for
        a mask that is not boolean or has another length than the keys; for a real event beyond max_length.
        """
        if bias is not None:
            raise ConfigError("bias must be None: LinformerAttention scores slots, and a bias is for events")
        if not need_weights:
            return Attended(self.ask(query, self.summarize(keys, values, mask)), None)
        mask = shared_mask("LinformerAttention", mask, keys)
        late = self._late(mask, keys)
        real = None if mask is None else mask.unsqueeze(-1)
        single = query.dim() == 2
        q, k, v = (
            split_heads(x, self.num_heads)
            for x in (
                self.query_projection(query.unsqueeze(1) if single else query),
                fill_masked(self.key_projection(keys), real, 0.0),
                fill_masked(self.value_projection(keys if values is None else values), real, 0.0),
            )
        )
        to_keys, to_values = self._mixtures(keys.shape[1])
        scores = (q * self.key_dim**-0.5) @ (to_keys.mT @ k).mT  # (batch, heads, queries, num_slots)
        weights = fill_masked(masked_softmax(scores) @ to_values.mT, None if mask is None else mask[:, None, None], 0.0)
        kept = self._drop_slots(scores)
        used = weights if kept is None else masked_softmax(scores, kept) @ to_values.mT
        output = self._output(used @ _spoiled(v, late), _seen(mask, keys))
        return Attended(output.squeeze(1) if single else output, weights)

    def summarize(self, keys: Tensor, values: Tensor | None = None, mask: Tensor | None = None) -> LinformerSummary:
        """Make the slots of a history. Arguments and errors as in forward."""
        mask = shared_mask("LinformerAttention", mask, keys)
        late = self._late(mask, keys)
        to_keys, to_values = self._mixtures(keys.shape[1])
        if self.share == "none":
            k = self._slots(self.key_projection, keys, to_keys, mask)
            v = self._slots(self.value_projection, keys if values is None else values, to_values, mask)
        else:
            mixed = _mixed(keys, to_keys, mask)
            k = self._project(self.key_projection, mixed, to_keys, mask)
            if values is not None or self.share != "key_value":
                mixed = _mixed(keys if values is None else values, to_values, mask)
            v = self._project(self.value_projection, mixed, to_values, mask)
        return LinformerSummary(k, _spoiled(v, late), _seen(mask, keys))

    def ask(self, query: Tensor, summary: LinformerSummary) -> Tensor:
        """What forward would answer, were it given the history behind the summary.

        query: (batch, queries, query_dim), or (batch, query_dim). Returns (batch, queries, output_dim), or
        (batch, output_dim).
        """
        single = query.dim() == 2
        q = split_heads(self.query_projection(query.unsqueeze(1) if single else query), self.num_heads)
        output = self._output(
            fast_attention(q, summary.keys, summary.values, self._drop_slots(summary.keys.mT)), summary.seen
        )
        return output.squeeze(1) if single else output

    def _mixtures(self, length: int) -> tuple[Tensor, Tensor]:
        """E and F for this many events, ([heads,] length, num_slots): 0 beyond max_length."""
        to_keys = F.pad(self.key_mixture, (0, 0, 0, length - self.max_length))
        if self.value_mixture is None:
            return to_keys, to_keys
        return to_keys, F.pad(self.value_mixture, (0, 0, 0, length - self.max_length))

    def _slots(self, projection: nn.Linear, source: Tensor, mixture: Tensor, mask: Tensor | None) -> Tensor:
        """mixture^T projection(source) with a mixture for each head: (batch, heads, num_slots, dim)."""
        projected = fill_masked(projection(source), None if mask is None else mask.unsqueeze(-1), 0.0)
        return torch.einsum("hjs,bjhd->bhsd", mixture, projected.unflatten(-1, (self.num_heads, -1)))

    def _project(self, projection: nn.Linear, mixed: Tensor, mixture: Tensor, mask: Tensor | None) -> Tensor:
        """The same with one mixture for all heads, from mixed = mixture^T source: the projection comes second."""
        slots = F.linear(mixed, projection.weight)
        if self.bias:
            # A slot has as much of the bias as of the real events.
            shares = mixture.sum(0) if mask is None else mask.to(mixture.dtype) @ mixture  # ([batch,] num_slots)
            slots = slots + shares.unsqueeze(-1) * projection.bias
        return split_heads(slots, self.num_heads)

    def _late(self, mask: Tensor | None, keys: Tensor) -> Tensor | None:
        """Refuse real events beyond max_length. What is captured can't raise: there, which rows have such events."""
        if torch.compiler.is_compiling():
            beyond = torch.arange(keys.shape[1], device=keys.device) >= self.max_length
            return (beyond if mask is None else mask & beyond).any(-1)
        if keys.shape[1] > self.max_length and (mask is None or bool(mask[:, self.max_length :].any())):
            raise ConfigError(
                f"max_length is {self.max_length}, got a history with a real event beyond it: pass the latest "
                f"{self.max_length} events, or make the layer with max_length={keys.shape[1]}"
            )
        return None

    def _drop_slots(self, scores: Tensor) -> Tensor | None:
        """Which slots dropout leaves, (batch, heads, 1, num_slots); scores: (batch, heads, any, num_slots)."""
        if not self.training or self.dropout == 0:
            return None
        return torch.rand_like(scores[..., :1, :], dtype=torch.float32) >= self.dropout

    def _output(self, attended: Tensor, seen: Tensor) -> Tensor:
        """The output projection of attended (batch, heads, queries, value_dim); 0 in rows without an event."""
        output = self.output_projection(merge_heads(attended))
        return fill_masked(output, seen[:, None, None], 0.0) if self.bias else output

    def extra_repr(self) -> str:
        return (
            f"num_heads={self.num_heads}, max_length={self.max_length}, num_slots={self.num_slots}, "
            f"share={self.share!r}, key_dim={self.key_dim}, value_dim={self.value_dim}, dropout={self.dropout}"
        )


def _mixed(source: Tensor, mixture: Tensor, mask: Tensor | None) -> Tensor:
    """mixture^T source, (batch, num_slots, dim), from real events alone."""
    return mixture.mT @ fill_masked(source, None if mask is None else mask.unsqueeze(-1), 0.0)


def _seen(mask: Tensor | None, keys: Tensor) -> Tensor:
    """Whether there is a real event, (batch,) bool."""
    return (torch.ones(keys.shape[:2], dtype=torch.bool, device=keys.device) if mask is None else mask).any(-1)


def _spoiled(values: Tensor, late: Tensor | None) -> Tensor:
    """Values (batch, heads, things, dim), NaN in rows that would have raised."""
    return values if late is None else values.masked_fill(late.view(-1, 1, 1, 1), torch.nan)
