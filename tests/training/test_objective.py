from dataclasses import replace

import numpy as np
import pytest
import torch

from recattn.data.click_sets import make_clicks, write_clicks
from recattn.errors import ConfigError, DataError
from recattn.evaluation import evaluate
from recattn.models import SASRec, TargetAttention
from recattn.training import ClickTask, NextItemTask
from recattn.training.objective import samples_of, task_of, validate

DEFAULTS = {"loss": None, "num_negatives": None, "monitor": None, "learning_rate": 0.01, "weight_decay": 0.1}


def test_samples_are_made_or_read(cycle, needle, tmp_path):
    assert samples_of(cycle).hashes == make_clicks(cycle).hashes
    made = samples_of(cycle, negatives=2, negatives_seed=5)
    assert made.hashes == make_clicks(cycle, negatives=2, seed=5).hashes
    write_clicks(tmp_path / "clicks.parquet", made)
    assert samples_of(cycle, samples=str(tmp_path)).hashes == made.hashes
    with pytest.raises(ConfigError, match="with their labels: leave threshold, negatives and negatives_seed out"):
        samples_of(cycle, samples=str(tmp_path), negatives=2)
    with pytest.raises(ConfigError, match="negatives_seed is 5, but labels come from ratings"):
        samples_of(cycle, threshold=3.0, negatives_seed=5)
    assert samples_of(cycle, negatives_seed=5).hashes == make_clicks(cycle, seed=5).hashes
    with pytest.raises(DataError, match="belong to the split"):
        samples_of(needle, samples=str(tmp_path))


def test_tasks_get_the_defaults_of_the_command(cycle):
    model = SASRec(37, dim=8)
    task = task_of(model, cycle, False, **DEFAULTS)
    assert isinstance(task, NextItemTask)
    assert (task.loss, task.learning_rate, task.weight_decay) == ("softmax", 0.01, 0.1)
    counts = torch.bincount(torch.from_numpy(cycle.train.items).long(), minlength=38).float() ** 0.75
    torch.testing.assert_close(task.chances, counts / counts.sum())
    for loss in ("bce", "gbce", "bpr-max"):  # nothing would correct these for a popular sample
        chances = task_of(model, cycle, False, **DEFAULTS | {"loss": loss, "num_negatives": 5}).chances
        torch.testing.assert_close(chances[1:], torch.full((37,), 1 / 37))
    task = task_of(model, cycle, True, **DEFAULTS)
    assert isinstance(task, ClickTask)
    assert (task.monitor, task.learning_rate, task.weight_decay) == ("gauc", 0.01, 0.1)
    assert task_of(model, cycle, True, **DEFAULTS | {"monitor": "auc"}).monitor == "auc"


def test_a_model_with_an_mlp_for_each_candidate_has_a_few_negatives(cycle):
    assert task_of(TargetAttention(37, dim=8), cycle, False, **DEFAULTS).num_negatives is None
    deep = TargetAttention(37, dim=8, readout_dims=(8,))
    assert task_of(deep, cycle, False, **DEFAULTS).num_negatives == 32


def test_what_follows_from_the_data_is_no_setting(cycle):
    for loss in ("softmax", "bce"):
        with pytest.raises(ConfigError, match="item_counts: it follows from the data"):
            task_of(SASRec(37, dim=8), cycle, False, **DEFAULTS | {"loss": loss, "further": {"item_counts": [1]}})


def test_validation_is_that_of_the_objective(cycle):
    model = TargetAttention(37, dim=8, transitions=0).eval()
    ranked = validate(model, cycle, None)
    assert ranked == evaluate(model.score_all, cycle, "validation").metrics
    assert validate(model, cycle, make_clicks(cycle)).keys() >= {"auc", "gauc", "log_loss", "calibration"}


def test_actions_are_positives_whatever_their_level(needle):
    rated = replace(
        needle, histories=replace(needle.histories, ratings=np.ones(len(needle.histories.items), np.float32))
    )
    assert "sampled" in samples_of(rated, acted=True).labels
    with pytest.raises(ConfigError, match=r"threshold is 3\.0, but events have actions"):
        samples_of(rated, acted=True, threshold=3.0)
