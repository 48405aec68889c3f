"""What happens around the steps of a training: seeds, clocks and reasons to end it."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from torch import Tensor

from recattn.errors import ConfigError


class Stopwatch(Callback):
    """How long a training has taken, the epochs before an interruption included; what it undid does not count."""

    def __init__(self) -> None:
        self._before, self._began = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._began

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._before = float(state_dict["seconds"])


class FreshSeed(Callback):
    """Seeds each epoch by its number, so that a resumed training draws what an uninterrupted one would have drawn."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        torch.manual_seed(self.seed * 1_000_003 + trainer.current_epoch)


class StayStopped(Callback):
    """Ends a resumed training at once where patience had run out before: Lightning would run one epoch more."""

    def __init__(self, stopping: EarlyStopping) -> None:
        self.stopping = stopping

    def on_train_start(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        if self.stopping.wait_count >= self.stopping.patience:
            trainer.should_stop = True


class StopAfter(Callback):
    """Ends a training after so many epochs, however many the learning rate's course is made for."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_start(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch >= self.epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


class StopOnNaN(Callback):
    """Ends a training whose loss is no longer a number; the checkpoints of earlier epochs stay.

    Each epoch has its own seed, so that going on from there would come to the same: only other settings mend it.
    """

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        _module: pl.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        *_: object,
    ) -> None:
        value = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        loss = 0.0 if value is None else float(value)
        if not math.isfinite(loss):
            best, last = (Path(trainer.default_root_dir) / f"{name}.ckpt" for name in ("best", "last"))
            kept = "no epoch was finished"
            if best.exists():
                kept = f"the best weights of the epochs before are in {best}"
            elif last.exists():  # a training without validation
                kept = f"the weights of the last epoch before are in {last}"
            raise ConfigError(
                f"the loss became {loss} in epoch {trainer.current_epoch + 1}, and would again if this training were "
                f"resumed: lower learning_rate and train anew (--overwrite in place of --resume); {kept}"
            )
