"""FuxiCTR's own DIN, loader and training step, as clicks_fuxictr.py and benchmarks/din_speed.py run them.

For FuxiCTR's environment: nothing of recattn is imported here.
"""

import importlib
import json
import sys
from itertools import pairwise
from pathlib import Path

import fuxictr
import numpy as np
import pandas as pd
from fuxictr.features import FeatureMap

# The models of the zoo import each other by bare name.
sys.path.insert(0, str(Path(fuxictr.__file__).parents[1] / "model_zoo" / "LongCTR"))
FOREVER = 10**12


def write_tables(folder, offsets, events, num_items, samples):
    """The loader's files: users' histories (users count from 1), the catalogue (0 is padding), and samples by part."""
    histories = [[0], *(events[a:b].tolist() for a, b in pairwise(offsets))]
    pd.DataFrame({"user_index": range(len(histories)), "full_item_seq": histories}).to_parquet(folder / "users.parquet")
    numbers = np.arange(num_items + 1)
    pd.DataFrame({"item_index": numbers, "item_id": numbers}).to_parquet(folder / "items.parquet")
    for part, columns in samples.items():
        pd.DataFrame(columns).astype(np.int64).to_parquet(folder / f"{part}.parquet")


def feature_map(folder, user_sizes, num_items, dim):
    """Embeddings of the item and of the user's fields; user_sizes: how many values each field has, padding included."""

    def categorical(source, size):
        return {"source": source, "type": "categorical", "padding_idx": 0, "vocab_size": int(size)}

    features = [{name: {"type": "meta"}} for name in ("user_index", "seq_len", "item_index")]
    features += [{name: categorical("user", size)} for name, size in user_sizes.items()]
    features.append({"item_id": categorical("item", num_items + 1)})
    count = 1 + len(user_sizes)
    content = {
        "dataset_id": "clicks",
        "num_fields": count,
        "total_features": int(num_items + 1 + sum(user_sizes.values())),
        "input_length": count,
        "labels": ["label"],
        "features": features,
    }
    path = folder / "feature_map.json"
    path.write_text(json.dumps(content))
    found = FeatureMap("clicks", str(folder))
    found.load(str(path), {"embedding_dim": dim})
    return found


def loader(features, folder, part, *, batch_size, length, shuffle=False):
    return importlib.import_module("longctr_dataloader").LongCTRDataLoader(
        features,
        str(folder / f"{part}.parquet"),
        user_info=str(folder / "users.parquet"),
        item_info=str(folder / "items.parquet"),
        batch_size=batch_size,
        shuffle=shuffle,
        num_workers=0,
        max_len=length,
    )


def make_din(features, folder, *, dim, hidden, learning_rate):
    """The DIN of the zoo, in the state that fit() would set, so that train_epoch neither evaluates nor saves."""
    model = importlib.import_module("DIN.DIN").DIN(
        features,
        model_id="DIN",
        gpu=-1,
        embedding_dim=dim,
        dnn_hidden_units=hidden,
        attention_hidden_units=[64],
        attention_hidden_activations="Dice",
        learning_rate=learning_rate,
        optimizer="adam",
        loss="binary_crossentropy",
        task="binary_classification",
        metrics=["AUC"],
        verbose=0,
        model_root=str(folder),
    )
    vars(model).update(_max_gradient_norm=10.0, _eval_steps=FOREVER, _total_steps=0, _stop_training=False)
    return model


def train_epoch(model, batches, epoch):
    vars(model).update(_epoch_index=epoch)
    model.train()
    model.train_epoch(batches)
