"""Train a ranker on a split or click tables: the whole recipe, best weights kept and interruptions survived."""

import contextlib
import hashlib
import json
import logging
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint

from recattn.data.click_sets import Clicks
from recattn.data.click_tables import ClickTables
from recattn.data.histories import Histories
from recattn.data.split import Split
from recattn.data.transitions import count_transitions
from recattn.errors import ConfigError
from recattn.evaluation.click_metrics import auc, gauc
from recattn.evaluation.result import write_text_atomic
from recattn.models import NextItemModel, Ranker, describe
from recattn.models.item_embedding import ItemEmbedding
from recattn.models.transitions import TransitionHead
from recattn.nn.checks import check_choice, check_count
from recattn.training.callbacks import FreshSeed, StayStopped, StopAfter, StopOnNaN, Stopwatch
from recattn.training.checkpoints import WholeCheckpoints
from recattn.training.click_task import ClickTask
from recattn.training.data import ClickData, SequenceData, TableData
from recattn.training.precision import Bf16Training, Precision
from recattn.training.progress import TrainingProgress
from recattn.training.ranking_task import RankingTask
from recattn.training.tasks import task_for


@dataclass(frozen=True)
class Fitted:
    """What a training came to.

    best_epoch: the epoch, from 1, whose weights the model now has; epochs: how many were run.
    score: the task's ``monitor`` of it on the validation part, NDCG@10 for next items; nan where there was none.
    seconds: training and validation, with those of the epochs before it where it was resumed.
    """

    best_epoch: int
    epochs: int
    score: float
    seconds: float


def fit(
    model: Ranker,
    data: Split | ClickTables,
    *,
    folder: str | Path,
    task: RankingTask | None = None,
    clicks: Clicks | None = None,
    batch_size: int | None = None,
    positions: int | None = None,
    max_epochs: int = 8,
    patience: int = 3,
    stop_after: int | None = None,
    precision: Precision = "fp32",
    seed: int = 0,
    resume: bool = False,
    progress: bool = True,
) -> Fitted:
    """Train the model on the training part until it gets no better on validation, and keep its best weights.

    What is to rise is the task's ``monitor``: NDCG@10 of the next items, or GAUC or AUC of clicks.
    The model is changed in place. A TransitionHead gets its counts from the training part first (of click tables none:
    their rows do not tell what follows what), an ItemEmbedding the features of the catalogue.

    data: a split of histories, or click tables.
    folder: where checkpoints are kept while training runs (``last.ckpt`` after each epoch, and the best one).
    task: loss and optimiser; by default ``task_for(model)``, of clicks ``ClickTask(model)``. It must hold this model.
    clicks: labelled samples of this split to train and validate on, in place of every event's successor.
    batch_size: of clicks and tables samples a batch, by default 1,024, else sequences a batch, by default 8.
    positions: targets a sequence, see SequenceLoader; not for clicks or tables. By default 48. A
        NextItemModel reads a sequence in one pass, so the targets and what only precedes them, at least one event,
        share its max_length + 1, the last of which is only a target; by default half of max_length are targets.
    max_epochs, patience: stop after so many epochs, or after ``patience`` epochs in a row that were no better.
    stop_after: end after so many of max_epochs, without validation, and keep the last weights. So a model is trained
        anew on all that is known before the test (`Split.before_test`), once the best epoch has been found: the
        learning rate falls as it did then.
    precision: of the products in training, ``"fp32"`` or ``"bf16"``: faster where the processor has bf16 instructions
        (AVX512-bf16, AMX, a GPU), many times slower where it has none. Weights, sums, exponentials, the optimiser and
        what is measured are fp32 either way.
    seed: of order, dropout and negatives. The initial weights are the model's own: seed before making it.
    resume: go on from ``last.ckpt`` when there is one; the outcome is that of a training never interrupted. The
        settings, a learning rate among them, must be those of that training, which ``training.json`` holds.
    Raises ConfigError for a loss that is not a number, for sizes below 1, for a model that reads times without any, for
    clicks of another split, and for clicks or tables with another task than a ClickTask or without what its monitor
    needs (a user with both labels for GAUC);
    ArtefactError for a checkpoint that cannot be written (a full disk); KeyboardInterrupt passes. In each case, and
    where the process is killed, the last epoch's checkpoint is kept.
    """
    folder = Path(folder)
    histories = data.train.histories if isinstance(data, ClickTables) else data.histories
    labelled = clicks is not None or isinstance(data, ClickTables)
    if histories.times is None:
        _check_timeless(model)
    if task is None:
        task = ClickTask(model) if labelled else task_for(model)
    if task.model is not model:
        raise ConfigError("task holds another model than the one to be trained")
    if batch_size is None:
        batch_size = task.default_batch_size
    for name, value in (("batch_size", batch_size), ("max_epochs", max_epochs), ("patience", patience)):
        check_count(name, value)
    if stop_after is not None:
        check_count("stop_after", stop_after)
        if stop_after > max_epochs:
            raise ConfigError(f"stop_after is {stop_after}, beyond the {max_epochs} of max_epochs")
    check_choice("precision", precision, get_args(Precision))
    if positions is not None and labelled:
        raise ConfigError(f"positions is {positions}, but clicks are no sequences of targets: leave it out")
    batches, asked = _batches(model, data, task, clicks, batch_size, positions, seed)
    if isinstance(data, Split):
        count_into(model, data)
    describe_into(model, histories, data.met)
    last = folder / "last.ckpt"
    if not resume:
        for name in ("last.ckpt", "best.ckpt", "training.json"):  # nothing else: the folder may be anybody's
            (folder / name).unlink(missing_ok=True)
    settings = {**asked, "model": describe(model), "task": task.settings, "batch_size": batch_size}
    settings |= {"max_epochs": max_epochs, "patience": patience, "stop_after": stop_after}
    settings |= {"precision": precision, "seed": seed}
    if histories.features is not None:  # no split knows them
        settings["features"] = hashlib.sha256(histories.features.tobytes()).hexdigest()
    _keep_settings(folder / "training.json", settings)
    best = ModelCheckpoint(
        folder, "best", monitor=task.monitor, mode="max", enable_version_counter=False, save_weights_only=True
    )
    # Lightning's own save_last writes no epoch that was not the best. It comes after `best`, whose state it holds.
    latest = ModelCheckpoint(folder, "last", enable_version_counter=False)
    # Checked before the checkpoint of the same validation is written, which is where a resumed training goes on.
    stopping = EarlyStopping(task.monitor, mode="max", patience=patience, check_on_train_epoch_end=False)
    ending: list[Callback] = [stopping, StayStopped(stopping), best] if stop_after is None else [StopAfter(stop_after)]
    callbacks: list[Callback] = [FreshSeed(seed), StopOnNaN(), *ending, latest]
    watch = Stopwatch()
    shown = [TrainingProgress()] if progress else []
    with _quiet_lightning():
        trainer = pl.Trainer(
            accelerator="auto",
            devices=1,
            max_epochs=max_epochs,
            callbacks=[watch, *callbacks, *shown],
            plugins=[WholeCheckpoints(), *([Bf16Training()] if precision == "bf16" else [])],
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if stop_after is None else 0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        try:
            trainer.fit(task, batches, ckpt_path=str(last) if resume and last.exists() else None)
        except SystemExit as stopped:
            if not isinstance(stopped.__context__, KeyboardInterrupt):
                raise
            # Lightning turns ctrl-C into an exit.
            raise KeyboardInterrupt from stopped
    if stop_after is not None:
        model.eval()
        return Fitted(stop_after, trainer.current_epoch, math.nan, watch.seconds)
    kept = torch.load(folder / "best.ckpt", weights_only=True)
    task.load_state_dict(kept["state_dict"])
    model.eval()
    return Fitted(
        best_epoch=int(kept["epoch"]) + 1,
        epochs=trainer.current_epoch,
        score=float(best.best_model_score or 0.0),
        seconds=watch.seconds,
    )


def _batches(
    model: Ranker,
    data: Split | ClickTables,
    task: RankingTask,
    clicks: Clicks | None,
    batch_size: int,
    positions: int | None,
    seed: int,
) -> tuple[SequenceData | ClickData | TableData, dict[str, Any]]:
    """The loaders of this kind of data, and what tells it from other data in ``training.json``."""
    if isinstance(data, ClickTables):
        if clicks is not None:
            raise ConfigError("clicks are samples of a split, but data are click tables, with labels of their own")
        return _tables(model, data, task, batch_size, seed), {"tables": data.hash}
    if clicks is not None:
        return _clicks(model, data, task, clicks, batch_size, seed), {"split": data.hash, "clicks": clicks.hashes}
    sequences = _sequences(model, data, task, batch_size, positions, seed)
    return sequences, {"split": data.hash, "positions": sequences.positions}


def _sequences(
    model: Ranker, split: Split, task: RankingTask, batch_size: int, positions: int | None, seed: int
) -> SequenceData:
    """The split as sequences of a width that suits the model."""
    if isinstance(task, ClickTask):
        raise ConfigError("task is a ClickTask, which trains on clicks: give them")
    next_item = isinstance(model, NextItemModel)
    context = model.max_length
    if positions is None:
        positions = context // 2 if next_item else 48
    check_count("positions", positions)
    if next_item:
        positions = min(positions, context)
        context += 1 - positions
    return SequenceData(
        split, batch_size=batch_size, positions=positions, context=context, time_aware=model.time_aware, seed=seed
    )


def _clicks(model: Ranker, split: Split, task: RankingTask, clicks: Clicks, batch_size: int, seed: int) -> ClickData:
    """The samples, once it is sure that the task can train on them and choose its best epoch by them."""
    if clicks.split_hash != split.hash:
        raise ConfigError("clicks are samples of another split than the one to be trained on")
    if model.time_aware and (clicks.train.times is None or clicks.validation.times is None):
        raise ConfigError(f"{type(model).__name__} is told the time of the request, but clicks have no times")
    _check_monitor(task, clicks.validation.labels, clicks.validation.users)
    return ClickData(
        split.histories,
        clicks,
        batch_size=batch_size,
        max_length=model.max_length,
        one_pass=isinstance(model, NextItemModel),
        seed=seed,
    )


def _tables(model: Ranker, tables: ClickTables, task: RankingTask, batch_size: int, seed: int) -> TableData:
    """The rows, once it is sure that the task can choose its best epoch by them."""
    _check_monitor(task, tables.validation.labels, tables.validation.of_users)
    return TableData(tables, batch_size=batch_size, max_length=model.max_length, seed=seed)


def _check_monitor(task: RankingTask, labels: NDArray[Any], users: NDArray[Any]) -> None:
    """Let a metric that has no value on these labels say why, now rather than after an epoch."""
    if not isinstance(task, ClickTask):
        raise ConfigError(f"task is a {type(task).__name__}, but clicks need a ClickTask")
    constant = np.zeros(len(labels))
    auc(labels, constant)
    if task.monitor == "gauc":
        gauc(labels, constant, users)


def _check_timeless(model: Ranker) -> None:
    """Raise ConfigError for a model that reads times, where there are none."""
    name = type(model).__name__
    if model.time_aware:
        raise ConfigError(
            f"{name} is told the time of the request, but the data has no times: name a time column, "
            "or make it blind (times='none' or time_aware=False)"
        )
    if getattr(model, "times", "none") != "none" or getattr(model, "interval_bias", False):
        raise ConfigError(
            f"{name} reads the times of the history, but the data has no times: name a time column, "
            "or leave them out (times='none', interval_bias=False)"
        )


def _keep_settings(path: Path, settings: dict[str, Any]) -> None:
    """Write the settings down, or compare them with those of the training that is resumed."""
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        now = json.loads(json.dumps(settings))
        before, now = (told | told["task"] | {"task": None} for told in (before, now))
        for name in before | now:
            if before.get(name) != now.get(name):
                raise ConfigError(
                    f"{name} is {now.get(name)!r}, but the training to be resumed in {path.parent} had "
                    f"{before.get(name)!r}: go on with its settings, or train anew (--overwrite in place of --resume)"
                )
        return
    write_text_atomic(path, json.dumps(settings, indent=1))


def count_into(model: Ranker, split: Split) -> None:
    """Give the model's TransitionHead, if it has one, the counts of the split's training part."""
    for part in model.modules():
        if isinstance(part, TransitionHead):
            counts = count_transitions(split.train, part.horizon).tocoo()
            pairs = torch.from_numpy(counts.row.astype("int64") * counts.shape[1] + counts.col)
            part.set_counts(pairs, torch.from_numpy(counts.data))


def describe_into(model: Ranker, histories: Histories, met: NDArray[np.bool_]) -> None:
    """Give the model's ItemEmbeddings, where they read features, those of the catalogue, and what training meets.

    met: (num_items + 1,). Raises ConfigError where the model reads features and the histories have none.
    """
    for part in model.modules():
        if isinstance(part, ItemEmbedding) and part.feature_sizes:
            if histories.features is None:
                raise ConfigError("the model reads items' features, but the data has none (recattn.data.with_features)")
            part.set_features(torch.from_numpy(histories.features), torch.from_numpy(met))


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
