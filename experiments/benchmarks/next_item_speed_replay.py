"""The RePlay side of next_item_speed.py: its own SASRec, batches, training and top-10; runs in RePlay's environment."""

import argparse
import json
import tempfile
import warnings
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
import torch
from next_item_sides import (
    BATCH,
    BLOCKS,
    DIM,
    DROPOUT,
    HEADS,
    LEARNING_RATE,
    LENGTH,
    RANKED_AT_ONCE,
    WARM_STEPS,
    Clock,
    Course,
    K,
    read_events,
    stopwatch,
    time_ranking,
    trainer_settings,
    training_part,
    watcher,
    without_last,
    worker_arguments,
)
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.nn.lightning import LightningModule
from replay.nn.lightning.callback import PandasTopItemsCallback
from replay.nn.lightning.optimizer import OptimizerFactory
from replay.nn.lightning.postprocessor import SeenItemsFilter
from replay.nn.sequential import SasRec
from replay.nn.transform.template import make_default_sasrec_transforms


def table(events):
    """A row for each user with the list of item codes; here 0 is an item and padding stands at the end."""
    lists = [(events.items[a:b] - 1).tolist() for a, b in pairwise(events.offsets)]
    return pd.DataFrame({"user_id": range(len(lists)), "item_id": lists})


def data(events, schema, folder):
    training, history = table(training_part(events)), table(without_last(events, 1))
    history["seen_ids"] = history["item_id"]
    history["item_id"] = [items[-LENGTH:] for items in history["item_id"]]
    training.to_parquet(folder / "train.parquet")
    history.to_parquet(folder / "predict.parquet")
    padding = events.num_items
    shapes = {
        "train": {"item_id": {"shape": LENGTH + 1, "padding": padding}},
        "predict": {
            "user_id": {},
            "item_id": {"shape": LENGTH, "padding": padding},
            "seen_ids": {"shape": int(history["seen_ids"].map(len).max()), "padding": -1},
        },
    }
    transforms = make_default_sasrec_transforms(schema)
    return ParquetModule(
        batch_size={"train": BATCH, "predict": RANKED_AT_ONCE},
        metadata=shapes,
        transforms={part: transforms[part] for part in shapes},
        train_path=str(folder / "train.parquet"),
        predict_path=str(folder / "predict.parquet"),
    )


def main():
    parser = argparse.ArgumentParser()
    worker_arguments(parser)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    lightning.seed_everything(options.seed, verbose=False)
    events = read_events(options.events)
    items = TensorFeatureInfo(
        "item_id",
        FeatureType.CATEGORICAL,
        is_seq=True,
        cardinality=events.num_items,
        padding_value=events.num_items,
        embedding_dim=DIM,
        feature_hint=FeatureHint.ITEM_ID,
        feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")],
    )
    schema = TensorSchema([items])
    model = SasRec.from_params(
        schema, embedding_dim=DIM, num_heads=HEADS, num_blocks=BLOCKS, max_sequence_length=LENGTH, dropout=DROPOUT
    )  # cross-entropy over the catalogue, feed-forward as wide as the model
    module = LightningModule(model, optimizer_factory=OptimizerFactory(learning_rate=LEARNING_RATE))
    with tempfile.TemporaryDirectory() as folder:
        batches = data(events, schema, Path(folder))
        result = (
            learn_for(options, events, model, module, batches)
            if options.quality
            else clocks(options, events, module, batches)
        )
    print(json.dumps(result | {"version": version("replay-rec")}))


def targets(batch):
    """Those with an event before them. RePlay trains on the first event of a padded sequence as well, from padding."""
    return int((batch["target_padding_mask"][..., 0] & batch["padding_mask"]).sum())


def clocks(options, events, module, batches):
    clock = Clock()
    watch = stopwatch(lightning.Callback, clock, targets)
    settings = trainer_settings(callbacks=[watch], max_epochs=-1, max_steps=WARM_STEPS + options.batches)
    lightning.Trainer(**settings).fit(module, datamodule=batches)
    prepared = [batches.compiled_transforms["train"](batch) for batch in batches.train_dataloader()]
    result = clock.result(sum(targets(batch) for batch in prepared))
    result["sequences"] = sum(len(batch["padding_mask"]) for batch in prepared)

    def rank():
        seen_out = SeenItemsFilter(item_count=events.num_items, seen_items_column="seen_ids")
        best = PandasTopItemsCallback(top_k=K, query_column="user_id", item_column="item_id", postprocessors=[seen_out])
        trainer = lightning.Trainer(**trainer_settings(callbacks=[best]), inference_mode=True)
        trainer.predict(module, datamodule=batches, return_predictions=False)
        return best.get_result()

    def items(frame):
        rows = frame["item_id"].to_numpy(np.int64).reshape(-1, K) + 1
        return rows[np.argsort(frame["user_id"].to_numpy()[::K], kind="stable")]

    return result | time_ranking(rank, items, events)


def learn_for(options, events, model, module, batches):
    def score(histories):
        real = histories != 0
        codes = torch.where(real, histories - 1, events.num_items)
        logits = model(feature_tensors={"item_id": codes}, padding_mask=real)["logits"]
        return torch.nn.functional.pad(logits, (1, 0))

    course = Course(options.quality)
    watch = watcher(lightning.Callback, course, events, score)
    lightning.Trainer(**trainer_settings(callbacks=[watch], max_epochs=-1)).fit(module, datamodule=batches)
    return {"points": course.points, "settings": {"learning_rate": LEARNING_RATE, "batch_size": BATCH}}


if __name__ == "__main__":
    main()
