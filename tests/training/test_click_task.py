"""Clicks on planted data: the positive is the successor of the last event, the negatives are anything else."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from recattn.batch import History, RankingBatch
from recattn.data.click_sets import make_clicks
from recattn.data.histories import Histories
from recattn.data.split import Targets
from recattn.data.splits import leave_last
from recattn.errors import ConfigError
from recattn.evaluation import auc, gauc, log_loss, predict_clicks
from recattn.models import HSTU, SASRec, TargetAttention, next_item
from recattn.training import ClickData, ClickTask, RankingTask, fit
from recattn.training.fit import count_into

ARGUMENTS = {"learning_rate": 0.05, "warmup_steps": 5}


@pytest.fixture(scope="module")
def clicks(cycle):
    return make_clicks(cycle, negatives=3)


def small(split, **more):
    torch.manual_seed(0)
    arguments = {"dim": 14, "max_length": 7, "transitions": 0, "dropout": 0.0} | more
    return TargetAttention(split.histories.num_items, **arguments)


def train(split, clicks, folder, *, model=None, monitor="gauc", **more):
    model = small(split) if model is None else model
    task = ClickTask(model, monitor=monitor, **ARGUMENTS)
    arguments = {"max_epochs": 3, "batch_size": 64, "progress": False} | more
    return model, fit(model, split, folder=folder, task=task, clicks=clicks, **arguments)


def logits_of(model, split, samples):
    return predict_clicks(model, split.histories, samples, max_length=model.max_length)


def test_what_follows_is_told_from_what_does_not(cycle, clicks, tmp_path):
    model, fitted = train(cycle, clicks, tmp_path, max_epochs=6)
    logits = logits_of(model, cycle, clicks.test)
    assert fitted.score > 0.98
    assert auc(clicks.test.labels, logits) > 0.98
    assert logits[clicks.test.labels].mean() > 0 > logits[~clicks.test.labels].mean()


@pytest.mark.parametrize("monitor", ["gauc", "auc"])
def test_what_is_reported_is_what_evaluation_finds(cycle, clicks, tmp_path, monitor):
    model, fitted = train(cycle, clicks, tmp_path, monitor=monitor, max_epochs=1)
    asked, logits = clicks.validation, logits_of(model, cycle, clicks.validation)
    expected = auc(asked.labels, logits) if monitor == "auc" else gauc(asked.labels, logits, asked.users)
    assert fitted.score == pytest.approx(expected, abs=1e-6)


def test_each_epoch_logs_the_metrics_of_all_validation_samples(cycle, clicks):
    model = small(cycle).eval()
    task, logged = ClickTask(model), {}
    task.log = lambda name, value, **_: logged.update({name: value})
    task.on_validation_epoch_start()
    data = ClickData(cycle.histories, clicks, batch_size=5, max_length=7, one_pass=False)
    with torch.no_grad():
        for index, batch in enumerate(data.val_dataloader()):
            task.validation_step(batch, index)
    task.on_validation_epoch_end()
    asked, logits = clicks.validation, logits_of(model, cycle, clicks.validation)
    assert logged == {
        "auc": pytest.approx(auc(asked.labels, logits), abs=1e-6),
        "gauc": pytest.approx(gauc(asked.labels, logits, asked.users), abs=1e-6),
        "log_loss": pytest.approx(log_loss(asked.labels, logits), abs=1e-6),
    }


def script(monkeypatch, values):
    turn = iter(values)

    def on_validation_epoch_end(self):
        value = next(turn)
        if isinstance(value, BaseException):
            raise value
        seen.append(self.model.value_table.weight.clone())
        for name, number in value.items():
            self.log(name, number)

    seen = []
    monkeypatch.setattr(ClickTask, "on_validation_epoch_end", on_validation_epoch_end)
    return seen


@pytest.mark.parametrize(("monitor", "best"), [("gauc", 3), ("auc", 2)])
def test_the_weights_of_the_epoch_that_was_best_by_the_monitor_are_kept(
    cycle, clicks, tmp_path, monkeypatch, monitor, best
):
    seen = script(monkeypatch, [{"gauc": g, "auc": a} for g, a in ((0.5, 0.6), (0.6, 0.9), (0.7, 0.8), (0.7, 0.7))])
    model, fitted = train(cycle, clicks, tmp_path, monitor=monitor, max_epochs=4)
    assert fitted.best_epoch == best
    assert torch.equal(model.value_table.weight, seen[best - 1])


def test_training_stops_when_patience_runs_out(cycle, clicks, tmp_path, monkeypatch):
    script(monkeypatch, [{"gauc": value, "auc": 0.1 * value} for value in (0.5, 0.4, 0.5, 0.9)])
    _, fitted = train(cycle, clicks, tmp_path, patience=2, max_epochs=4)
    assert (fitted.best_epoch, fitted.epochs) == (1, 3)


def test_resuming_gives_what_an_uninterrupted_training_gives(cycle, clicks, tmp_path, interrupted_validation):
    whole, expected = train(cycle, clicks, tmp_path / "whole", model=small(cycle, dropout=0.3), seed=3)
    with interrupted_validation(ClickTask, 2), pytest.raises(KeyboardInterrupt):
        train(cycle, clicks, tmp_path / "parts", model=small(cycle, dropout=0.3), seed=3)
    other = make_clicks(cycle, negatives=3, seed=8)
    with pytest.raises(ConfigError, match=r"clicks is .* but the training to be resumed"):
        train(cycle, other, tmp_path / "parts", model=small(cycle, dropout=0.3), seed=3, resume=True)
    again, found = train(cycle, clicks, tmp_path / "parts", model=small(cycle, dropout=0.3), seed=3, resume=True)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in whole.state_dict().items())
    assert replace(found, seconds=0.0) == replace(expected, seconds=0.0)


def test_the_settings_are_written_down(cycle, clicks, tmp_path):
    train(cycle, clicks, tmp_path, monitor="auc", max_epochs=1)
    settings = json.loads((tmp_path / "training.json").read_text())
    assert settings["task"] == {
        "objective": "clicks",
        "monitor": "auc",
        "learning_rate": 0.05,
        "weight_decay": 0.0,
        "warmup_steps": 5,
        "auxiliary_weight": 1.0,
    }
    assert settings["clicks"] == clicks.hashes
    assert settings["batch_size"] == 64


def test_the_batch_is_a_thousand_samples_by_default(cycle, clicks, tmp_path):
    model = small(cycle)
    fit(model, cycle, folder=tmp_path, clicks=clicks, max_epochs=1, progress=False)
    assert json.loads((tmp_path / "training.json").read_text())["batch_size"] == 1024


def test_next_item_models_learn_it_and_read_each_row_in_one_pass(cycle, clicks, tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = SASRec(37, dim=16, max_length=6, dropout=0.0)
    with monkeypatch.context() as patched:
        patched.setattr(next_item, "window", None)  # what would cut a row into one for each sample
        for batch in ClickData(cycle.histories, clicks, batch_size=64, max_length=6, one_pass=True).train_dataloader():
            model(batch)
            HSTU(37, dim=8, max_length=6)(batch)  # told the time of each request
    _, fitted = train(cycle, clicks, tmp_path, model=model, max_epochs=10)
    assert fitted.score > 0.9


@pytest.mark.parametrize("max_length", [1, 2, 7, 20])
def test_rows_of_one_pass_are_as_wide_as_the_model_and_the_others_hold_the_event_asked_about(cycle, clicks, max_length):
    for one_pass in (True, False):
        data = ClickData(cycle.histories, clicks, batch_size=64, max_length=max_length, one_pass=one_pass)
        for batch in data.train_dataloader():
            last = batch.visible.max(1).values
            assert torch.equal(batch.history.lengths, last + (not one_pass))
            assert not one_pass or batch.history.items.shape[1] <= max_length
            least = 1 if one_pass else max_length
            seen = batch.visible[batch.candidates != 0]
            assert (seen >= 1).all()
            assert seen.max() >= min(least, 5)


def test_a_transition_head_does_not_see_the_event_that_it_is_trained_on(tmp_path):
    """Every pair occurs once: taken out of its own counts, nothing is left and the positive looks as any other."""
    items = np.arange(1, 21, dtype=np.int32)
    split = leave_last(Histories(items, np.array([0, 20]), num_items=23))
    model = small(split, transitions=1)
    count_into(model, split)
    with torch.no_grad():
        for table in (model.value_table, model.query_table, model.key_table, model.readout_table):
            table.weight.zero_()
    data = ClickData(split.histories, make_clicks(split), batch_size=5, max_length=7, one_pass=False)
    for batch in data.train_dataloader():
        real = batch.candidates != 0
        trained, asked = (model.train(mode)(batch)[real] for mode in (True, False))
        positive = batch.labels[real] == 1
        assert trained[positive].max() <= trained[~positive].min() + 1e-6
        assert asked[positive].min() > asked[~positive].max()


def test_clicks_that_cannot_train_are_refused_before_anything_is_removed(cycle, clicks, tmp_path):
    (tmp_path / "last.ckpt").write_text("of another training")
    model = small(cycle)

    def refused(message, split=cycle, asked=clicks, task=None, **more):
        with pytest.raises(ConfigError, match=message):
            fit(model, split, folder=tmp_path, task=task, clicks=asked, progress=False, **more)

    refused("clicks are samples of another split", split=leave_last(cycle.histories))
    refused("task is a RankingTask, but clicks need a ClickTask", task=RankingTask(model))
    refused("task is a ClickTask, which trains on clicks: give them", asked=None, task=ClickTask(model))
    refused("positions is 5, but clicks are no sequences", positions=5)
    refused("batch_size must be an integer >= 1, got 0", batch_size=0)
    rated = replace(cycle.histories, ratings=np.where(np.arange(len(cycle.histories.items)) % 2, 5.0, 1.0))
    split = replace(cycle, histories=rated)  # one validation sample a user
    refused("none of 89 users has both a positive and a negative", split=split, asked=make_clicks(split))
    same = replace(split, histories=replace(rated, ratings=np.full(len(rated.items), 5.0)))
    refused("labels are equal: AUC needs", split=same, asked=make_clicks(same), task=ClickTask(model, monitor="auc"))
    assert (tmp_path / "last.ckpt").exists()


def test_auc_can_choose_where_gauc_has_no_value(cycle, tmp_path):
    rated = replace(cycle.histories, ratings=np.where(np.arange(len(cycle.histories.items)) % 2, 5.0, 1.0))
    split = replace(cycle, histories=rated)
    _, fitted = train(split, make_clicks(split), tmp_path, monitor="auc", max_epochs=1)
    assert 0 < fitted.score < 1


def test_a_time_aware_model_needs_to_know_when_each_candidate_is_shown(cycle, clicks, tmp_path):
    untimed = replace(clicks, train=replace(clicks.train, times=None))
    with pytest.raises(ConfigError, match="HSTU is told the time of the request, but clicks have no times"):
        fit(HSTU(37, dim=8), cycle, folder=tmp_path, clicks=untimed, progress=False)


def test_progress_prints_the_metrics_of_clicks(cycle, clicks, tmp_path, capsys):
    train(cycle, clicks, tmp_path, max_epochs=1, progress=True)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert all(f"{name} " in line for name in ("loss", "log_loss", "auc", "gauc"))


def test_wrong_arguments_are_named(cycle):
    model = small(cycle)
    with pytest.raises(ConfigError, match="monitor must be one of gauc, auc, got 'ndcg@10'"):
        ClickTask(model, monitor="ndcg@10")
    batch = RankingBatch(History(torch.tensor([[3]]), torch.tensor([1])), torch.tensor([[5]]))
    for incomplete in (batch._replace(labels=torch.ones(1, 1)), batch._replace(users=torch.zeros(1).long())):
        with pytest.raises(ConfigError, match="needs labels and users"):
            ClickTask(model).validation_step(incomplete, 0)


def test_samples_at_one_moment_are_asked_with_the_same_history(cycle):
    targets = Targets(np.array([3]), np.array([4]))
    assert make_clicks(replace(cycle, test=targets), negatives=4).test.visible.tolist() == [4] * 5
