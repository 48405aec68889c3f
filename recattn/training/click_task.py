"""What training adds to a ranker that tells what is taken from what is not: labels, and the metrics of labels."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from recattn.batch import RankingBatch
from recattn.errors import ConfigError
from recattn.evaluation.click_metrics import auc, gauc, log_loss, user_aucs
from recattn.models import Ranker
from recattn.nn.checks import check_choice
from recattn.training.ranking_task import RankingTask


class ClickTask(RankingTask):
    """Trains a Ranker on labelled candidates: cross-entropy of each candidate's logit with its label.

    Both training and validation read RankingBatches with labels, those of the validation with their users.

    model: the ranker. monitor: ``"gauc"`` or ``"auc"``, by which the best epoch is chosen. The other arguments are
    RankingTask's.
    Logs ``loss`` while training; ``auc``, ``log_loss`` and, where some user has a positive and a negative, ``gauc`` of
    each validation. Raises ConfigError for values outside of these.
    """

    monitors: ClassVar[tuple[str, ...]] = ("gauc", "auc")
    default_batch_size: ClassVar[int] = 1024

    def __init__(
        self,
        model: Ranker,
        *,
        monitor: str = "gauc",
        learning_rate: float = 3e-3,
        weight_decay: float = 0.0,
        warmup_steps: int = 50,
        auxiliary_weight: float = 1.0,
    ) -> None:
        check_choice("monitor", monitor, self.monitors)
        super().__init__(
            model,
            loss="bce",
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            warmup_steps=warmup_steps,
            auxiliary_weight=auxiliary_weight,
        )
        self.monitor = monitor
        self._validated: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        names = ("monitor", "learning_rate", "weight_decay", "warmup_steps", "auxiliary_weight")
        return {"objective": "clicks", **{name: getattr(self, name) for name in names}}

    def on_validation_epoch_start(self) -> None:
        self._validated = []

    def validation_step(self, batch: RankingBatch, _batch_index: int) -> None:  # type: ignore[override]
        if batch.labels is None or batch.users is None:
            raise ConfigError("a RankingBatch to validate on needs labels and users")
        real = batch.candidates != 0
        users = batch.users[:, None].expand_as(real)
        self._validated.append((batch.labels[real].cpu(), self.model(batch)[real].cpu().double(), users[real].cpu()))

    def on_validation_epoch_end(self) -> None:
        labels, logits, users = (torch.cat(parts).numpy() for parts in zip(*self._validated, strict=True))
        self.log("auc", auc(labels, logits), prog_bar=True)
        self.log("log_loss", log_loss(labels, logits), prog_bar=True)
        if user_aucs(labels, logits, users).defined.any():
            self.log("gauc", gauc(labels, logits, users), prog_bar=True)
