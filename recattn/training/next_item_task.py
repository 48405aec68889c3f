"""What training adds to a next-item model: a loss on the states of real targets, and none on padding."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from recattn.batch import SequenceBatch
from recattn.errors import ConfigError
from recattn.models import NextItemModel
from recattn.nn import binary_loss, bpr_max_loss, full_softmax_loss, gbce_loss, sampled_softmax_loss
from recattn.nn.checks import check_positive
from recattn.training.ranking_task import RankingTask


class NextItemTask(RankingTask):
    """Trains a NextItemModel at every position of a history: one pass over it, then a loss on the real targets alone.

    What a user has already is no candidate for what comes next, as it is none when recommending; so pad, seen items and
    the target itself are never negatives.

    model: the next-item model.
    loss: ``"softmax"``, cross-entropy over the whole catalogue, in pieces, or with num_negatives over a sample of it,
        corrected for how it was drawn; ``"bce"``, ``"gbce"`` and ``"bpr-max"``, which need num_negatives.
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
        if not 0 <= calibration <= 1:
            raise ConfigError(f"calibration must be in [0, 1], got {calibration!r}")
        if self.loss != "softmax" and self.num_negatives is None:
            raise ConfigError(f"num_negatives must be an integer >= 1 for loss {self.loss!r}, got None")
        if self.loss == "gbce" and self.num_negatives is not None and self.num_negatives >= model.num_items:
            raise ConfigError(
                f"num_negatives must be below the {model.num_items} items for loss 'gbce', got {self.num_negatives}"
            )
        self.temperature, self.calibration = temperature, calibration

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return super().settings | {"temperature": self.temperature, "calibration": self.calibration}

    def _sequence_loss(self, batch: SequenceBatch) -> Tensor:
        history, positions, mask = batch
        targets = history.items.gather(1, positions)[mask]
        rows, _ = mask.nonzero(as_tuple=True)
        states = self.model.states(history)[rows, positions[mask] - 1]
        embeddings = self.model.item_embeddings()
        if self.num_negatives is None:
            seen = self._seen(batch)
            return full_softmax_loss(states, embeddings[1:], targets - 1, seen, temperature=self.temperature)
        sample = torch.multinomial(self.chances, self.num_negatives, replacement=True)
        states = states / self.temperature
        positive = (states * F.embedding(targets, embeddings)).sum(-1)
        negatives = states @ F.embedding(sample, embeddings).T
        ignored = (sample == targets[:, None]) | self._no_candidates(
            history.items, positions, history.items.gather(1, positions), sample
        )[mask]
        if self.loss == "softmax":
            expected = self.chances[sample] * self.num_negatives
            return sampled_softmax_loss(positive, negatives, expected.log(), ignored)
        if self.loss == "gbce":
            return gbce_loss(positive, negatives, ignored, num_items=self.model.num_items, calibration=self.calibration)
        return (bpr_max_loss if self.loss == "bpr-max" else binary_loss)(positive, negatives, ignored)

    @staticmethod
    def _seen(batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """Which items are no candidates of which target: pairs (number of the target, item - 1)."""
        items = batch.history.items
        targets = items.gather(1, batch.positions)
        earlier = torch.arange(items.shape[1], device=items.device) < batch.positions[..., None]
        rows, _ = batch.mask.nonzero(as_tuple=True)
        seen = (earlier & (items[:, None] != targets[..., None]))[batch.mask]
        numbers, places = seen.nonzero(as_tuple=True)
        return numbers, items[rows[numbers], places] - 1
