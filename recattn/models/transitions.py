"""Counted keys: what came next, in the data, after each item of the history."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.errors import ConfigError
from recattn.nn.attended import at_least_float32
from recattn.nn.checks import check_count

DENSE_ITEMS = 4096
"""Up to this many items the counts are also held as a matrix (at most 64 MB), which is several times as fast."""


class TransitionHead(nn.Module):
    """logit(c) = scale · log(floor + Σ_j w_j C[item_j, c] / Σ_c' C[item_j, c']): attention with counted keys.

    C[i, c] is the number of times c came within ``horizon`` events after i, each counted 1 / distance. The w_j > 0 are
    recency weights that the caller gives; what is learned here is the scale and the floor (the mass of the unseen).
    Read as attention: exp(score) of event j for candidate c is the share of c among the followers of item j, and the
    logit is the logarithm of the mass that the query c found in the history, not a mean of values.

    In training the counts hold the very pairs that are to be predicted, and a model would learn to trust them too
    much. So in training mode each target's own pairs are taken out of the counts that it sees (see `forward`); where no
    target is known (item 0), nothing is taken out.

    num_items: catalogue without padding. horizon: at least 1.
    Buffers ``pairs`` (sorted i · (num_items + 1) + c) and ``counts`` are filled by `set_counts` and saved with the
    model; before that the head is silent (it adds the same number to every logit).
    """

    pairs: Tensor
    counts: Tensor
    totals: Tensor
    dense: Tensor | None

    def __init__(self, num_items: int, *, horizon: int = 10) -> None:
        super().__init__()
        check_count("horizon", horizon)
        self.num_items, self.horizon = num_items, horizon
        self.register_buffer("pairs", torch.empty(0, dtype=torch.int64))
        self.register_buffer("counts", torch.empty(0))
        self.register_buffer("totals", torch.zeros(num_items + 1), persistent=False)
        self.register_buffer("dense", None, persistent=False)
        self.scale = nn.Parameter(torch.empty(()))
        self.raw_floor = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Half of what was counted, and next to nothing for what never was; the counts stay."""
        nn.init.constant_(self.scale, 0.5)
        nn.init.constant_(self.raw_floor, -8.0)

    def set_counts(self, pairs: Tensor, counts: Tensor) -> None:
        """Take the counts C.

        pairs: (entries,) int64, i · (num_items + 1) + c, ascending without repeats. counts: (entries,) above 0.
        Raises ConfigError for anything else.
        """
        size = self.num_items + 1
        pairs, counts = pairs.to(self.totals.device), counts.to(self.totals.device)
        if pairs.shape != counts.shape or bool((pairs.diff() <= 0).any()) or bool((counts <= 0).any()):
            raise ConfigError("pairs must ascend without repeats, with one count above 0 for each")
        if len(pairs) and not (size <= int(pairs[0]) and int(pairs[-1]) < size * size):
            raise ConfigError(f"pairs must lie between items 1 and {self.num_items}")
        self.pairs, self.counts = pairs, counts.to(self.scale.dtype)
        self.totals = torch.zeros_like(self.totals).index_add_(0, pairs // size, self.counts)
        self.dense = None
        if self.num_items <= DENSE_ITEMS:
            dense = torch.zeros(size * size, dtype=self.counts.dtype, device=pairs.device)
            self.dense = dense.index_put_((pairs,), self.counts).view(size, size)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        # The number of counted pairs is known from the saved model alone.
        pairs, counts = state_dict.get(f"{prefix}pairs"), state_dict.get(f"{prefix}counts")
        if pairs is not None and counts is not None:
            self.set_counts(pairs, counts)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def of(self, items: Tensor, candidates: Tensor) -> Tensor:
        """C[items, candidates], elementwise over shapes that broadcast."""
        if self.dense is not None:
            return self.dense[items, candidates]
        if not len(self.pairs):
            return self.totals.new_zeros(torch.broadcast_shapes(items.shape, candidates.shape))
        wanted = items * (self.num_items + 1) + candidates
        place = torch.searchsorted(self.pairs, wanted).clamp(max=len(self.pairs) - 1)
        return torch.where(self.pairs[place] == wanted, self.counts[place], 0.0)

    def forward(
        self, log_weights: Tensor, items: Tensor, visible: Tensor, candidates: Tensor, targets: Tensor
    ) -> Tensor:
        """Logits of candidates that are shared by all positions.

        log_weights: (batch, positions, length), log w_j; -inf where an event is not visible.
        items: (batch, length). visible: (batch, positions), how many events each position sees.
        candidates: (candidates,), shared.
        targets: (batch, positions), the item that did follow, 0 where none is known: in training mode its own pairs are
            left out.
        Returns (batch, positions, candidates).
        """
        catalogue = torch.arange(1, self.num_items + 1, device=candidates.device)
        if self.dense is not None and len(candidates) == self.num_items and torch.equal(candidates, catalogue):
            counts = self.dense[items][..., 1:]  # a gather of whole rows, the fastest way to the whole catalogue
        else:
            counts = self.of(items[:, :, None], candidates)
        with _in_full_precision(items):
            weights, own = self._normalised(log_weights, items, visible, targets)
            mass = weights @ counts.to(weights.dtype)
            if own is not None:
                hit = candidates == targets[..., None]
                mass = mass - hit * own.sum(-1, keepdim=True)
            return self.logits(mass)

    def shares(
        self, log_weights: Tensor, items: Tensor, visible: Tensor, candidates: Tensor, targets: Tensor
    ) -> Tensor:
        """The mass that each event brings to each row's own candidates.

        Arguments as in `forward`, but candidates and visible are (batch, candidates or 1), log_weights
        (batch, candidates or 1, length), targets (batch, candidates or 1).
        Returns (batch, candidates, length); ``logits(shares.sum(-1))`` is the candidates' logit.
        """
        with _in_full_precision(items):
            weights, own = self._normalised(log_weights, items, visible, targets)
            mass = weights * self.of(items[:, None, :], candidates[:, :, None])
            if own is not None:
                mass = mass - (candidates == targets)[..., None] * own
            return mass

    def logits(self, mass: Tensor) -> Tensor:
        """Scale · log(floor + mass); rounding below 0, left by taking pairs out, counts as 0."""
        return self.scale * torch.log(F.softplus(self.raw_floor) + mass.clamp(min=0.0))

    def _normalised(
        self, log_weights: Tensor, items: Tensor, visible: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Weights over the totals, (batch, positions, length), and in training what each target itself put in."""
        totals = self.totals[items][:, None, :]
        weights = at_least_float32(log_weights).exp()
        if not self.training:
            return weights / totals.clamp(min=1e-6), None
        distance = visible[..., None] - torch.arange(items.shape[1], device=items.device)
        near = (distance >= 1) & (distance <= self.horizon) & (targets != 0)[..., None]
        own = torch.where(near, 1.0 / distance.clamp(min=1), 0.0).to(totals.dtype)
        # An item that comes several times before the target put in a pair each time, under the same count.
        own = own @ (items[:, :, None] == items[:, None, :]).to(own.dtype)
        rest = totals - own
        # An item whose only follower is the target itself has nothing left to say.
        weights = torch.where(rest > 1e-4, weights / rest.clamp(min=1e-4), 0.0)
        return weights, weights * own


def _in_full_precision(items: Tensor) -> torch.autocast:
    """A target's mass less what it put in itself: rounded to bf16, what is left would give the target away."""
    return torch.autocast(items.device.type, enabled=False)
