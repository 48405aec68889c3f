from dataclasses import replace

import numpy as np
import pytest
import torch

from recattn.errors import ConfigError
from recattn.evaluation import Popularity, hardware, rank_targets, summarise, versions
from recattn.models import TargetAttention
from recattn.serving import evaluate_floor, evaluate_runs


def reseeded(artefact, seed):
    return replace(artefact, manifest={**artefact.manifest, "seed": seed})


def test_the_ring_is_predicted_without_fault(artefact):
    result = evaluate_runs([artefact], command="recattn evaluate")
    assert result.metrics["hr@5"]["mean"] == 1.0
    assert result.model == "recattn.models.TargetAttention"
    assert (result.users, result.items, result.interactions) == (8, 14, 78)
    assert "recattn train && recattn evaluate" in result.command


def test_the_machine_is_that_of_the_training_and_a_floors_the_one_at_hand(artefact):
    elsewhere = {"hardware": {"gpu": "another"}, "versions": {"torch": "another"}}
    moved = replace(artefact, manifest={**artefact.manifest, **elsewhere})
    result = evaluate_runs([moved], command="")
    assert (result.hardware, result.versions) == tuple(elsewhere.values())
    floor = evaluate_floor("popularity", Popularity(moved.split.train), moved, command="")
    assert (floor.hardware, floor.versions) == (hardware(), versions())


def test_seeds_are_averaged(artefact):
    result = evaluate_runs([artefact, reseeded(artefact, 3)], command="")
    assert result.seeds == [0, 3]
    assert result.metrics["hr@10"]["mean"] == evaluate_runs([artefact], command="").metrics["hr@10"]["mean"]


def test_seeds_are_averaged_user_by_user_and_told_the_time(artefact):
    runs = []
    for seed in (3, 5):
        torch.manual_seed(seed)
        model = TargetAttention(14, dim=8, time_aware=True, transitions=0).eval()
        for weight in model.parameters():
            torch.nn.init.normal_(weight)
        runs.append(reseeded(replace(artefact, model=model), seed))
    told = [rank_targets(run.model.score_all, artefact.split, "test", time_aware=True) for run in runs]
    blind = rank_targets(runs[1].model.score_all, artefact.split, "test")
    assert (told[0] != told[1]).any()
    assert (told[1] != blind).any()
    users = artefact.split.test.users
    expected = summarise(np.concatenate(told), np.concatenate([users, users]), (5, 10, 20, 50))
    assert evaluate_runs(runs, command="").metrics == expected


def test_runs_that_know_the_items_otherwise_are_not_averaged(artefact):
    features = np.arange(15, dtype=np.int32)[:, None]
    one, other = (
        replace(artefact.histories, features=codes, feature_sizes=(15,), feature_widths=(1,))
        for codes in (features, features[::-1].copy())
    )
    one, other = (replace(artefact, histories=histories) for histories in (one, other))
    evaluate_runs([one, reseeded(one, 1)], command="")
    with pytest.raises(ConfigError, match="data, split and training are the same"):
        evaluate_runs([one, reseeded(other, 1)], command="")


def test_memory_that_was_not_measured_is_not_known(artefact):
    assert evaluate_runs([artefact], command="").peak_rss_mb is None


def test_one_seed_twice_is_refused(artefact):
    with pytest.raises(ConfigError, match="seed of its own"):
        evaluate_runs([artefact, artefact], command="")


def test_runs_on_other_splits_are_not_averaged(artefact):
    other = reseeded(artefact, 1)
    other.manifest["split"] = {**other.manifest["split"], "hash": "0"}
    with pytest.raises(ConfigError, match="same and seeds differ"):
        evaluate_runs([artefact, other], command="")


def test_runs_that_were_trained_otherwise_are_not_averaged(artefact):
    other = reseeded(artefact, 1)
    other.manifest["training"] = {"max_epochs": 7}
    with pytest.raises(ConfigError, match="training are the same and seeds differ"):
        evaluate_runs([artefact, other], command="")


def test_floors_are_measured_on_the_same_targets(artefact):
    result = evaluate_floor("popularity", Popularity(artefact.split.train), artefact, command="x")
    assert result.split_hash == artefact.split.hash
    assert result.model == "popularity"
    assert result.targets == evaluate_runs([artefact], command="").targets
    assert result.targets["count"] == len(artefact.split.test.users)
