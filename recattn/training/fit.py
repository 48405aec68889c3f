"""Train a ranker on a split: the whole recipe, with the best weights kept and interruptions survived."""

import contextlib
import logging
import math
import shutil
import signal
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint

from recattn.data.split import Split
from recattn.data.transitions import count_transitions
from recattn.errors import ConfigError
from recattn.models import Ranker
from recattn.models.transitions import TransitionHead
from recattn.training.data import SequenceData
from recattn.training.progress import TrainingProgress
from recattn.training.ranking_task import RankingTask


@dataclass(frozen=True)
class Fitted:
    """What a training came to.

    best_epoch: the epoch, from 1, whose weights the model now has; epochs: how many were run.
    validation: its metrics. seconds: training and validation, of this call alone where it was resumed.
    """

    best_epoch: int
    epochs: int
    validation: dict[str, float]
    seconds: float


class FreshSeed(Callback):
    """Seeds each epoch by its number, so that a resumed training draws what an uninterrupted one would have drawn."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        torch.manual_seed(self.seed * 1_000_003 + trainer.current_epoch)


class StopOnNaN(Callback):
    """Ends a training whose loss is no longer a number; the best weights so far are kept."""

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        _module: pl.LightningModule,
        outputs: Any,
        *_: object,
    ) -> None:
        loss = float(outputs["loss"])
        if not math.isfinite(loss):
            raise ConfigError(
                f"the loss became {loss} in epoch {trainer.current_epoch + 1}: lower learning_rate; "
                f"the best weights so far are kept in {trainer.default_root_dir}"
            )


def fit(
    model: Ranker,
    split: Split,
    *,
    folder: str | Path,
    task: RankingTask | None = None,
    batch_size: int = 8,
    positions: int = 48,
    max_epochs: int = 8,
    patience: int = 3,
    seed: int = 0,
    resume: bool = False,
    progress: bool = True,
) -> Fitted:
    """Train the model on the split's training part until validation NDCG@10 stops rising, and keep its best weights.

    The model is changed in place. A TransitionHead gets its counts from the training part first.

    folder: where checkpoints are kept while training runs (``last.ckpt`` after each epoch, and the best one).
    task: loss and optimiser; by default ``RankingTask(model)``. It must hold this model.
    batch_size, positions: sequences a batch and targets a sequence, see SequenceLoader.
    max_epochs, patience: stop after so many epochs, or after ``patience`` epochs in a row without a better NDCG@10.
    seed: of order, dropout and negatives. The initial weights are the model's own: seed before making it.
    resume: go on from ``last.ckpt`` when there is one; the outcome is that of a training never interrupted.
    Raises ConfigError for a loss that is not a number; KeyboardInterrupt passes, the last epoch's checkpoint is kept.
    """
    folder = Path(folder)
    task = RankingTask(model) if task is None else task
    if task.model is not model:
        raise ConfigError("task holds another model than the one to be trained")
    data = SequenceData(
        split,
        batch_size=batch_size,
        positions=positions,
        context=model.max_length,
        time_aware=model.time_aware,
        seed=seed,
    )
    count_into(model, split)
    last = folder / "last.ckpt"
    if not resume and folder.exists():
        shutil.rmtree(folder)
    best = ModelCheckpoint(folder, "best", monitor="ndcg@10", mode="max", save_last=True, enable_version_counter=False)
    callbacks: list[Callback] = [
        FreshSeed(seed),
        StopOnNaN(),
        EarlyStopping("ndcg@10", mode="max", patience=patience),
        best,
    ]
    shown = [TrainingProgress()] if progress else []
    began = time.perf_counter()
    with _quiet_lightning():
        trainer = pl.Trainer(
            accelerator="auto",
            devices=1,
            max_epochs=max_epochs,
            callbacks=[*callbacks, *shown],
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(task, data, ckpt_path=str(last) if resume and last.exists() else None)
        except SystemExit as stopped:
            # Lightning turns ctrl-C into an exit and leaves the signal ignored.
            signal.signal(signal.SIGINT, on_interrupt)
            raise KeyboardInterrupt from stopped
    kept = torch.load(best.best_model_path, weights_only=True)
    task.load_state_dict(kept["state_dict"])
    model.eval()
    return Fitted(
        best_epoch=int(kept["epoch"]) + 1,
        epochs=trainer.current_epoch,
        validation={"ndcg@10": float(best.best_model_score or 0.0)},
        seconds=time.perf_counter() - began,
    )


def count_into(model: Ranker, split: Split) -> None:
    """Give the model's TransitionHead, if it has one, the counts of the split's training part."""
    for part in model.modules():
        if isinstance(part, TransitionHead):
            counts = count_transitions(split.train, part.horizon).tocoo()
            pairs = torch.from_numpy(counts.row.astype("int64") * counts.shape[1] + counts.col)
            part.set_counts(pairs, torch.from_numpy(counts.data))


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's notes on devices and workers: the loaders here are vectorised and want no workers."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            yield
    finally:
        logger.setLevel(level)
