"""The FuxiCTR side of clicks_fuxictr.py; runs in FuxiCTR's environment."""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from fuxictr.pytorch.torch_utils import seed_everything
from fuxictr_din import feature_map, loader, make_din, train_epoch, write_tables
from sklearn.metrics import roc_auc_score


def samples(clicks, part):
    users = clicks[f"{part}_users"]
    columns = {"user_index": users + 1, "item_index": clicks[f"{part}_items"], "seq_len": clicks[f"{part}_visible"]}
    columns |= {f"profile_{field}": codes[users] for field, codes in enumerate(clicks["profile"].T)}
    return columns | {"label": clicks[f"{part}_labels"]}


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
    folder, clicks = options.folder, np.load(options.folder / "clicks.npz")
    num_items = max(clicks["events"].max(), clicks["test_items"].max())
    parts = ("train", "validation", "test")
    write_tables(
        folder, clicks["offsets"], clicks["events"], num_items, {part: samples(clicks, part) for part in parts}
    )
    sizes = {f"profile_{field}": size for field, size in enumerate(clicks["sizes"])}
    features = feature_map(folder, sizes, num_items, options.dim)
    reading = {"batch_size": options.batch_size, "length": options.length}
    train, validation, test = (loader(features, folder, part, shuffle=part == "train", **reading) for part in parts)
    hidden = [int(unit) for unit in options.units.split(",")]
    model = make_din(features, folder, dim=options.dim, hidden=hidden, learning_rate=options.learning_rate)
    best, began, kept = -1.0, time.perf_counter(), None
    for epoch in range(options.epochs):
        train_epoch(model, train, epoch)
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
