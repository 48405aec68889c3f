"""The torch-rechub side of din_speed.py: its own DIN, loader and trainer; runs in torch-rechub's environment."""

import argparse
import json
import tempfile

import numpy as np
import torch
from din_speed import CANDIDATES, Clock, milliseconds, worker_arguments
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.models.ranking import DIN
from torch_rechub.trainers import CTRTrainer
from torch_rechub.utils.data import DataGenerator


def arrays(events, length):
    items, offsets = events["items"].astype(np.int64), events["offsets"]
    lengths = np.diff(offsets)
    position = np.arange(len(items)) - np.repeat(offsets[:-1], lengths)
    seen = np.minimum(position, length)
    columns = np.arange(length)
    real = columns < seen[:, None]
    sources = np.where(real, (np.arange(len(items)) - seen)[:, None] + columns, 0)
    inputs = {
        "user_id": np.repeat(np.arange(1, len(lengths) + 1), lengths),
        "target_item": items,
        "hist_item": items[sources] * real,
    }
    labels = (events["ratings"] >= 4).astype(np.float32)
    is_test = position >= np.repeat(events["cut"], lengths)
    parts = (position >= 1) & ~is_test, (position >= 1) & is_test
    return [({name: values[part] for name, values in inputs.items()}, labels[part]) for part in parts]


class Timed:
    """A loader that tells the clock when the trainer comes back for the next batch."""

    def __init__(self, loader, clock):
        self.loader, self.clock = loader, clock

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        self.clock.start()
        for batch in self.loader:
            yield batch
            self.clock.tick(len(batch[1]))


def main():
    parser = argparse.ArgumentParser()
    worker_arguments(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    np.random.seed(options.seed)  # noqa: NPY002 - what the library draws from
    events = np.load(options.events)
    users, items = len(events["offsets"]), int(events["items"].max()) + 1
    (x, y), (test_x, test_y) = arrays(events, options.history)
    train, _, test = DataGenerator(x, y).generate_dataloader(
        x_val=test_x, y_val=test_y, x_test=test_x, y_test=test_y, batch_size=options.batch_size
    )
    model = DIN(
        features=[SparseFeature("user_id", users, embed_dim=64)],
        target_features=[SparseFeature("target_item", items, embed_dim=64)],
        history_features=[
            SequenceFeature("hist_item", items, embed_dim=64, pooling="concat", shared_with="target_item")
        ],
        mlp_params={"dims": [256, 128, 64]},
        attention_mlp_params={"dims": [64], "activation": "dice"},
    )
    trainer = CTRTrainer(
        model, optimizer_params={"lr": 1e-3, "weight_decay": 0.0}, device="cpu", model_path=tempfile.mkdtemp()
    )
    clock = Clock()
    for _ in range(options.epochs):
        trainer.train_one_epoch(Timed(train, clock))
    auc = float(trainer.evaluate(trainer.model, test))
    longest = int(np.diff(events["offsets"]).argmax())
    last = events["items"][: events["offsets"][longest + 1]][-options.history :].astype(np.int64)
    batch = {
        "user_id": torch.full((CANDIDATES,), longest + 1),
        "target_item": torch.arange(1, CANDIDATES + 1),
        "hist_item": torch.from_numpy(last).repeat(CANDIDATES, 1),
    }
    trainer.model.eval()
    with torch.no_grad():
        scoring = milliseconds(lambda: trainer.model(batch))
    measured = {"auc": auc, "test_samples": len(test_y), "scoring_ms": scoring}
    print(json.dumps(clock.result() | measured))


if __name__ == "__main__":
    main()
