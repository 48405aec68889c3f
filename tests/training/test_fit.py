"""The whole recipe on planted data: it learns, keeps the best weights, repeats, resumes and is interrupted cleanly."""

import math
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from recattn.data.splits import leave_one_out
from recattn.data.transitions import count_transitions
from recattn.data.windows import SequenceLoader
from recattn.errors import ConfigError
from recattn.evaluation import evaluate
from recattn.models import DIN, HSTU, NARM, SASRec, TargetAttention, next_item
from recattn.training import NextItemTask, RankingTask, fit


def small(split, **more):
    """A model of few numbers, the same each time, that learns fast."""
    torch.manual_seed(0)
    arguments = {"dim": 14, "max_length": 7, "transitions": 0, "dropout": 0.0} | more
    return TargetAttention(split.histories.num_items, **arguments)


def train(split, folder, *, model=None, task=None, **more):
    model = small(split) if model is None else model
    task = RankingTask(model, learning_rate=0.05, warmup_steps=5, **(task or {}))
    return model, fit(model, split, folder=folder, task=task, **{"max_epochs": 3, "progress": False} | more)


def metric(model, split, name, part="validation"):
    found = evaluate(model.score_all, split, part, ks=(1, 10))
    return found.metrics[name]["mean"]


def weights_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal(left, right):
    assert left.keys() == right.keys()
    assert all(torch.equal(tensor, right[name]) for name, tensor in left.items())


def script(monkeypatch, values):
    """Validation gives these numbers of NDCG@10 in turn, whatever the model; an exception in the list is raised."""
    turn = iter(values)

    def on_validation_epoch_end(self):
        value = next(turn)
        if isinstance(value, BaseException):
            raise value
        self.log("ndcg@10", value)
        seen.append(weights_of(self.model))

    seen = []
    monkeypatch.setattr(RankingTask, "on_validation_epoch_end", on_validation_epoch_end)
    return seen


@pytest.mark.parametrize(
    "task",
    [{}, {"num_negatives": 19}, {"num_negatives": 19, "item_counts": torch.arange(38.0)}, {"loss": "bce"}],
    ids=["softmax", "sampled", "sampled by popularity", "bce"],
)
def test_the_successor_is_learned(cycle, tmp_path, task):
    model, fitted = train(cycle, tmp_path, task=task, max_epochs=6)
    assert fitted.score > 0.95
    assert metric(model, cycle, "hr@10") == 1.0
    assert metric(model, cycle, "hr@1", "test") > 0.9


def test_binary_losses_with_a_sample_train_too(cycle, tmp_path):
    model, _ = train(cycle, tmp_path, task={"loss": "bce", "num_negatives": 19}, max_epochs=6)
    assert metric(model, cycle, "hr@10") == 1.0


@pytest.mark.parametrize("form", ["paper", "code"])
def test_din_learns_the_one_event_that_tells(needle, tmp_path, form):
    torch.manual_seed(0)
    model = DIN(40, dim=14, form=form, hidden_dims=(11,), readout_dims=(17,), max_length=7)
    train(needle, tmp_path, model=model, max_epochs=8)
    assert metric(model, needle, "hr@10") == 1.0


def test_the_one_event_that_tells_is_found(needle, tmp_path):
    model, _ = train(needle, tmp_path, max_epochs=5)
    assert metric(model, needle, "hr@1") == 1.0
    assert metric(model, needle, "hr@1", "test") == 1.0


def test_counted_transitions_are_taken_from_the_training_part(cycle, tmp_path):
    model, fitted = train(cycle, tmp_path, model=small(cycle, transitions=3), max_epochs=1)
    head = model.transition_head
    dense = torch.zeros(38 * 38).index_put_((head.pairs,), head.counts).view(38, 38)
    torch.testing.assert_close(dense, torch.from_numpy(count_transitions(cycle.train, 3).toarray()).float())
    assert fitted.score > 0.95  # the answer stands in the counts


def test_time_aware_models_are_told_the_time(tmp_path, cycle):
    model, fitted = train(cycle, tmp_path, model=small(cycle, time_aware=True))
    assert fitted.score == pytest.approx(metric_told(model, cycle), abs=1e-6)


def metric_told(model, split):
    return evaluate(model.score_all, split, "validation", ks=(10,), time_aware=True).metrics["ndcg@10"]["mean"]


def test_what_is_reported_is_what_evaluation_finds(cycle, tmp_path):
    model, fitted = train(cycle, tmp_path, max_epochs=2)
    assert fitted.score == pytest.approx(metric(model, cycle, "ndcg@10"), abs=1e-6)
    assert fitted.seconds > 0
    assert not model.training


def test_same_seed_same_weights(cycle, tmp_path):
    runs = [
        train(cycle, tmp_path / str(number), model=small(cycle, dropout=0.3), task={"num_negatives": 13}, seed=seed)
        for number, seed in enumerate((5, 5, 6))
    ]
    (one, of_one), (two, of_two), (other, _) = runs
    assert_equal(one.state_dict(), two.state_dict())
    assert of_one.score == of_two.score
    assert not torch.equal(one.value_table.weight, other.value_table.weight)


def test_each_epoch_trains_on_its_own_batches(cycle, tmp_path, monkeypatch):
    real, trained = RankingTask.training_step, []

    def record(self, batch, index):
        trained.append((self.current_epoch, batch.history.items.tolist()))
        return real(self, batch, index)

    monkeypatch.setattr(RankingTask, "training_step", record)
    train(cycle, tmp_path, max_epochs=3, seed=5)
    for epoch in range(3):
        loader = SequenceLoader(cycle.train, batch_size=8, context=7, seed=5, epoch=epoch)
        assert [items for number, items in trained if number == epoch] == [b.history.items.tolist() for b in loader]


def test_a_training_does_not_depend_on_the_random_state_it_finds(cycle, tmp_path):
    one, _ = train(cycle, tmp_path / "a", model=small(cycle, dropout=0.3))
    model = small(cycle, dropout=0.3)
    torch.rand(7)
    np.random.rand(3)
    two, _ = train(cycle, tmp_path / "b", model=model)
    assert_equal(one.state_dict(), two.state_dict())


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_resuming_gives_what_an_uninterrupted_training_gives(cycle, tmp_path, interrupted_validation, stop):
    arguments = {"task": {"num_negatives": 13}, "max_epochs": 4, "seed": 3}
    whole, expected = train(cycle, tmp_path / "whole", model=small(cycle, dropout=0.3), **arguments)
    with interrupted_validation(RankingTask, stop + 1), pytest.raises(KeyboardInterrupt):
        train(cycle, tmp_path / "parts", model=small(cycle, dropout=0.3), **arguments)
    torch.manual_seed(99)
    again = TargetAttention(37, dim=14, max_length=7, transitions=0, dropout=0.3)  # its weights come from the folder
    resumed, found = train(cycle, tmp_path / "parts", model=again, resume=True, **arguments)
    assert_equal(resumed.state_dict(), whole.state_dict())
    assert found.score == expected.score
    assert (found.best_epoch, found.epochs) == (expected.best_epoch, expected.epochs)


def test_resuming_a_finished_training_changes_nothing(cycle, tmp_path):
    model, fitted = train(cycle, tmp_path, max_epochs=2)
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    kept["callbacks"]["Stopwatch"]["seconds"] += 1000.0
    torch.save(kept, tmp_path / "last.ckpt")
    again, found = train(cycle, tmp_path, max_epochs=2, resume=True)
    assert_equal(again.state_dict(), model.state_dict())
    assert replace(found, seconds=0.0) == replace(fitted, seconds=0.0)
    assert found.seconds > 1000.0, "the time of the epochs before counts"


def test_resuming_a_training_that_stopped_early_changes_nothing(cycle, tmp_path, monkeypatch):
    script(monkeypatch, [0.5, 0.4, 0.3, 0.9, 0.9])
    model, fitted = train(cycle, tmp_path, max_epochs=9, patience=2)
    again, found = train(cycle, tmp_path, max_epochs=9, patience=2, resume=True)
    assert_equal(again.state_dict(), model.state_dict())
    assert replace(found, seconds=0.0) == replace(fitted, seconds=0.0)


def test_resuming_goes_on_counting_patience(cycle, tmp_path, monkeypatch):
    script(monkeypatch, [0.5, 0.4, KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        train(cycle, tmp_path, max_epochs=9, patience=2)
    script(monkeypatch, [0.3, 0.9, 0.9])
    _, found = train(cycle, tmp_path, max_epochs=9, patience=2, resume=True)
    assert (found.best_epoch, found.epochs) == (1, 3)


def test_a_training_that_stops_after_an_epoch_has_the_weights_that_validation_would_have_kept(cycle, tmp_path):
    arguments = {"task": {"num_negatives": 13}, "max_epochs": 4, "seed": 3}
    model, fitted = train(cycle, tmp_path / "validated", model=small(cycle, dropout=0.3), **arguments)
    assert fitted.best_epoch > 1
    folder = tmp_path / "alone"
    arguments |= {"stop_after": fitted.best_epoch}
    alone, found = train(cycle, folder, model=small(cycle, dropout=0.3), **arguments)
    assert_equal(alone.state_dict(), model.state_dict())
    assert (found.best_epoch, found.epochs) == (fitted.best_epoch, fitted.best_epoch)
    assert math.isnan(found.score)
    again, found = train(cycle, folder, model=small(cycle, dropout=0.3), resume=True, **arguments)
    assert_equal(again.state_dict(), model.state_dict())
    assert found.epochs == fitted.best_epoch
    assert not (folder / "best.ckpt").exists()


def test_resuming_where_nothing_is_starts_anew(cycle, tmp_path):
    one, _ = train(cycle, tmp_path / "a", max_epochs=2)
    two, _ = train(cycle, tmp_path / "b", max_epochs=2, resume=True)
    assert_equal(one.state_dict(), two.state_dict())


def test_without_resume_an_earlier_training_is_forgotten_and_other_files_stay(cycle, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "results").mkdir()
    one, _ = train(cycle, tmp_path, max_epochs=2)
    two, fitted = train(cycle, tmp_path, max_epochs=2)
    assert_equal(one.state_dict(), two.state_dict())
    assert fitted.epochs == 2
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "results").is_dir()


def test_the_checkpoints_are_the_only_files(cycle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(cycle, tmp_path / "run", max_epochs=2)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == [
        "run/best.ckpt",
        "run/last.ckpt",
        "run/training.json",
    ]


@pytest.mark.parametrize("number", [1, 2])
def test_an_interrupt_passes_keeps_the_last_epoch_and_restores_the_signal(cycle, tmp_path, monkeypatch, number):
    script(monkeypatch, [*[0.3, 0.2][:number], KeyboardInterrupt()])  # the first epoch stays the best

    def mine(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, mine)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(cycle, tmp_path, max_epochs=5)
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == number - 1


def test_a_program_that_exits_inside_is_not_taken_for_an_interrupt(cycle, tmp_path, monkeypatch):
    script(monkeypatch, [0.1, SystemExit(7)])
    with pytest.raises((SystemExit, KeyboardInterrupt)) as caught:
        train(cycle, tmp_path)
    assert caught.value.args == (7,)


def test_a_loss_that_is_no_number_stops_the_training(cycle, tmp_path, monkeypatch):
    real, calls, handler = RankingTask.training_step, [], signal.getsignal(signal.SIGINT)

    def poisoned(self, batch, index):
        calls.append(1)
        return real(self, batch, index) * (math.nan if len(calls) > 15 else 1.0)

    monkeypatch.setattr(RankingTask, "training_step", poisoned)
    with pytest.raises(
        ConfigError, match=r"the loss became nan in epoch 2, .*: lower learning_rate .*--overwrite"
    ) as told:
        train(cycle, tmp_path, max_epochs=3)
    assert str(told.value).endswith(str(tmp_path / "best.ckpt"))
    assert len(calls) == 16
    kept = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]
    assert all(tensor.isfinite().all() for tensor in kept.values())
    assert signal.getsignal(signal.SIGINT) is handler
    with pytest.raises(ConfigError, match=r"nan in epoch 1, .* no epoch was finished"):
        train(cycle, tmp_path / "new", max_epochs=3)
    calls.clear()
    with pytest.raises(ConfigError, match=r"nan in epoch 2, .* the last epoch before are in .*last\.ckpt"):
        train(cycle, tmp_path / "blind", max_epochs=3, stop_after=3)


def test_there_is_no_epoch_to_stop_after_beyond_the_last(cycle, tmp_path):
    with pytest.raises(ConfigError, match="stop_after is 4, beyond the 3 of max_epochs"):
        train(cycle, tmp_path, max_epochs=3, stop_after=4)


def test_the_weights_of_the_best_epoch_are_kept(cycle, tmp_path, monkeypatch):
    seen = script(monkeypatch, [0.3, 0.8, 0.5, 0.7])
    model, fitted = train(cycle, tmp_path, max_epochs=4)
    assert_equal(model.state_dict(), seen[1])
    assert not torch.equal(seen[1]["value_table.weight"], seen[3]["value_table.weight"])
    assert (fitted.best_epoch, fitted.epochs) == (2, 4)
    assert fitted.score == pytest.approx(0.8)


def test_training_stops_when_patience_runs_out(cycle, tmp_path, monkeypatch):
    script(monkeypatch, [0.3, 0.8, 0.8, 0.7, 0.9, 0.9])
    _, fitted = train(cycle, tmp_path, max_epochs=6, patience=2)
    assert (fitted.best_epoch, fitted.epochs) == (2, 4)  # equal is not better


def test_a_task_for_another_model_is_refused(cycle, tmp_path):
    model, other = small(cycle), small(cycle)
    with pytest.raises(ConfigError, match="task holds another model"):
        fit(model, cycle, folder=tmp_path / "run", task=RankingTask(other))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["max_epochs", "patience", "batch_size", "positions"])
def test_impossible_numbers_are_named_before_anything_is_removed(cycle, tmp_path, name):
    (tmp_path / "last.ckpt").write_bytes(b"what was learned so far")
    with pytest.raises(ConfigError, match=f"{name} must be an integer >= 1, got 0"):
        train(cycle, tmp_path, **{name: 0})
    assert (tmp_path / "last.ckpt").exists()


def test_data_that_cannot_train_is_refused(cycle, tmp_path):
    bare = replace(cycle, train_lengths=np.minimum(cycle.train_lengths, 1))
    with pytest.raises(ConfigError, match="no user has two events"):
        train(bare, tmp_path)


def test_progress_prints_a_line_an_epoch_to_standard_error(cycle, tmp_path, capsys):
    train(cycle, tmp_path, max_epochs=2, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 2
    for number, line in enumerate(lines, 1):
        assert line.startswith(f"epoch   {number}  loss ")
        assert "hr@10" in line
        assert "ndcg@10" in line


def test_silence_without_progress(cycle, tmp_path, capfd):
    train(cycle, tmp_path, max_epochs=1)
    assert capfd.readouterr() == ("", "")


def test_ratings_and_profiles_are_trained_with(cycle, tmp_path):
    histories = cycle.histories
    rng = np.random.default_rng(0)
    rich = leave_one_out(
        replace(
            histories,
            ratings=rng.integers(1, 6, len(histories.items)).astype(np.float32),
            profile=rng.integers(0, 3, (histories.num_users, 2)).astype(np.int32),
            profile_sizes=(3, 3),
        )
    )
    model = small(rich, rating_levels=(1, 2, 3, 4, 5), profile_sizes=(3, 3))
    train(rich, tmp_path, model=model, max_epochs=1)
    assert model.event_bias.rating.weight.abs().min() > 0
    assert model.profile_bias.abs().min() > 0


def test_a_time_aware_model_without_times_is_refused_before_anything_happens(cycle, tmp_path):
    split = replace(cycle, histories=replace(cycle.histories, times=None))
    (tmp_path / "last.ckpt").write_text("of another training")
    with pytest.raises(ConfigError, match="HSTU is told the time of the request, but the data has no times: name a"):
        fit(HSTU(37, dim=8), split, folder=tmp_path, progress=False)
    for timed in (HSTU(37, dim=8, times="events"), SASRec(37, dim=8, interval_bias=True)):
        with pytest.raises(ConfigError, match="reads the times of the history, but the data has no times: name a"):
            fit(timed, split, folder=tmp_path, progress=False)
    assert (tmp_path / "last.ckpt").exists()


def test_next_item_models_read_each_sequence_in_one_pass(cycle, tmp_path, monkeypatch):
    """Longer sequences would be cut into a window for each of their targets: right, but many times the work."""
    torch.manual_seed(0)
    model = SASRec(37, dim=8, max_length=4)
    widths, states = [], model.states
    monkeypatch.setattr(
        model, "states", lambda history, now=None: widths.append(history.items.shape[1]) or states(history, now)
    )
    monkeypatch.setattr(next_item, "window", None)
    fit(model, cycle, folder=tmp_path, max_epochs=1, progress=False)
    assert max(widths) == 4


@pytest.mark.parametrize("positions", [None, 1, 3, 100])
def test_next_item_models_of_few_events_train_as_well(cycle, tmp_path, positions):
    torch.manual_seed(0)
    model = NARM(37, dim=24, max_length=2, dropout=0.0, state_dropout=0.0)
    task = NextItemTask(model, learning_rate=0.05, warmup_steps=5)
    fitted = fit(model, cycle, folder=tmp_path, task=task, positions=positions, max_epochs=8, progress=False)
    assert fitted.score > 0.9


@pytest.mark.parametrize("max_length", [None, 5])
def test_positions_below_one_are_refused(cycle, tmp_path, max_length):
    model = small(cycle) if max_length is None else SASRec(37, dim=8, max_length=max_length)
    with pytest.raises(ConfigError, match="positions must be an integer >= 1, got 0"):
        fit(model, cycle, folder=tmp_path, positions=0)
