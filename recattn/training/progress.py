"""What a training shows: a bar with the time left on a terminal, a line an epoch elsewhere."""

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class TrainingProgress(Callback):
    """Prints a line after each epoch; on a terminal it also draws a bar over all epochs.

    The lines go to standard error, so that what a command answers stays alone on standard output.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True, emoji=False)
        self._bar: Progress | None = None
        self._task: Any = None
        self._began = 0.0

    def on_train_start(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        self._began = time.perf_counter()
        if not sys.stderr.isatty():
            return
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("batches"),
            TimeElapsedColumn(),
            TextColumn("left at most"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task("training", total=int(trainer.estimated_stepping_batches))

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step)

    def on_train_epoch_end(self, trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics
        seconds = time.perf_counter() - self._began
        names = ("loss", "hr@10", "ndcg@10", "log_loss", "auc", "gauc")
        shown = "  ".join(f"{name} {float(metrics[name]):.4f}" for name in names if name in metrics)
        self._console.print(f"epoch {trainer.current_epoch + 1:>3}  {shown}  ({seconds:.0f} s)", highlight=False)

    def on_train_end(self, _trainer: pl.Trainer, _module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, _trainer: pl.Trainer, _module: pl.LightningModule, _error: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
