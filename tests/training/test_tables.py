"""Click tables on planted data: a click is of the kind that the history is of, and happens in the evening."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from recattn.data import Histories
from recattn.data.click_tables import ClickTables, read_click_table
from recattn.errors import ConfigError
from recattn.evaluation import auc, gauc, predict_table
from recattn.models import DIN, HSTU, TargetAttention
from recattn.training import ClickTask, RankingTask, TableData, data_arguments, fit
from recattn.training.objective import task_of, validate

HEAD = ["label", "user_id", "item_id", "kind_id", "hour", "item_history", "kind_history"]
KINDS, ITEMS = 3, 37


def write(path, users, seed):
    """Four rows a user: whatever the history holds, only its kind and the hour say what is taken."""
    rng, rows = np.random.default_rng(seed), []
    for user in users:
        seen = np.arange(user % KINDS, ITEMS, KINDS)[rng.integers(0, 12, rng.integers(1, 6))]
        for item, hour in zip(rng.integers(0, ITEMS, 4), rng.integers(0, 2, 4), strict=True):
            label = int(item % KINDS == user % KINDS and hour == 1)
            lists = ("^".join(map(str, seen)), "^".join(f"k{x % KINDS}" for x in seen))
            rows.append([label, f"u{user}", item, f"k{item % KINDS}", ("day", "evening")[hour], *lists])
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([HEAD, *rows])
    return path


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    train = read_click_table(write(folder / "train.csv", range(293), 1))
    return ClickTables(
        train, read_click_table(write(folder / "valid.csv", range(250, 350), 2), fitted=train.vocabulary)
    )


def small(tables, **more):
    vocabulary, histories = tables.train.vocabulary, tables.train.histories
    sizes = vocabulary.context.column_sizes
    told = data_arguments("recattn.models.DIN", histories, use_features=True, context_sizes=sizes)
    torch.manual_seed(0)
    return DIN(**told, dim=4, max_length=7, readout_dims=(13,), **more)


def train(tables, folder, *, monitor="gauc", model=None, **more):
    model = small(tables) if model is None else model
    task = ClickTask(model, monitor=monitor, learning_rate=0.03, warmup_steps=5)
    arguments = {"max_epochs": 3, "batch_size": 64, "progress": False} | more
    return model, fit(model, tables, folder=folder, task=task, **arguments)


def test_kind_and_hour_are_learnt_and_reported_as_evaluation_finds(tables, tmp_path):
    model, fitted = train(tables, tmp_path, max_epochs=6)
    table = tables.validation
    logits = predict_table(model, table, max_length=7)
    assert auc(table.labels, logits) > 0.97
    assert fitted.score == pytest.approx(gauc(table.labels, logits, table.of_users), abs=1e-6)
    found = validate(model, tables, None)
    assert found["gauc"]["mean"] == pytest.approx(fitted.score, abs=1e-6)
    assert found["auc"]["mean"] == pytest.approx(auc(table.labels, logits))


def test_predictions_are_in_the_order_of_the_table(tables):
    model, table = small(tables).eval(), tables.validation
    whole = predict_table(model, table, max_length=7)
    order = np.random.default_rng(3).permutation(len(table))
    assert np.allclose(predict_table(model, table.take(order), max_length=7), whole[order], atol=1e-6)


def test_context_tells_what_nothing_else_does(tables):
    sizes = tables.train.vocabulary.context.column_sizes
    assert sizes == (3,)
    histories = tables.train.histories
    assert data_arguments("recattn.models.DIN", histories, context_sizes=sizes)["context_sizes"] == [3]
    assert "context_sizes" not in data_arguments("recattn.models.SASRec", histories, context_sizes=sizes)
    assert "context_sizes" not in data_arguments("recattn.models.DIN", histories)


def test_many_levels_of_ratings_are_cut_where_as_many_ratings_lie_between_them():
    counts = np.r_[np.random.default_rng(0).geometric(0.3, 10_000), np.arange(1000, 1200)].astype(np.float32)
    ratings = Histories(np.ones(len(counts), np.int32), np.array([0, len(counts)]), num_items=1, ratings=counts)
    levels = data_arguments("recattn.models.DIN", ratings)["rating_levels"]
    assert levels[:6] == [1, 2, 3, 4, 5, 6]
    assert levels[-1] == 1199


def test_the_catalogue_is_described_with_what_the_rows_to_train_on_hold(tables, tmp_path):
    held = ClickTables.hold_out(tables.train, 0.9)
    model, _ = train(held, tmp_path, max_epochs=1, monitor="auc")
    items = model.value_table
    assert items.codes.tolist() == tables.train.vocabulary.codes.tolist()
    assert items.met.tolist() == held.met.tolist()
    assert not items.met.all()


def test_counted_transitions_stay_silent(tables, tmp_path):
    model = TargetAttention(tables.train.vocabulary.num_items, dim=4, max_length=7)
    train(tables, tmp_path, model=model, max_epochs=1)
    assert not len(model.transition_head.pairs)


def test_resuming_gives_what_an_uninterrupted_training_gives(tables, tmp_path, interrupted_validation):
    whole, expected = train(tables, tmp_path / "whole", model=small(tables, dropout=0.3), seed=3)
    with interrupted_validation(ClickTask, 2), pytest.raises(KeyboardInterrupt):
        train(tables, tmp_path / "parts", model=small(tables, dropout=0.3), seed=3)
    other = ClickTables.hold_out(tables.train, 0.2)
    with pytest.raises(ConfigError, match=r"tables is .* but the training to be resumed"):
        train(other, tmp_path / "parts", model=small(tables, dropout=0.3), seed=3, resume=True)
    again, found = train(tables, tmp_path / "parts", model=small(tables, dropout=0.3), seed=3, resume=True)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in whole.state_dict().items())
    assert replace(found, seconds=0.0) == replace(expected, seconds=0.0)


def test_a_click_task_and_its_batches_are_the_default(tables, tmp_path):
    fit(small(tables), tables, folder=tmp_path, max_epochs=1, progress=False)
    settings = json.loads((tmp_path / "training.json").read_text())
    assert (settings["batch_size"], settings["task"]["objective"]) == (1024, "clicks")
    assert settings["tables"] == tables.hash


def test_each_epoch_has_an_order_of_its_own(tables):
    data = TableData(tables, batch_size=64, max_length=7, seed=5)
    first = [batch.candidates for batch in data.train_dataloader()]
    data.trainer = type("Trainer", (), {"current_epoch": 1})()
    assert any(not torch.equal(one, two.candidates) for one, two in zip(first, data.train_dataloader(), strict=True))


def test_what_cannot_train_is_refused_before_anything_is_removed(tables, tmp_path):
    (tmp_path / "last.ckpt").write_text("of another training")
    model = small(tables)

    def refused(message, asked=tables, trained=model, **more):
        with pytest.raises(ConfigError, match=message):
            fit(trained, asked, folder=tmp_path, progress=False, **more)

    refused("task is a RankingTask, but clicks need a ClickTask", task=RankingTask(model))
    refused("positions is 5, but clicks are no sequences", positions=5)
    refused("clicks are samples of a split, but data are click tables", clicks=object())
    refused("HSTU is told the time of the request, but the data has no times", trained=HSTU(model.num_items, dim=8))
    rows = np.flatnonzero(np.diff(tables.validation.owners, prepend=-1) != 0)  # one row a user
    lone = ClickTables(tables.train, tables.validation.take(rows))
    refused("none of 100 users has both a positive and a negative", asked=lone)
    assert (tmp_path / "last.ckpt").exists()
    train(lone, tmp_path, monitor="auc", max_epochs=1)


def test_the_task_of_a_command_is_a_click_task(tables):
    settings = {"loss": None, "num_negatives": None, "learning_rate": 0.01, "weight_decay": 0.0}
    task = task_of(small(tables), tables, True, monitor="auc", **settings)
    assert (type(task), task.monitor) == (ClickTask, "auc")
