"""What training adds to a ranker: loss, optimiser, schedule and the metrics of each epoch."""

import math
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from recattn.batch import RankingBatch, SequenceBatch, TargetBatch
from recattn.errors import ConfigError
from recattn.evaluation import hit_rate, ndcg, target_ranks
from recattn.models import Ranker
from recattn.nn import binary_loss, sampled_softmax_loss
from recattn.nn.checks import check_choice, check_count, check_positive


class RankingTask(pl.LightningModule):
    """Trains a Ranker to put what the user took next above the rest of the catalogue.

    Batches may be of two kinds. A SequenceBatch asks at every position of a history for the event that follows, against
    the whole catalogue or a sample of it that all positions share; items that the sequence has already are no
    candidates then, as what the user has is none when recommending. A RankingBatch with labels is a table of clicks:
    cross-entropy of each candidate's logit with its label.

    model: the ranker.
    loss: ``"softmax"``, cross-entropy over the candidates, or ``"bce"``, each candidate a yes or no of its own.
    num_negatives: size of the shared sample; None: the whole catalogue.
    item_counts: (num_items + 1,) how often each item occurs in training; the sample is drawn with probability
        proportional to count^0.75 and the softmax corrected for it. None: drawn uniformly. The other losses are not
        corrected: of counts they learn how much likelier an item is than its share of the sample, which ranks rare
        items too high.
    learning_rate: Adam's; it rises over the first ``warmup_steps`` and falls to 0 as a cosine over the whole training.
    weight_decay: AdamW's.
    auxiliary_weight: of the loss that a model has of its own (`Ranker.auxiliary_loss`, DIEN's), at least 0; at 0 it is
        not computed.
    Logs ``loss`` while training, ``hr@10`` and ``ndcg@10`` of each validation (ties against the target, seen out); the
    one by which the best epoch is chosen is ``monitor``.
    Raises ConfigError for values outside of these (warmup_steps is at least 1).
    """

    losses: ClassVar[tuple[str, ...]] = ("softmax", "bce")
    default_batch_size: ClassVar[int] = 8
    monitor: str = "ndcg@10"
    chances: Tensor

    def __init__(
        self,
        model: Ranker,
        *,
        loss: str = "softmax",
        num_negatives: int | None = None,
        item_counts: Tensor | None = None,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.0,
        warmup_steps: int = 50,
        auxiliary_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_choice("loss", loss, self.losses)
        if num_negatives is not None:
            check_count("num_negatives", num_negatives)
        check_positive("learning_rate", learning_rate)
        if not weight_decay >= 0:
            raise ConfigError(f"weight_decay must be >= 0, got {weight_decay!r}")
        check_count("warmup_steps", warmup_steps)
        if not isinstance(auxiliary_weight, int | float) or not (
            auxiliary_weight >= 0 and math.isfinite(auxiliary_weight)
        ):
            raise ConfigError(f"auxiliary_weight must be a finite number >= 0, got {auxiliary_weight!r}")
        if item_counts is not None and len(item_counts) != model.num_items + 1:
            raise ConfigError(f"item_counts must have {model.num_items + 1} entries, got {len(item_counts)}")
        if item_counts is not None and not bool((item_counts[1:] > 0).any()):
            raise ConfigError("item_counts must be above 0 for some item: there is nothing to draw from")
        self.model = model
        self.loss, self.num_negatives = loss, num_negatives
        self.learning_rate, self.weight_decay, self.warmup_steps = learning_rate, weight_decay, warmup_steps
        self.auxiliary_weight = auxiliary_weight
        chances = torch.ones(model.num_items + 1) if item_counts is None else item_counts.float().clamp(min=0) ** 0.75
        chances[0] = 0.0
        self.register_buffer("chances", chances / chances.sum(), persistent=False)
        self._ranks: list[Tensor] = []

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        names = ("loss", "num_negatives", "learning_rate", "weight_decay", "warmup_steps", "auxiliary_weight")
        return {name: getattr(self, name) for name in names}

    def training_step(self, batch: SequenceBatch | RankingBatch, _batch_index: int) -> Tensor:
        loss = self._sequence_loss(batch) if isinstance(batch, SequenceBatch) else self._label_loss(batch)
        if self.auxiliary_weight:
            own = self.model.auxiliary_loss(batch.history)
            loss = loss if own is None else loss + self.auxiliary_weight * own
        self.log("loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=batch.history.items.shape[0])
        return loss

    def _label_loss(self, batch: RankingBatch) -> Tensor:
        if batch.labels is None:
            raise ConfigError("a RankingBatch to train on needs labels")
        real = batch.candidates != 0
        return F.binary_cross_entropy_with_logits(self.model(batch)[real], batch.labels[real])

    def _sequence_loss(self, batch: SequenceBatch) -> Tensor:
        history, positions, mask = batch
        targets = history.items.gather(1, positions)
        told = history.times if self.model.time_aware else None
        moments = None if told is None else told.gather(1, positions)
        if self.num_negatives is None:
            sample = torch.arange(1, self.model.num_items + 1, device=targets.device)
        else:
            sample = torch.multinomial(self.chances, self.num_negatives, replacement=True)
        logits = self.model.at_positions(history, positions, sample, moments)
        ignored = self._no_candidates(history.items, positions, targets, sample)
        if self.loss == "softmax" and self.num_negatives is None:  # the target's logit is among them
            return F.cross_entropy(logits.masked_fill(ignored, -torch.inf)[mask], targets[mask] - 1)
        positive = self.model(RankingBatch(history, targets, visible=positions, request_time=moments))
        negatives, ignored = logits, ignored | (sample == targets[..., None])
        if self.loss == "softmax" and self.num_negatives is not None:
            expected = self.chances[sample] * self.num_negatives
            return sampled_softmax_loss(positive[mask], negatives[mask], expected.log(), ignored[mask])
        return binary_loss(positive[mask], negatives[mask], ignored[mask])

    def _no_candidates(self, items: Tensor, positions: Tensor, targets: Tensor, candidates: Tensor) -> Tensor:
        """(batch, positions, candidates) bool: True for what the user has already, but for the target itself."""
        first = first_met(items, candidates.repeat(len(items), 1))
        return (first[:, None] < positions[..., None]) & (candidates != targets[..., None])

    def on_validation_epoch_start(self) -> None:
        self._ranks = []

    def validation_step(self, batch: TargetBatch, _batch_index: int) -> None:
        scores = self.model.score_all(batch.history, batch.request_time)
        self._ranks.append(target_ranks(scores, batch.targets, batch.history.items).cpu())

    def on_validation_epoch_end(self) -> None:
        ranks = torch.cat(self._ranks).numpy()
        for name, values in (("hr@10", hit_rate(ranks, 10)), ("ndcg@10", ndcg(ranks, 10))):
            self.log(name, float(values.mean()), prog_bar=True)

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's own union of forms
        optimiser = torch.optim.AdamW(
            self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )
        total = self.trainer.estimated_stepping_batches

        def share(step: int) -> float:
            """Of the learning rate: a line up, then half a cosine down, which stays at 0 should there be more steps."""
            warmed = min(1.0, (step + 1) / self.warmup_steps)
            if not math.isfinite(total):  # a training bound by time alone keeps its rate after the warm-up
                return warmed
            return warmed * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, total))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, share)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def first_met(items: Tensor, sample: Tensor) -> Tensor:
    """Where each sampled item first occurs in its row, (batch, sample); the length of the row where it does not.

    items: (batch, length). sample: (batch, sample).

    >>> first_met(torch.tensor([[5, 7, 5], [4, 6, 0]]), torch.tensor([[7, 5], [7, 6]])).tolist()
    [[1, 0], [3, 1]]
    """
    length = items.shape[1]
    ordered, places = torch.sort(items, dim=1, stable=True)
    found = torch.searchsorted(ordered, sample).clamp(max=length - 1)
    first: Tensor = places.gather(1, found).where(ordered.gather(1, found) == sample, length)
    return first
