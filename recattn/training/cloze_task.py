"""What training adds to a BERT4Rec: gaps in the histories, and a loss on what is filled in."""

from typing import Any

import torch
from torch import Tensor

from recattn.batch import History, SequenceBatch
from recattn.errors import ConfigError
from recattn.models import BERT4Rec
from recattn.nn.checks import check_share
from recattn.training.next_item_task import NextItemTask


class ClozeTask(NextItemTask):
    """Trains a BERT4Rec to fill gaps: some events of each sequence become [mask] and are told from those on both sides.

    Sun et al. 2019, section 3.6, after the cloze test (Taylor 1953). The loss is the mean over all gaps of the batch
    (eq. 8 has the mean of each sequence). Most sequences get gaps anywhere, others, drawn with last_probability, one in
    place of the last event: that is the question asked when recommending, and what the paper calls similar to
    fine-tuning; one sequence in eleven had it in the authors' code. Gaps are drawn anew each time a sequence is met,
    over all its events, whichever of them a next-item model would be asked for.

    What a sequence shows is no candidate for its gaps, as what a user has is none when recommending; an event that is
    masked in one place and shown in another stays a target.

    model: the BERT4Rec. mask_probability: share of the events that become gaps, in (0, 1); rounded to whole events, but
        at least one and, from two events on, never all. The paper's best was 0.2 for ml-1m, 0.6 for Beauty.
    last_probability: in [0, 1]. The other arguments are NextItemTask's, losses over samples among them.
    Raises ConfigError for values outside of these, and for another model.
    """

    model: BERT4Rec

    def __init__(
        self,
        model: BERT4Rec,
        *,
        mask_probability: float = 0.2,
        last_probability: float = 0.1,
        **arguments: Any,  # noqa: ANN401 - NextItemTask's
    ) -> None:
        if not isinstance(model, BERT4Rec):
            raise ConfigError(f"model must be a BERT4Rec, got {type(model).__name__}")
        super().__init__(model, **arguments)
        if not isinstance(mask_probability, int | float) or not 0 < mask_probability < 1:
            raise ConfigError(f"mask_probability must be in (0, 1), got {mask_probability!r}")
        check_share("last_probability", last_probability)
        self.mask_probability, self.last_probability = mask_probability, last_probability

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        own = {"mask_probability": self.mask_probability, "last_probability": self.last_probability}
        return super().settings | own

    def _sequence_loss(self, batch: SequenceBatch) -> Tensor:
        history = batch.history
        masked = draw_gaps(history, self.mask_probability, self.last_probability)
        states = self.model.masked_states(history, masked)
        shown = history._replace(items=history.items.masked_fill(masked, 0))
        everything = history.lengths[:, None].expand_as(masked)
        (sample,) = self._draw([len(masked)], masked.shape[1])
        return self._loss_of(states, history.items, SequenceBatch(shown, everything, masked), sample)


def draw_gaps(history: History, mask_probability: float, last_probability: float) -> Tensor:
    """Which events become [mask], bool (batch, length); see `ClozeTask` for the arguments.

    >>> history = History(torch.tensor([[5, 7, 9, 4], [8, 6, 0, 0]]), torch.tensor([4, 2]))
    >>> draw_gaps(history, 0.5, 0.0).sum(1).tolist()
    [2, 1]
    >>> draw_gaps(history, 0.5, 1.0).long().tolist()
    [[0, 0, 0, 1], [0, 1, 0, 0]]
    """
    lengths, device = history.lengths, history.items.device
    count = (lengths * mask_probability).round().minimum(lengths - 1).clamp(min=1)
    order = torch.rand(history.items.shape, device=device).masked_fill(~history.mask, 1.0).argsort(1)
    chosen = order.argsort(1) < count[:, None]
    last = torch.arange(history.items.shape[1], device=device) == lengths[:, None] - 1
    only_last = torch.rand(len(lengths), 1, device=device) < last_probability
    return torch.where(only_last, last, chosen) & history.mask
