import json

import pytest
import torch

from recattn.cli import main
from recattn.data import leave_one_out
from recattn.models import build_ranker, describe
from recattn.serving import load_artefact
from recattn.training import RankingTask, fit

TRAIN = ["--model.dim", "8", "--max-epochs", "3", "--learning-rate", "0.03", "--refit"]


@pytest.fixture(scope="module")
def columns(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "ring.csv"
    rows = [f"{user},{(user + step) % 11},{step}" for user in range(23) for step in range(7)]
    path.write_text("user,item,when\n" + "\n".join(rows) + "\n")
    return ["--data", str(path), "--time-column", "when"]


@pytest.fixture(scope="module")
def run(columns, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "ring"
    assert main(["train", "--output", str(folder), *columns, *TRAIN]) == 0
    return folder


def test_the_model_is_one_of_training_and_validation_part_for_the_epochs_that_validation_chose(run, tmp_path):
    artefact = load_artefact(run)
    torch.manual_seed(0)
    model = build_ranker(describe(artefact.model))
    everything = leave_one_out(artefact.histories).before_test
    task = RankingTask(model, learning_rate=0.03)
    fit(
        model,
        everything,
        folder=tmp_path,
        task=task,
        max_epochs=3,
        stop_after=artefact.manifest["best_epoch"],
        progress=False,
    )
    expected = model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in artefact.model.state_dict().items())


def test_the_result_says_so(run, capsys):
    assert main(["evaluate", str(run), "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["arguments"]["training"]["refit"] is True


def test_an_interrupted_refit_goes_on_and_ends_the_same(columns, run, tmp_path, monkeypatch):
    step, batches = RankingTask.training_step, []

    def interrupted(self, batch, index):
        if self.trainer.limit_val_batches == 0:
            batches.append(index)
            if len(batches) == 2:
                raise KeyboardInterrupt
        return step(self, batch, index)

    monkeypatch.setattr(RankingTask, "training_step", interrupted)
    folder = tmp_path / "again"
    assert main(["train", "--output", str(folder), *columns, *TRAIN]) == 130
    monkeypatch.setattr(RankingTask, "training_step", step)
    assert main(["train", "--output", str(folder), *columns, *TRAIN, "--resume"]) == 0
    assert (folder / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_what_another_refit_left_is_not_gone_on_with(columns, run, tmp_path, interrupted_validation):
    folder = tmp_path / "again"
    left = tmp_path / ".again-training" / "refit"
    left.mkdir(parents=True)
    (left / "training.json").write_text('{"learning_rate": 9, "task": {}}')
    command = ["train", "--output", str(folder), *columns, *TRAIN]
    with interrupted_validation(RankingTask, 2):
        assert main([*command, "--overwrite"]) == 130
    assert main([*command, "--resume"]) == 0
    assert (folder / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


@pytest.mark.parametrize("flags", [["--part", "validation"], ["--retriever", "transitions", "--blend"]])
def test_it_is_not_measured_on_what_it_was_trained_on(run, capsys, flags):
    assert main(["evaluate", str(run), *flags]) == 2
    assert "trained on the validation part too (--refit)" in capsys.readouterr().err


def test_clicks_are_refused(columns, tmp_path, capsys):
    arguments = ["--objective", "clicks", "--negatives", "1", "--refit"]
    assert main(["train", "--output", str(tmp_path / "x"), *columns, *arguments]) == 2
    assert "refit is True, but objective 'clicks' has no use for it" in capsys.readouterr().err
