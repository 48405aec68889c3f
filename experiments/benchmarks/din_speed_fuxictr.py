"""The FuxiCTR side of din_speed.py; runs in FuxiCTR's environment."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from din_speed import CANDIDATES, Clock, milliseconds, worker_arguments
from fuxictr.pytorch.torch_utils import seed_everything

sys.path.insert(0, str(Path(__file__).parents[1]))
from fuxictr_din import feature_map, loader, make_din, train_epoch, write_tables


def samples(events):
    """Those that train, those that test, and a row for each candidate with the longest history repeated."""
    offsets = events["offsets"]
    lengths = np.diff(offsets)
    user = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    position = np.arange(len(user)) - np.repeat(offsets[:-1], lengths)
    columns = {"user_index": user, "user_id": user, "item_index": events["items"], "seq_len": position}
    columns["label"] = events["ratings"] >= 4
    is_test = position >= np.repeat(events["cut"], lengths)
    longest = np.full(CANDIDATES, lengths.argmax() + 1)
    asked = {"user_index": longest, "user_id": longest, "item_index": np.arange(1, CANDIDATES + 1)}
    asked |= {"seq_len": np.full(CANDIDATES, lengths.max()), "label": np.zeros(CANDIDATES)}
    return {
        "train": {name: column[(position >= 1) & ~is_test] for name, column in columns.items()},
        "test": {name: column[(position >= 1) & is_test] for name, column in columns.items()},
        "asked": asked,
    }


def main():
    parser = argparse.ArgumentParser()
    worker_arguments(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seed_everything(options.seed)
    folder, events = Path(tempfile.mkdtemp()), np.load(options.events)
    num_items = events["items"].max()
    write_tables(folder, events["offsets"], events["items"], num_items, samples(events))
    features = feature_map(folder, {"user_id": len(events["offsets"])}, num_items, 64)
    reading = {"batch_size": options.batch_size, "length": options.history}
    train = loader(features, folder, "train", shuffle=True, **reading)
    test = loader(features, folder, "test", **reading)
    asked = loader(features, folder, "asked", **reading | {"batch_size": CANDIDATES})
    model = make_din(features, folder, dim=64, hidden=[256, 128, 64], learning_rate=1e-3)
    clock, step = Clock(), model.train_step

    def timed(batch):
        loss = step(batch)
        clock.tick(len(batch[0]["label"]))
        return loss

    model.train_step = timed
    for epoch in range(options.epochs):
        clock.start()
        train_epoch(model, train, epoch)
    auc = float(model.evaluate(test)["AUC"])
    batch = next(iter(asked))
    model.eval()
    with torch.no_grad():
        scoring = milliseconds(lambda: model(batch))
    measured = {"auc": auc, "test_samples": test.num_samples, "scoring_ms": scoring}
    print(json.dumps(clock.result() | measured))


if __name__ == "__main__":
    main()
