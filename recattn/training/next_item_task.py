"""What training adds to a next-item model: a loss on the states of real targets, and none on padding."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from recattn.batch import History, SequenceBatch
from recattn.errors import ConfigError
from recattn.models import NextItemModel
from recattn.nn import binary_loss, bpr_max_loss, full_softmax_loss, gbce_loss, shared_softmax_loss
from recattn.nn.checks import check_positive, check_share
from recattn.nn.losses.binary import gbce_prior
from recattn.training.pieces import sum_of_losses
from recattn.training.ranking_task import RankingTask, first_met

EVENTS = 4096
"""At most so many events, padding among them, go through the model at once on a CPU: 64 wide they keep 31 MB of it."""
SHARING = 1024
"""So many events, padding among them, share the sample of a softmax: fewer train better and take longer."""


class NextItemTask(RankingTask):
    """Trains a NextItemModel at every position of a history: one pass over it, then a loss on the real targets alone.

    What a user has already is no candidate for what comes next, as it is none when recommending; so pad, the items seen
    in the sequence (what lies before it is not known) and the target itself are never negatives.

    model: the next-item model.
    loss: ``"softmax"``, cross-entropy over the whole catalogue, in pieces, or with num_negatives over a sample of it
        that some sequences share (see SHARING), corrected for how it was drawn; ``"bce"``, ``"gbce"`` and
        ``"bpr-max"``, which need num_negatives, drawn for each sequence. To gBCE's logits log(β / k) is added, what a
        model that knows nothing should say: driven there by 256 negatives at once, all states become the same.
    temperature: > 0, divides the logits in training; ranks are the same without. calibration: of gBCE, in [0, 1].
    The other arguments are RankingTask's. Raises ConfigError for values outside of these.
    """

    losses: ClassVar[tuple[str, ...]] = ("softmax", "bce", "gbce", "bpr-max")
    model: NextItemModel

    def __init__(
        self,
        model: NextItemModel,
        *,
        temperature: float = 1.0,
        calibration: float = 0.75,
        **arguments: Any,  # noqa: ANN401 - RankingTask's
    ) -> None:
        if not isinstance(model, NextItemModel):
            raise ConfigError(f"model must be a NextItemModel, got {type(model).__name__}")
        super().__init__(model, **arguments)
        check_positive("temperature", temperature)
        check_share("calibration", calibration)
        if self.loss != "softmax" and self.num_negatives is None:
            raise ConfigError(f"num_negatives must be an integer >= 1 for loss {self.loss!r}, got None")
        if self.loss == "gbce" and self.num_negatives is not None and self.num_negatives >= model.num_items:
            raise ConfigError(
                f"num_negatives must be below the {model.num_items} items for loss 'gbce', got {self.num_negatives}"
            )
        self.temperature, self.calibration = temperature, calibration
        self.prior = 0.0
        if self.loss == "gbce" and self.num_negatives is not None:
            self.prior = gbce_prior(self.num_negatives, num_items=model.num_items, calibration=calibration)

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return super().settings | {"temperature": self.temperature, "calibration": self.calibration}

    def _sequence_loss(self, batch: SequenceBatch) -> Tensor:
        targets = max(1, int(batch.mask.sum()))

        def share(rows: slice, sample: Tensor | None) -> Tensor:
            """What these sequences bring to the mean over the targets of the batch."""
            piece = rows_of(batch, rows)
            history, positions, mask = piece
            numbers, _ = mask.nonzero(as_tuple=True)
            states = self.model.states(*all_but_last(history))[numbers, positions[mask] - 1]
            mean = self._loss_of(states, history.items.gather(1, positions), piece, sample)
            return mean * (len(states) / targets)

        sequences, length = batch.history.items.shape
        # A GPU would rather have the batch at once. A large catalogue costs more in each piece than the piece saves.
        pieced = batch.mask.device.type == "cpu"
        size = max(1, max(EVENTS, self.model.num_items) // length) if pieced else sequences
        pieces = [slice(first, min(first + size, sequences)) for first in range(0, sequences, size)]
        samples = self._draw([piece.stop - piece.start for piece in pieces], length)
        losses = [partial(share, rows, sample) for rows, sample in zip(pieces, samples, strict=True)]
        return sum_of_losses(losses, self.model.parameters())

    def _draw(self, sizes: Sequence[int], length: int) -> Sequence[Tensor | None]:
        """The negatives of each piece of so many sequences, (samples, num_negatives); None: the whole catalogue.

        A sample for each sequence, for softmax for each SHARING events: many cost little more than one, and show more
        of the catalogue in a step.
        """
        if self.num_negatives is None:
            return [None] * len(sizes)
        together = max(1, SHARING // length) if self.loss == "softmax" else 1
        counts = [-(-size // together) for size in sizes]
        drawn = torch.multinomial(self.chances, sum(counts) * self.num_negatives, replacement=True)
        return torch.split(drawn.view(-1, self.num_negatives), counts)

    def _loss_of(self, states: Tensor, asked: Tensor, known: SequenceBatch, sample: Tensor | None) -> Tensor:
        """The mean loss of states with the items that they were to name, at the real ones of batch x positions.

        states: (targets, dim), row by row. asked: (batch, positions), the targets. sample: see `_draw`.
        known: what the user had: to the target at (b, p), the events of row b before position p (0: none, no item).
        """
        history, positions, mask = known
        targets = asked[mask]
        embeddings = self.model.item_embeddings()
        if sample is None:
            seen = self._seen(known, targets)
            return full_softmax_loss(states, embeddings[1:], targets - 1, seen, temperature=self.temperature)
        states = states / self.temperature
        if self.loss == "softmax":
            return self._shared_softmax(states, embeddings, targets, sample, known)
        # The targets of a sequence share their negatives: products of matrices, and more of the catalogue in a batch.
        # One look-up: its gradient is as large as the catalogue, and two would be added up.
        vectors = F.embedding(torch.cat([targets, sample.flatten()]), embeddings)
        positive = (states * vectors[: len(targets)]).sum(-1)
        padded = states.new_zeros(*mask.shape, states.shape[1]).masked_scatter(mask[..., None], states)
        negatives = (padded @ vectors[len(targets) :].unflatten(0, sample.shape).mT)[mask]
        known_before = first_met(history.items, sample)[:, None] < positions[..., None]
        ignored = (known_before | (sample[:, None] == asked[..., None]))[mask]
        if self.loss == "gbce":
            positive, negatives = positive + self.prior, negatives + self.prior
            return gbce_loss(positive, negatives, ignored, num_items=self.model.num_items, calibration=self.calibration)
        return (bpr_max_loss if self.loss == "bpr-max" else binary_loss)(positive, negatives, ignored)

    def _shared_softmax(
        self, states: Tensor, embeddings: Tensor, targets: Tensor, samples: Tensor, known: SequenceBatch
    ) -> Tensor:
        """The mean over all targets of the softmax over their sample; samples: (groups of sequences, num_negatives).

        What was drawn several times is computed once. One look-up serves all: its gradient is as large as the
        catalogue.
        """
        drawn = [sample.unique(return_counts=True) for sample in samples]
        vectors = F.embedding(torch.cat([targets, *(items for items, _ in drawn)]), embeddings)
        of_targets, *of_samples = vectors.split([len(targets), *(len(items) for items, _ in drawn)])
        size = -(-len(known.mask) // len(samples))
        groups = [rows_of(known, slice(first, first + size)) for first in range(0, len(known.mask), size)]
        counts = [int(group.mask.sum()) for group in groups]
        of_groups = (tensor.split(counts) for tensor in (states, of_targets, targets))
        total = states.new_zeros(())
        parts = zip(groups, drawn, of_samples, *of_groups, strict=True)
        for group, (items, times), negatives, asking, right, asked in parts:
            log_expected = (self.chances[items] * samples.shape[1]).log() - times.log()
            mean = shared_softmax_loss(asking, right, negatives, log_expected, no_negatives(group, asked, items))
            total = total + mean * (len(asked) / max(1, len(targets)))
        return total

    @staticmethod
    def _seen(known: SequenceBatch, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Which items are no candidates of which target: pairs (number of the target, item - 1)."""
        items = known.history.items
        numbers, events = pairs_before(known, items != 0)
        had = items[items != 0].index_select(0, events)
        other = had != targets.index_select(0, numbers)  # what comes again is a candidate
        return numbers[other], had[other] - 1


def pairs_before(known: SequenceBatch, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Each target with each event before it in its row, of those that are kept: numbers (pairs,) of both, int64.

    kept: bool, like the history's items. Targets are numbered as in ``positions[mask]``, events as in ``items[kept]``.

    >>> history = History(torch.tensor([[5, 7, 9], [4, 6, 0]]), torch.tensor([3, 2]))
    >>> known = SequenceBatch(history, torch.tensor([[1, 2], [1, 0]]), torch.tensor([[True, True], [True, False]]))
    >>> [numbers.tolist() for numbers in pairs_before(known, history.items != 5)]
    [[1, 2], [0, 2]]
    """
    rows, _ = known.mask.nonzero(as_tuple=True)
    earlier = F.pad(kept.flatten().cumsum(0), (1, 0))  # kept events before each place of the flattened histories
    starts = rows * kept.shape[1]
    first = earlier[starts]
    counts = earlier[starts + known.positions[known.mask]] - first
    numbers = torch.repeat_interleave(counts)
    # Pair i of all is event i - (pairs of earlier targets) of its target; one flat index is the quickest to follow.
    shift = first - (counts.cumsum(0) - counts)
    return numbers, torch.arange(len(numbers), device=kept.device) + shift.index_select(0, numbers)


def no_negatives(known: SequenceBatch, targets: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """What the user has already, or is the target itself, as pairs (number of the target, place in ``drawn``).

    targets: (targets,), those of ``known``. drawn: (samples,), at least one, ascending. The numbers are ascending too.

    >>> history = History(torch.tensor([[5, 7, 9]]), torch.tensor([3]))
    >>> known = SequenceBatch(history, torch.tensor([[1, 2]]), torch.tensor([[True, True]]))
    >>> [pair.tolist() for pair in no_negatives(known, torch.tensor([7, 9]), torch.tensor([3, 5, 7]))]
    [[0, 0, 1, 1], [1, 2, 1, 2]]
    """
    items = known.history.items
    of_events, own = (torch.searchsorted(drawn, some).clamp(max=len(drawn) - 1) for some in (items, targets))
    met = drawn[of_events] == items
    numbers, events = pairs_before(known, met)
    itself = (drawn[own] == targets).nonzero().squeeze(1)
    numbers, order = torch.cat([numbers, itself]).sort(stable=True)
    return numbers, torch.cat([of_events[met].index_select(0, events), own[itself]]).index_select(0, order)


def rows_of(batch: SequenceBatch, rows: slice) -> SequenceBatch:
    """Some sequences of a batch.

    >>> history = History(torch.tensor([[5, 7], [4, 6]]), torch.tensor([2, 2]))
    >>> rows_of(SequenceBatch(history, torch.ones(2, 1), torch.ones(2, 1)), slice(1, 2)).history.items.tolist()
    [[4, 6]]
    """
    return SequenceBatch(batch.history.rows(rows), batch.positions[rows], batch.mask[rows])


def all_but_last(history: History) -> tuple[History, Tensor | None]:
    """The history less its last column, and when that happened: what comes last is a target and nothing else.

    A sequence of max_length + 1 events then has a model read max_length of them, and its every place is trained. Of
    shorter rows the column is padding, and the time without use.

    >>> history, now = all_but_last(History(torch.tensor([[5, 7], [4, 0]]), torch.tensor([2, 1])))
    >>> history.items.tolist(), history.lengths.tolist(), now
    ([[5], [4]], [1, 1], None)
    """
    width = history.items.shape[1] - 1
    shorter = history.rearranged(lambda values: values[:, :width].contiguous(), history.lengths.clamp(max=width))
    return shorter, None if history.times is None else history.times[:, -1]
