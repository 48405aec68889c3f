"""The FuxiCTR side of clicks_fuxictr.py: its own DIN, loader and training step; runs in FuxiCTR's environment."""

import argparse
import importlib
import json
import sys
import time
from itertools import pairwise
from pathlib import Path

import fuxictr
import numpy as np
import pandas as pd
from fuxictr.features import FeatureMap
from fuxictr.pytorch.torch_utils import seed_everything
from sklearn.metrics import roc_auc_score

# The models of the zoo import each other by bare name.
sys.path.insert(0, str(Path(fuxictr.__file__).parents[1] / "model_zoo" / "LongCTR"))


def tables(clicks, folder):
    """Users, items and the samples of each part as the loader wants them; users count from 1."""
    offsets, events = clicks["offsets"], clicks["events"].astype(np.int64)
    histories = [[0], *(events[a:b].tolist() for a, b in pairwise(offsets))]
    pd.DataFrame({"user_index": range(len(histories)), "full_item_seq": histories}).to_parquet(folder / "users.parquet")
    numbers = np.arange(max(events.max(), clicks["test_items"].max()) + 1)
    pd.DataFrame({"item_index": numbers, "item_id": numbers}).to_parquet(folder / "items.parquet")
    for part in ("train", "validation", "test"):
        users = clicks[f"{part}_users"]
        samples = {"user_index": users + 1, "item_index": clicks[f"{part}_items"], "seq_len": clicks[f"{part}_visible"]}
        for field, codes in enumerate(clicks["profile"].T):
            samples[f"profile_{field}"] = codes[users]
        samples["label"] = clicks[f"{part}_labels"].astype(np.int64)
        pd.DataFrame({name: column.astype(np.int64) for name, column in samples.items()}).to_parquet(
            folder / f"{part}.parquet"
        )
    return len(numbers)


def feature_map(folder, items, sizes, dim):
    def categorical(source, size):
        return {"source": source, "type": "categorical", "padding_idx": 0, "vocab_size": int(size)}

    features = [{name: {"type": "meta"}} for name in ("user_index", "seq_len", "item_index")]
    features += [{f"profile_{field}": categorical("user", size)} for field, size in enumerate(sizes)]
    features.append({"item_id": categorical("item", items)})
    count = 1 + len(sizes)
    content = {
        "dataset_id": "clicks",
        "num_fields": count,
        "total_features": int(items + sum(sizes)),
        "input_length": count,
    }
    path = folder / "feature_map.json"
    path.write_text(json.dumps(content | {"labels": ["label"], "features": features}))
    features = FeatureMap("clicks", str(folder))
    features.load(str(path), {"embedding_dim": dim})
    return features


def user_auc(labels, scores, users):
    """AUC within each user that has both labels, weighted by samples."""
    frame = pd.DataFrame({"label": labels, "rank": scores, "user": users})
    frame["rank"] = frame.groupby("user")["rank"].rank()
    grouped = frame.groupby("user")
    count, positive = grouped.size(), grouped["label"].sum()
    ranks = frame["rank"].where(frame["label"] > 0, 0.0).groupby(frame["user"]).sum()
    pairs = positive * (count - positive)
    both = pairs > 0
    areas = (ranks - positive * (positive + 1) / 2)[both] / pairs[both]
    return float((areas * count[both]).sum() / count[both].sum())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int)
    for name in ("dim", "length", "batch-size", "epochs"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--units")
    options = parser.parse_args()
    seed_everything(options.seed)
    folder = options.folder
    clicks = np.load(folder / "clicks.npz")
    features = feature_map(folder, tables(clicks, folder), clicks["sizes"], options.dim)
    loader_class = importlib.import_module("longctr_dataloader").LongCTRDataLoader
    train, validation, test = (
        loader_class(
            features,
            str(folder / f"{part}.parquet"),
            user_info=str(folder / "users.parquet"),
            item_info=str(folder / "items.parquet"),
            batch_size=options.batch_size,
            shuffle=part == "train",
            num_workers=0,
            max_len=options.length,
        )
        for part in ("train", "validation", "test")
    )
    model = importlib.import_module("DIN.DIN").DIN(
        features,
        model_id="DIN",
        gpu=-1,
        embedding_dim=options.dim,
        dnn_hidden_units=[int(unit) for unit in options.units.split(",")],
        attention_hidden_units=[64],
        attention_hidden_activations="Dice",
        learning_rate=options.learning_rate,
        optimizer="adam",
        loss="binary_crossentropy",
        task="binary_classification",
        metrics=["AUC"],
        verbose=0,
        model_root=str(folder),
    )
    # What fit() sets, without its own evaluation and checkpoint after each epoch.
    vars(model).update(_max_gradient_norm=10.0, _eval_steps=10**12, _total_steps=0, _stop_training=False)
    best, began, kept = -1.0, time.perf_counter(), None
    for epoch in range(options.epochs):
        vars(model).update(_epoch_index=epoch)
        model.train()
        model.train_epoch(train)
        scores = model.predict(validation)
        labels = clicks["validation_labels"]
        reached = user_auc(labels, scores, clicks["validation_users"])
        print(f"epoch {epoch + 1}: gauc {reached:.4f} auc {roc_auc_score(labels, scores):.4f}", flush=True)
        if reached > best:
            best, kept = reached, {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seconds = time.perf_counter() - began
    model.load_state_dict(kept)
    chances = np.clip(model.predict(test), 1e-7, 1 - 1e-7)
    np.savez(folder / f"predicted-{options.seed}.npz", logits=np.log(chances / (1 - chances)), seconds=seconds)


if __name__ == "__main__":
    main()
