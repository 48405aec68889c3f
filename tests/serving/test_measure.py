from dataclasses import replace

import pytest

from recattn.errors import ConfigError
from recattn.evaluation import Popularity
from recattn.serving import evaluate_floor, evaluate_runs


def reseeded(artefact, seed):
    return replace(artefact, manifest={**artefact.manifest, "seed": seed})


def test_the_ring_is_predicted_without_fault(artefact):
    result = evaluate_runs([artefact], command="recattn evaluate")
    assert result.metrics["hr@5"]["mean"] == 1.0
    assert result.model == "recattn.models.TargetAttention"
    assert (result.users, result.items, result.interactions) == (8, 14, 78)
    assert "recattn train && recattn evaluate" in result.command


def test_seeds_are_averaged(artefact):
    result = evaluate_runs([artefact, reseeded(artefact, 3)], command="")
    assert result.seeds == [0, 3]
    assert result.metrics["hr@10"]["mean"] == evaluate_runs([artefact], command="").metrics["hr@10"]["mean"]


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
