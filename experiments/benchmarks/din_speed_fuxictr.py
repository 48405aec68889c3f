"""The FuxiCTR side of din_speed.py: its own DIN, loader and training step; runs in FuxiCTR's environment."""

import argparse
import importlib
import json
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import fuxictr
import numpy as np
import pandas as pd
import torch
from din_speed import CANDIDATES, Clock, milliseconds, worker_arguments
from fuxictr.features import FeatureMap
from fuxictr.pytorch.torch_utils import seed_everything

# The models of the zoo import each other by bare name.
sys.path.insert(0, str(Path(fuxictr.__file__).parents[1] / "model_zoo" / "LongCTR"))


def tables(events, folder):
    items, offsets, cut = events["items"].astype(np.int64), events["offsets"], events["cut"]
    lengths = np.diff(offsets)
    user = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    position = np.arange(len(items)) - np.repeat(offsets[:-1], lengths)
    histories = [[0], *(items[a:b].tolist() for a, b in pairwise(offsets))]
    pd.DataFrame({"user_index": range(len(histories)), "full_item_seq": histories}).to_parquet(folder / "users.parquet")
    numbers = np.arange(items.max() + 1)
    pd.DataFrame({"item_index": numbers, "item_id": numbers}).to_parquet(folder / "items.parquet")
    samples = pd.DataFrame(
        {
            "user_index": user,
            "user_id": user,
            "item_index": items,
            "seq_len": position,
            "label": (events["ratings"] >= 4).astype(np.int64),
        }
    )
    is_test = position >= np.repeat(cut, lengths)
    samples[(position >= 1) & ~is_test].to_parquet(folder / "train.parquet")
    samples[(position >= 1) & is_test].to_parquet(folder / "test.parquet")
    longest = np.argmax(lengths) + 1  # a row for each candidate, the history repeated
    repeated = {"user_index": longest, "user_id": longest, "item_index": np.arange(1, CANDIDATES + 1)}
    repeated |= {"seq_len": lengths.max(), "label": 0}
    pd.DataFrame(repeated).to_parquet(folder / "asked.parquet")
    return len(histories), len(numbers)


def feature_map(folder, users, items):
    def categorical(source, size):
        return {"source": source, "type": "categorical", "padding_idx": 0, "vocab_size": size}

    features = [{name: {"type": "meta"}} for name in ("user_index", "seq_len", "item_index")]
    features += [{"user_id": categorical("user", users)}, {"item_id": categorical("item", items)}]
    content = {"dataset_id": "ml", "num_fields": 2, "total_features": users + items, "input_length": 2}
    path = folder / "feature_map.json"
    path.write_text(json.dumps(content | {"labels": ["label"], "features": features}))
    features = FeatureMap("ml", str(folder))
    features.load(str(path), {"embedding_dim": 64})
    return features


def main():
    parser = argparse.ArgumentParser()
    worker_arguments(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seed_everything(options.seed)
    folder = Path(tempfile.mkdtemp())
    features = feature_map(folder, *tables(np.load(options.events), folder))
    loader_class = importlib.import_module("longctr_dataloader").LongCTRDataLoader
    train, test, asked = (
        loader_class(
            features,
            str(folder / f"{part}.parquet"),
            user_info=str(folder / "users.parquet"),
            item_info=str(folder / "items.parquet"),
            batch_size=CANDIDATES if part == "asked" else options.batch_size,
            shuffle=part == "train",
            num_workers=0,
            max_len=options.history,
        )
        for part in ("train", "test", "asked")
    )
    model = importlib.import_module("DIN.DIN").DIN(
        features,
        model_id="DIN",
        gpu=-1,
        embedding_dim=64,
        dnn_hidden_units=[256, 128, 64],
        attention_hidden_units=[64],
        attention_hidden_activations="Dice",
        learning_rate=1e-3,
        optimizer="adam",
        loss="binary_crossentropy",
        task="binary_classification",
        metrics=["AUC"],
        verbose=0,
        model_root=str(folder),
    )
    clock, step = Clock(), model.train_step

    def timed(batch):
        loss = step(batch)
        clock.tick(len(batch[0]["label"]))
        return loss

    model.train_step = timed
    # What fit() sets, without its evaluation and checkpoint after each epoch.
    vars(model).update(_max_gradient_norm=10.0, _eval_steps=10**12, _total_steps=0, _stop_training=False)
    for epoch in range(options.epochs):
        vars(model).update(_epoch_index=epoch)
        clock.start()
        model.train_epoch(train)
    auc = float(model.evaluate(test)["AUC"])
    batch = next(iter(asked))
    model.eval()
    with torch.no_grad():
        scoring = milliseconds(lambda: model(batch))
    measured = {"auc": auc, "test_samples": test.num_samples, "scoring_ms": scoring}
    print(json.dumps(clock.result() | measured))


if __name__ == "__main__":
    main()
