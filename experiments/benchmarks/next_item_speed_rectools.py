"""The RecTools side of next_item_speed.py: its own SASRec, batches, training and top-10; runs in its environment."""

import argparse
import json
import logging
import warnings
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytorch_lightning as pl
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
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.item_net import IdEmbeddingsItemNet


def dataset(events):
    """Users from 0, items as they are numbered; an event's place stands for its time."""
    lengths = np.diff(events.offsets)
    place = np.arange(len(events.items)) - np.repeat(events.offsets[:-1], lengths)
    columns = {
        Columns.User: np.repeat(np.arange(len(lengths)), lengths),
        Columns.Item: events.items.astype(np.int64),
        Columns.Weight: 1.0,
        Columns.Datetime: pd.to_datetime(place, unit="s"),
    }
    return Dataset.construct(pd.DataFrame(columns))


def sasrec(options, **settings):
    losses = {"softmax": "softmax", "bce": "BCE"}
    return SASRecModel(
        n_factors=DIM,
        n_blocks=BLOCKS,
        n_heads=HEADS,
        session_max_len=LENGTH,
        dropout_rate=DROPOUT,
        lr=LEARNING_RATE,
        batch_size=BATCH,
        loss=losses[options.loss],
        n_negatives=1,
        item_net_block_types=(IdEmbeddingsItemNet,),
        recommend_batch_size=RANKED_AT_ONCE,
        recommend_torch_device="cpu",
        get_trainer_func=lambda: pl.Trainer(**trainer_settings(**settings)),
    )  # the feed-forward is as wide as the model


def clocks(options, events):
    clock = Clock()
    watch = stopwatch(pl.Callback, clock, lambda batch: (batch["y"] != 0).sum())
    model = sasrec(options, callbacks=[watch], max_epochs=-1, max_steps=WARM_STEPS + options.batches)
    model.fit(dataset(training_part(events)))
    sessions = model.data_preparator.get_dataloader_train().dataset.sessions
    result = clock.result(sum(len(session) - 1 for session in sessions))
    result["sequences"] = len(sessions)
    known, users = dataset(without_last(events, 1)), np.arange(len(events.offsets) - 1)

    def rank():
        return model.recommend(users=users, dataset=known, k=K, filter_viewed=True)

    def items(frame):
        ordered = frame.sort_values([Columns.User, Columns.Rank], kind="stable")
        return ordered[Columns.Item].to_numpy().reshape(-1, K)

    return result | time_ranking(rank, items, events)


def learn_for(options, events):
    course = Course(options.quality)

    def score(histories):
        part, network = model.data_preparator, model.lightning_model.torch_model
        items = part.get_known_item_ids().astype(np.int64)  # an item that never trained has no score
        inside = torch.zeros(events.num_items + 1, dtype=torch.int64)
        inside[items] = torch.from_numpy(part.get_known_items_sorted_internal_ids())
        vectors = network.item_model.get_all_embeddings()
        states = network.encode_sessions({"x": inside[histories]}, vectors)[:, -1:]
        scores = torch.full((len(histories), events.num_items + 1), -torch.inf)
        scores[:, items] = network.similarity_module(states, vectors)[:, 0, inside[items]]
        return scores

    model = sasrec(options, callbacks=[watcher(pl.Callback, course, events, score)], max_epochs=-1)
    model.fit(dataset(training_part(events)))
    return {"points": course.points, "settings": {"learning_rate": LEARNING_RATE, "batch_size": BATCH}}


def main():
    parser = argparse.ArgumentParser()
    worker_arguments(parser)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    pl.seed_everything(options.seed, verbose=False)
    events = read_events(options.events)
    result = (learn_for if options.quality else clocks)(options, events)
    print(json.dumps(result | {"version": version("rectools")}))


if __name__ == "__main__":
    main()
