"""Target attention: the candidate asks, the user's history and profile answer."""

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recattn.batch import History, RankingBatch
from recattn.errors import ConfigError
from recattn.models.context import ContextEmbedding
from recattn.models.event_bias import EventBias, head_slopes
from recattn.models.item_embedding import Combine, ItemEmbedding
from recattn.models.preset_options import PresetOptions
from recattn.models.profile import ProfileTokens
from recattn.models.ranker import Ranker
from recattn.models.rating_levels import RatingEmbedding, check_levels
from recattn.models.transitions import TransitionHead
from recattn.nn import ScaledDotScorer, Softmax
from recattn.nn.attention.factored import factored_readout
from recattn.nn.checks import check_count, check_fraction, check_positive
from recattn.nn.dense.dropout import dropout
from recattn.nn.dense.mlp import MLP, Activation


class TargetAttentionOptions(PresetOptions, total=False):
    """Arguments that every preset of TargetAttention hands on to it."""

    embed_ratings: bool
    transitions: int


class Memory(NamedTuple):
    """What the candidates can ask: the history's events, then one token for each profile field.

    keys, values: (batch, heads, tokens, dim of a head). bias: (batch, heads, queries, tokens).
    mask: (batch, 1, queries, tokens), True for what a query may see.
    log_counted: (batch, queries, length), the log-weights of the counted keys, -inf where not visible; None without.
    told: (batch, fields * dim), the profile where it goes to the readout; else None.
    """

    keys: Tensor
    values: Tensor
    bias: Tensor
    mask: Tensor
    log_counted: Tensor | None
    told: Tensor | None


class TargetAttention(Ranker):
    """Attention with the candidate item as the query and the user's history and profile as keys and values.

        weights_cj = weighting_j(scorer(query_c, key_j) + recency(age_j) + time(now - t_j) + rating(r_j))
        logit_c    = readout(Σ_j weights_cj value_j, c) + transitions_c + bias_c

    query_c, key_j, value_j are embeddings of the candidate and of the history's items, split into heads; the profile's
    fields are further keys and values. Only the last ``max_length`` visible events take part. With
    ActivationUnitScorer, one shared table and an MLP this is DIN (see `recattn.models.DIN`); tables of their own for
    matching and for content are what DARE (Feng et al., ICLR 2025) proposes to keep the two gradients apart.

    num_items: catalogue without padding.
    dim: width of all heads together. num_heads: divides dim.
    scorer: module from (query, keys, mask) to scores on vectors of ``dim // num_heads``, by default ScaledDotScorer().
        All heads share it; they differ in the part of the embedding that they compare.
    weighting: module from (scores, mask) to weights, by default Softmax().
    separate_tables: four embedding tables, for queries, keys, values and the readout; False: one for all.
    readout_dims: widths of the MLP that reads retrieved vector and candidate; empty: the dot product of the two.
    readout_activation: of that MLP.
    max_length: events that a candidate reads, at least 1.
    recency: add a learned bias from an event's age to the scores. Without it the order is not known.
    use_times: add a learned bias from the time passed between the event and the last visible one.
    time_aware: measure that time up to the request instead; such a model knows more than one that is not told when its
        answer is wanted, and is compared with its like.
    rating_levels: the ratings that occur, ascending; each gets a learned bias. Empty: ratings are not read.
    embed_ratings: in place of the bias, add a vector of the rating to the event's key and value: how things like the
        candidate were rated is then what is retrieved, and not only a matter of weight.
    profile_sizes: codes of each profile field, 0 (unknown) included; each field that is known becomes one more key and
        value.
    feature_sizes, feature_widths, combine_features, id_dropout: of the items' features, see `ItemEmbedding`.
    profile_in_readout: give the profile's values to the MLP instead, beside the retrieved vector, as DIN does.
    context_sizes: codes of each column of the request's context, 0 (unknown) included, which is told to the MLP.
    transitions: horizon of a TransitionHead, counted keys beside the learned ones, at most max_length; 0: none.
    dropout: share of the values' coordinates, the profile's fields and the context's columns that are dropped in
        training; in [0, 1).
    embedding_std: standard deviation of all embeddings at the start, above 0.
    Raises ConfigError for values outside of these.

    Nothing visible: the retrieved vector is 0, so the logit is the candidate's bias (for an MLP, what it makes of 0).

    >>> model = TargetAttention(11, dim=8)
    >>> history = History(torch.tensor([[3, 5, 0], [2, 4, 7]]), torch.tensor([2, 3]))
    >>> model(RankingBatch(history, torch.tensor([[1, 9], [6, 3]]))).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        num_items: int,
        *,
        dim: int = 64,
        num_heads: int = 2,
        scorer: nn.Module | None = None,
        weighting: nn.Module | None = None,
        separate_tables: bool = True,
        readout_dims: Sequence[int] = (),
        readout_activation: Activation = "relu",
        max_length: int = 100,
        recency: bool = True,
        use_times: bool = True,
        time_aware: bool = False,
        rating_levels: Sequence[float] = (),
        embed_ratings: bool = False,
        profile_sizes: Sequence[int] = (),
        feature_sizes: Sequence[int] = (),
        feature_widths: Sequence[int] | None = None,
        combine_features: Combine = "sum",
        id_dropout: float = 0.1,
        profile_in_readout: bool = False,
        context_sizes: Sequence[int] = (),
        transitions: int = 10,
        dropout: float = 0.3,
        embedding_std: float = 0.05,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("num_items", num_items, 1),
            ("dim", dim, 1),
            ("max_length", max_length, 1),
            ("transitions", transitions, 0),
        ):
            check_count(name, value, least=least)
        check_fraction("dropout", dropout)
        if num_heads < 1 or dim % num_heads:
            raise ConfigError(f"num_heads must divide dim ({dim}), got {num_heads!r}")
        check_positive("embedding_std", embedding_std)
        if time_aware and not use_times:
            raise ConfigError("time_aware is True, but use_times is False: there is no time to be aware of")
        if profile_in_readout and not readout_dims:
            raise ConfigError("profile_in_readout is True, but readout_dims is empty: a dot product reads no profile")
        if context_sizes and not readout_dims:
            raise ConfigError(
                f"context_sizes is {list(context_sizes)}, but readout_dims is empty: a dot product reads no context; "
                "give readout_dims, or leave the context out (--no-use-context)"
            )
        check_levels(rating_levels)
        self.num_items, self.dim, self.num_heads, self.max_length = num_items, dim, num_heads, max_length
        self.separate_tables, self.recency = separate_tables, recency
        self.use_times, self.time_aware = use_times, time_aware
        self.readout_dims, self.readout_activation = tuple(readout_dims), readout_activation
        self.pair_width = dim if self.readout_dims else 1  # an MLP keeps many numbers for each candidate
        self.rating_levels, self.embed_ratings = tuple(rating_levels), embed_ratings
        self.profile_sizes = tuple(profile_sizes)
        self.profile_in_readout, self.transitions = profile_in_readout, transitions
        self.dropout, self.embedding_std = dropout, embedding_std
        self.combine_features: Combine = combine_features
        self.id_dropout = id_dropout
        self.scorer = ScaledDotScorer() if scorer is None else copy.deepcopy(scorer)
        self.weighting = Softmax() if weighting is None else copy.deepcopy(weighting)

        def table() -> ItemEmbedding:
            return ItemEmbedding(
                num_items,
                dim,
                feature_sizes=feature_sizes,
                feature_widths=feature_widths,
                combine=combine_features,
                id_dropout=id_dropout,
                embedding_std=embedding_std,
            )

        self.value_table = table()
        self.feature_sizes, self.feature_widths = self.value_table.feature_sizes, self.value_table.feature_widths
        self.query_table, self.key_table, self.readout_table = (
            table() if separate_tables else self.value_table for _ in range(3)
        )
        self.item_bias = nn.Embedding(num_items + 1, 1, padding_idx=0)
        self.context_sizes, self.context = tuple(context_sizes), None
        if self.context_sizes:
            self.context = ContextEmbedding(context_sizes, dim, dropout=dropout, embedding_std=embedding_std)
        width = (2 + len(self.profile_sizes) * profile_in_readout + len(self.context_sizes)) * dim
        self.readout = MLP(width, self.readout_dims, 1, activation=readout_activation) if self.readout_dims else None
        self.profile = ProfileTokens(self.profile_sizes, dim, dropout=dropout) if self.profile_sizes else None
        self.profile_bias = nn.Parameter(torch.zeros(num_heads, len(self.profile_sizes)))
        # The counted keys weigh the events in a way of their own: one more head of biases, the last.
        slopes = head_slopes(num_heads) + [0.2] * bool(transitions)
        self.event_bias = EventBias(
            len(slopes),
            recency=recency,
            slopes=slopes,
            times=use_times,
            rating_levels=() if embed_ratings else self.rating_levels,
        )
        self.rating_values = RatingEmbedding(rating_levels, dim) if embed_ratings and rating_levels else None
        self.rating_keys = copy.deepcopy(self.rating_values) if separate_tables else self.rating_values
        # What lies before the events that are read can't be taken out of a target's counts.
        horizon = min(transitions, max_length)
        self.transition_head = TransitionHead(num_items, horizon=horizon) if transitions else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Embeddings from N(0, embedding_std²), padding and the candidates' biases 0; the parts have their own."""
        of_items = (self.value_table, self.query_table, self.key_table, self.readout_table)
        for table in dict.fromkeys(of_items):  # one table may be all four
            table.reset_parameters()
        for part in (self.profile, self.rating_values, self.rating_keys if self.separate_tables else None):
            for weight in () if part is None else part.parameters():
                nn.init.normal_(weight, std=self.embedding_std)
        nn.init.zeros_(self.item_bias.weight)
        nn.init.zeros_(self.profile_bias)
        for counted in (self.event_bias, self.transition_head):
            if counted is not None:
                counted.reset_parameters()

    def forward(self, batch: RankingBatch) -> Tensor:
        """Logits (batch, candidates)."""
        memory = self._memory(batch.history, self._visible(batch), batch.request_time)
        _, output = self._retrieve(memory, batch.candidates)
        logits = self._read(output, batch.candidates, self._asked(batch), memory.told, batch.context)
        if self.transition_head is not None:
            logits = logits + self.transition_head.logits(self._shares(batch, memory).sum(-1))
        return logits

    def attention(self, batch: RankingBatch) -> list[Tensor]:
        """The weights of the one layer, [(batch, heads, candidates, length + profile fields)].

        Their meaning is ``weighting.kind``'s; the counted keys are not among them (see `contributions`).
        """
        memory = self._memory(batch.history, self._visible(batch), batch.request_time)
        return [self._retrieve(memory, batch.candidates)[0]]

    def at_positions(
        self, history: History, positions: Tensor, candidates: Tensor, request_time: Tensor | None = None
    ) -> Tensor:
        """See `Ranker.at_positions`. With Softmax and a dot product it takes `recattn.nn.factored_readout`."""
        memory = self._memory(history, positions, request_time)
        query = self._heads(self.query_table(candidates))
        scores: Tensor = self.scorer(query, memory.keys, memory.mask.any(2, keepdim=True))
        if isinstance(self.weighting, Softmax) and self.readout is None:
            gains = self._heads(self.readout_table(candidates)) @ memory.values.transpose(-1, -2)
            heat, bias = self.weighting.temperature, memory.bias
            if heat != 1:
                scores, bias = scores / heat, bias / heat
            found = factored_readout(scores, gains, bias, memory.mask)
            logits: Tensor = found.sum(1) + self._bias_of(candidates)
        else:
            scores = scores[:, :, None] + memory.bias[:, :, :, None]
            weights = self.weighting(scores, memory.mask[:, :, :, None]).to(memory.values.dtype)
            output = weights @ memory.values[:, :, None]  # (batch, heads, positions, candidates, dim of a head)
            output = output.movedim(1, -2).flatten(-2)
            logits = self._read(output, candidates, (positions > 0)[..., None], memory.told, None)
        if self.transition_head is not None and memory.log_counted is not None:
            targets = self._following(history, positions)
            logits = logits + self.transition_head(memory.log_counted, history.items, positions, candidates, targets)
        return logits

    def contributions(self, batch: RankingBatch) -> Tensor:
        """See `Ranker.contributions`: weight × (value · ∂logit/∂retrieved), summed over heads, plus counted keys.

        Exact with the dot product: contributions of events and profile, the candidate's bias and what the counted keys
        give to an item that they never met, scale · log(floor), add up to the logit (an MLP is taken at its slope). The
        rest of the counted keys' logarithm is shared out in proportion to the mass that each event brought.
        """
        memory = self._memory(batch.history, self._visible(batch), batch.request_time)
        weights, output = self._retrieve(memory, batch.candidates)
        with torch.inference_mode(mode=False), torch.enable_grad():
            # Copies: what was made in inference mode can't be saved for a backward pass.
            output, candidates = output.detach().clone().requires_grad_(), batch.candidates.clone()
            told = None if memory.told is None else memory.told.clone()
            logits = self._read(output, candidates, self._asked(batch).clone(), told, batch.context)
            (slope,) = torch.autograd.grad(logits.sum(), output)
        brought = (weights * (self._heads(slope) @ memory.values.transpose(-1, -2))).sum(1)
        brought = brought[..., : batch.history.items.shape[1]]
        if self.transition_head is not None:
            shares = self._shares(batch, memory)
            mass = shares.sum(-1, keepdim=True)
            gain = self.transition_head.logits(mass) - self.transition_head.logits(torch.zeros_like(mass))
            brought = brought + gain * shares / mass.clamp(min=torch.finfo(mass.dtype).tiny)
        return brought

    def _visible(self, batch: RankingBatch) -> Tensor:
        return batch.history.lengths[:, None] if batch.visible is None else batch.visible

    def _asked(self, batch: RankingBatch) -> Tensor:
        """(batch, candidates) bool: what Dice may learn from, neither padding nor a moment before all events."""
        return (batch.candidates != 0) & (self._visible(batch) > 0)

    @staticmethod
    def _following(history: History, visible: Tensor) -> Tensor:
        """The items that come after the first ``visible`` events, like visible; 0 where the history ends there."""
        items = history.items.gather(1, visible.clamp(max=history.items.shape[1] - 1))
        return items * (visible < history.lengths[:, None])

    def _heads(self, vectors: Tensor) -> Tensor:
        """(..., things, dim) to (..., heads, things, dim of a head)."""
        heads: Tensor = vectors.unflatten(-1, (self.num_heads, -1))
        return heads.transpose(-2, -3)

    def _memory(self, history: History, visible: Tensor, now: Tensor | None) -> Memory:
        steps = torch.arange(history.items.shape[1], device=visible.device)
        mask = (steps < visible[..., None]) & (steps >= visible[..., None] - self.max_length)
        bias = self.event_bias(history, visible, now if self.time_aware else None)
        log_counted = None if self.transition_head is None else bias[:, -1].masked_fill(~mask, -math.inf)
        bias = bias[:, : self.num_heads]
        keys, values = self.key_table(history.items), self.value_table(history.items)
        if self.rating_keys is not None and self.rating_values is not None and history.ratings is not None:
            keys, values = keys + self.rating_keys(history.ratings), values + self.rating_values(history.ratings)
        told = None
        if self.profile is not None:
            tokens = self.profile(history)
            if self.profile_in_readout:
                told = tokens.told.flatten(1)
            else:
                keys, values = torch.cat([keys, tokens.keys], 1), torch.cat([values, tokens.values], 1)
                batch, _, queries, _ = bias.shape
                bias = torch.cat([bias, self.profile_bias[None, :, None].expand(batch, -1, queries, -1)], -1)
                mask = torch.cat([mask, tokens.known[:, None].expand(-1, mask.shape[1], -1)], -1)
        values = dropout(values, self.dropout, self.training)
        return Memory(self._heads(keys), self._heads(values), bias, mask[:, None], log_counted, told)

    def _retrieve(self, memory: Memory, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (batch, heads, candidates, tokens) and the retrieved vectors (batch, candidates, dim)."""
        real = memory.mask & (candidates != 0)[:, None, :, None]
        scores = self.scorer(self._heads(self.query_table(candidates)), memory.keys, real)
        weights = self.weighting(scores + memory.bias, memory.mask).to(memory.values.dtype)
        return weights, (weights @ memory.values).transpose(1, 2).flatten(-2)

    def _read(
        self, output: Tensor, candidates: Tensor, real: Tensor, told: Tensor | None, context: Tensor | None
    ) -> Tensor:
        """Retrieved vectors (..., candidates, dim) to logits (..., candidates); Dice learns where ``real`` is True."""
        vectors: Tensor = self.readout_table(candidates)
        if self.readout is None:
            logits = (output * vectors).sum(-1)
        else:
            parts = [output, vectors.expand_as(output)]
            if told is not None:
                parts.append(told.view(len(told), *[1] * (output.dim() - 2), -1).expand(*output.shape[:-1], -1))
            if self.context is not None:
                parts.append(self.context(context, candidates).expand(*output.shape[:-1], -1))
            logits = self.readout(torch.cat(parts, -1), real).squeeze(-1)
        return logits + self._bias_of(candidates)

    def _bias_of(self, candidates: Tensor) -> Tensor:
        bias: Tensor = self.item_bias(candidates).squeeze(-1) * self.readout_table.known(candidates)
        return bias

    def _shares(self, batch: RankingBatch, memory: Memory) -> Tensor:
        """The mass of the counted keys, (batch, candidates, length)."""
        head, items, visible = self.transition_head, batch.history.items, self._visible(batch)
        if head is None or memory.log_counted is None:
            return torch.zeros(*batch.candidates.shape, items.shape[1], device=items.device)
        targets = self._following(batch.history, visible)
        return head.shares(memory.log_counted, items, visible, batch.candidates, targets)
