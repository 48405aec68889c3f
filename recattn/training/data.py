"""A split as Lightning's loaders."""

import math
from collections.abc import Iterator

import pytorch_lightning as pl

from recattn.batch import TargetBatch
from recattn.data.batches import target_batches
from recattn.data.click_sets import Clicks
from recattn.data.click_tables import ClickTableLoader, ClickTables
from recattn.data.clicks import ClickLoader
from recattn.data.histories import Histories
from recattn.data.split import Split
from recattn.data.windows import SequenceLoader


class TargetLoader:
    """The validation targets of a split, as TargetBatches."""

    def __init__(self, split: Split, *, batch_size: int, time_aware: bool) -> None:
        self.split, self.batch_size, self.time_aware = split, batch_size, time_aware

    def __len__(self) -> int:
        return math.ceil(len(self.split.validation.users) / self.batch_size)

    def __iter__(self) -> Iterator[TargetBatch]:
        for _, batch in target_batches(
            self.split.histories, self.split.validation, batch_size=self.batch_size, time_aware=self.time_aware
        ):
            yield batch


class SequenceData(pl.LightningDataModule):
    """Trains on a split's training part at every position, validates on its validation targets.

    batch_size, positions, context: see SequenceLoader. seed: of the order; each epoch has its own, so that a training
    that is resumed at an epoch meets the batches it would have met.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int = 8,
        positions: int = 48,
        context: int = 50,
        time_aware: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.split, self.train = split, split.train
        self.batch_size, self.positions, self.context = batch_size, positions, context
        self.time_aware, self.seed = time_aware, seed

    def train_dataloader(self) -> SequenceLoader:
        epoch = 0 if self.trainer is None else self.trainer.current_epoch
        return SequenceLoader(
            self.train,
            batch_size=self.batch_size,
            positions=self.positions,
            context=self.context,
            seed=self.seed,
            epoch=epoch,
        )

    def val_dataloader(self) -> TargetLoader:
        return TargetLoader(self.split, batch_size=128, time_aware=self.time_aware)


class ClickData(pl.LightningDataModule):
    """Trains on the training samples, validates on the validation samples; each sees the events before its moment.

    histories: of the split that the samples are of. batch_size: samples a batch. max_length: the events that the model
    reads. one_pass: cut training rows so that a model which reads a row once, whatever is asked of it, reads max_length
    events for up to half as many samples; these see half of max_length at least, as in `fit`'s sequences. seed: as in
    SequenceData.
    """

    def __init__(
        self, histories: Histories, clicks: Clicks, *, batch_size: int, max_length: int, one_pass: bool, seed: int = 0
    ) -> None:
        super().__init__()
        self.histories, self.clicks, self.batch_size = histories, clicks, batch_size
        self.max_length, self.one_pass, self.seed = max_length, one_pass, seed

    def train_dataloader(self) -> ClickLoader:
        window = max(1, self.max_length // 2) if self.one_pass else 8
        return ClickLoader(
            self.histories,
            self.clicks.train,
            batch_size=self.batch_size,
            window=window,
            context=self.max_length + 1 - window if self.one_pass else self.max_length,
            hold_next=not self.one_pass,
            seed=self.seed,
            epoch=0 if self.trainer is None else self.trainer.current_epoch,
        )

    def val_dataloader(self) -> ClickLoader:
        return ClickLoader(
            self.histories, self.clicks.validation, batch_size=1024, context=self.max_length, shuffle=False
        )


class TableData(pl.LightningDataModule):
    """Trains on the rows of one click table, validates on those of the other.

    batch_size: rows a batch. max_length: the events that the model reads. seed: as in SequenceData.
    """

    def __init__(self, tables: ClickTables, *, batch_size: int, max_length: int, seed: int = 0) -> None:
        super().__init__()
        self.tables, self.batch_size, self.max_length, self.seed = tables, batch_size, max_length, seed

    def train_dataloader(self) -> ClickTableLoader:
        return ClickTableLoader(
            self.tables.train,
            batch_size=self.batch_size,
            max_length=self.max_length,
            seed=self.seed,
            epoch=0 if self.trainer is None else self.trainer.current_epoch,
        )

    def val_dataloader(self) -> ClickTableLoader:
        return ClickTableLoader(self.tables.validation, batch_size=1024, max_length=self.max_length, shuffle=False)
