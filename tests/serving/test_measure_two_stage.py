from dataclasses import replace

import numpy as np
import pytest
import torch

from recattn.data.batches import pad_histories
from recattn.errors import ConfigError
from recattn.evaluation import choose_blend, read_result, write_result
from recattn.models import HSTU
from recattn.serving import (
    Retriever,
    evaluate_floor,
    evaluate_runs,
    evaluate_two_stage,
    find_retriever,
    measure_two_stage,
    stage_lines,
)


def reseeded(artefact, seed):
    return replace(artefact, manifest={**artefact.manifest, "seed": seed})


def saved(artefact, **model):
    """Another model on the same data, as a retriever."""
    other = replace(artefact, model=HSTU(14, dim=4, **model).eval())
    return Retriever("recattn.models.HSTU", other.model.score_all, {"dim": 4}, other)


@pytest.fixture
def transitions(artefact):
    return find_retriever("transitions", artefact)


def test_the_whole_catalogue_gives_the_metrics_of_the_ranker_alone(artefact, transitions):
    together, _ = evaluate_two_stage([artefact], transitions, retrieve=14, command="")
    alone = evaluate_runs([artefact], command="")
    assert {name: together.metrics[name] for name in alone.metrics} == alone.metrics


def test_a_ranker_equal_to_its_retriever_gains_nothing(artefact):
    itself = Retriever("recattn.models.TargetAttention", artefact.model.score_all, {}, artefact)
    together, alone = evaluate_two_stage([artefact], itself, retrieve=5, blend=True, command="")
    assert together.metrics["ndcg@10 gain"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert together.metrics["hr@5"] == alone.metrics["hr@5"]
    assert "+0.0000 (+0.0000 to +0.0000), not significant at 95 %" in stage_lines(together)[1]


def test_the_retriever_stands_beside_with_its_own_metrics(artefact, transitions):
    together, alone = evaluate_two_stage([artefact], transitions, retrieve=3, command="")
    floor = evaluate_floor("transitions", transitions.scorer, artefact, command="")
    assert {name: alone.metrics[name] for name in floor.metrics} == floor.metrics
    assert (alone.model, alone.seeds, alone.arguments) == ("transitions", [], transitions.arguments)
    assert together.metrics["recall@3"] == alone.metrics["recall@3"]


def test_the_result_says_how_it_was_made_and_can_be_kept(artefact, transitions, tmp_path):
    together, alone = evaluate_two_stage([artefact], transitions, retrieve=3, command="recattn evaluate")
    assert together.label == "TargetAttention after transitions"
    assert together.arguments["retriever"] == {"name": "transitions", **transitions.arguments}
    assert (together.arguments["retrieve"], together.arguments["blend"]) == (3, {"weight": 0.0})
    assert together.command == "recattn train && recattn evaluate"
    for name, result in (("together", together), ("alone", alone)):
        write_result(tmp_path / f"{name}.json", result)
        assert read_result(tmp_path / f"{name}.json") == result
    assert stage_lines(together)[0].startswith("candidates: the 3 best of the retriever; recall@3 ")
    assert stage_lines(together)[2] == "ordered by the ranker's scores alone"


def test_the_weight_of_a_blend_is_chosen_on_validation_and_stated(artefact, transitions):
    said = []
    together, _ = evaluate_two_stage([artefact], transitions, retrieve=5, blend=True, command="", say=said.append)
    blend = together.arguments["blend"]
    assert blend["chosen_on"] == "validation"
    assert blend["ndcg@10"][str(blend["weight"])] == max(blend["ndcg@10"].values())
    assert said == ["choosing the retriever's weight on the validation part"]
    assert stage_lines(together)[2].startswith(f"ordered by ranker + {blend['weight']:g} x retriever")


def test_a_floor_that_has_not_counted_the_validation_part_chooses_the_weight(artefact, transitions, monkeypatch):
    chosen = []

    def keep(scorer, *arguments, **more):
        chosen.append((scorer, more["time_aware"]))
        return choose_blend(scorer, *arguments, **more)

    monkeypatch.setattr(measure_two_stage, "choose_blend", keep)
    evaluate_two_stage([artefact], transitions, retrieve=5, blend=True, command="")
    ((scorer, told),) = chosen
    trained = type(transitions.scorer)(artefact.split.train, **transitions.arguments)
    asked = pad_histories(artefact.histories, np.arange(1, 8), np.full(7, 4))
    assert torch.equal(scorer(asked, None), trained(asked, None))
    assert not torch.equal(scorer(asked, None), transitions.scorer(asked, None))
    assert told is False


def test_the_chosen_weight_is_the_one_that_orders(artefact):
    """A ranker that knows nothing behind a retriever that does."""
    knows = Retriever("recattn.models.TargetAttention", artefact.model.score_all, {}, artefact)
    ignorant = saved(artefact).artefact
    together, _ = evaluate_two_stage([ignorant], knows, retrieve=9, blend=True, command="")
    without, _ = evaluate_two_stage([ignorant], knows, retrieve=9, command="")
    blend = together.arguments["blend"]
    assert blend["weight"] > 0
    assert blend["ndcg@10"][str(blend["weight"])] > blend["ndcg@10"]["0.0"]
    assert together.metrics["ndcg@10"]["mean"] > without.metrics["ndcg@10"]["mean"]


def test_several_seeds_of_the_ranker_share_one_retriever(artefact, transitions):
    runs = [artefact, reseeded(artefact, 3)]
    together, alone = evaluate_two_stage(runs, transitions, retrieve=5, command="x")
    single, same = evaluate_two_stage([artefact], transitions, retrieve=5, command="x")
    assert together.seeds == [0, 3]
    assert alone.metrics == same.metrics
    assert together.command == "recattn train && x"
    for name, metric in single.metrics.items():
        assert together.metrics[name]["mean"] == pytest.approx(metric["mean"])
    with pytest.raises(ConfigError, match="seed of its own"):
        evaluate_two_stage([artefact, artefact], transitions, command="")


def test_a_result_is_time_aware_where_either_stage_is(artefact, transitions, monkeypatch):
    blind, aware = saved(artefact, times="events"), saved(artefact, times="request")
    told = []
    score_all = aware.artefact.model.score_all
    aware = replace(aware, scorer=lambda h, t: told.append(t) or score_all(h, t))
    labels = [
        tuple(result.time_aware for result in evaluate_two_stage([artefact], retriever, retrieve=5, command=""))
        for retriever in (blind, aware)
    ]
    assert labels == [(False, False), (True, True)]
    assert told[0] is not None
    monkeypatch.setattr(artefact.model, "time_aware", True)
    together, alone = evaluate_two_stage([artefact], transitions, retrieve=5, command="")
    assert (together.time_aware, alone.time_aware) == (True, False)
    assert together.label == "TargetAttention after transitions (time-aware)"


def test_a_saved_retriever_counts_its_training_and_its_command(artefact):
    retriever = saved(artefact)
    manifest = {**artefact.manifest, "train_seconds": 7.0, "command": "recattn train --output b", "seed": 5}
    retriever = replace(retriever, artefact=replace(retriever.artefact, manifest=manifest))
    together, alone = evaluate_two_stage([artefact], retriever, retrieve=5, command="x")
    assert together.train_seconds == alone.train_seconds == 7.0
    assert together.command == "recattn train && recattn train --output b && x"
    assert (alone.seeds, together.seeds) == ([5], [0])
    assert together.label == "TargetAttention after HSTU (time-aware)"


def test_models_that_do_not_agree_are_refused(artefact):
    other = saved(artefact)
    other = replace(other, artefact=replace(other.artefact, manifest={**artefact.manifest, "data": "else"}))
    with pytest.raises(ConfigError, match="differ in data"):
        evaluate_two_stage([artefact], other, command="")
    with pytest.raises(ConfigError, match="retrieve must be an integer >= 1, got 0"):
        evaluate_two_stage([artefact], saved(artefact), retrieve=0, command="")
    with pytest.raises(ConfigError, match="weight on the validation part"):
        evaluate_two_stage([artefact], saved(artefact), "validation", blend=True, command="")
