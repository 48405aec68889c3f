"""What training adds to a SlateDecoder: every step of the slates that really followed."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recattn.batch import SequenceBatch
from recattn.errors import ConfigError
from recattn.models import SlateDecoder
from recattn.training.ranking_task import RankingTask


class SlateTask(RankingTask):
    """Trains a SlateDecoder on the next k events at every position of a history, k its slate_length.

    Teacher forcing: step s knows the events before it. The loss is the cross-entropy over the whole catalogue of every
    step, mean over the steps that exist; what the user has by then is no candidate, as it is none in a slate.

    model: the slate decoder. The other arguments are RankingTask's.
    Raises ConfigError for another loss than ``"softmax"`` over the whole catalogue, and for another model.
    """

    model: SlateDecoder

    def __init__(self, model: SlateDecoder, **arguments: Any) -> None:  # noqa: ANN401 - RankingTask's
        if not isinstance(model, SlateDecoder):
            raise ConfigError(f"model must be a SlateDecoder, got {type(model).__name__}")
        super().__init__(model, **arguments)
        if self.loss != "softmax" or self.num_negatives is not None:
            raise ConfigError(
                f"slates are trained with loss 'softmax' over the whole catalogue (num_negatives None), "
                f"got {self.loss!r} and {self.num_negatives!r}"
            )

    def _sequence_loss(self, batch: SequenceBatch) -> Tensor:
        history, positions, mask = batch
        steps = torch.arange(self.model.slate_length, device=positions.device)
        places = positions[..., None] + steps
        real = mask[..., None] & (places < history.lengths[:, None, None])
        places = places.where(real, 0).flatten(1)
        slates = history.items.gather(1, places).view_as(real) * real
        states = self.model.slate_states(history, positions, slates)
        catalogue = torch.arange(1, self.model.num_items + 1, device=positions.device)
        ignored = self._no_candidates(history.items, places, slates.flatten(1), catalogue).view(*real.shape, -1)
        logits = states[real] @ self.model.item_embeddings()[1:].T
        return F.cross_entropy(logits.masked_fill(ignored[real], -torch.inf), slates[real] - 1)
