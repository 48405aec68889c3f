from dataclasses import replace

import numpy as np
import pytest

from recattn.data import Vocabulary
from recattn.errors import ArtefactError, ConfigError
from recattn.evaluation import fit_floors
from recattn.evaluation.floors import tuning
from recattn.serving import Retriever, check_agreement, check_stages, find_retriever, save_artefact


def with_manifest(artefact, **changes):
    return replace(artefact, manifest={**artefact.manifest, **changes})


def test_the_same_model_agrees_with_itself(artefact):
    check_agreement(artefact, artefact)


def test_models_of_other_data_are_told_apart_by_name_or_hash(artefact):
    with pytest.raises(ConfigError, match=r"differ in data \(ring ring and ml-1m ml-1m\)"):
        check_agreement(artefact, with_manifest(artefact, data="ml-1m"))
    ours, theirs = (with_manifest(artefact, data_hash=sum_ * 64) for sum_ in "ab")
    with pytest.raises(ConfigError, match=r"data \(ring aaaaaaaaaaaa and ring bbbbbbbbbbbb\)"):
        check_agreement(ours, theirs)
    check_agreement(ours, with_manifest(ours, data="the/same/table.csv"))


def test_another_split_is_named(artefact):
    split = {**artefact.manifest["split"], "hash": "0" * 64}
    with pytest.raises(ConfigError, match=r"split \(leave_one_out [0-9a-f]{12} and leave_one_out 000000000000\)"):
        check_agreement(artefact, with_manifest(artefact, split=split))


def test_other_vocabularies_are_named(artefact):
    fewer = replace(artefact, items=Vocabulary(artefact.items.decode(range(1, 14))))
    with pytest.raises(ConfigError, match=r"vocabulary of items \(14 and 13\)"):
        check_agreement(artefact, fewer)
    turned = replace(artefact, users=Vocabulary(artefact.users.decode(range(8, 0, -1))))
    with pytest.raises(ConfigError, match=r"vocabulary of users \(8 of each, not the same\)"):
        check_agreement(artefact, turned)


def test_other_histories_are_named_and_all_differences_told(artefact):
    histories = artefact.histories
    swapped = replace(histories, items=histories.items[::-1].copy(), ratings=None)
    with pytest.raises(ConfigError, match=r"histories \(items, ratings\)"):
        check_agreement(artefact, replace(artefact, histories=swapped))
    late = replace(artefact, histories=replace(histories, times=histories.times + 1))
    with pytest.raises(ConfigError, match=r"data \(.*\); histories \(times\)"):
        check_agreement(artefact, with_manifest(late, data="x"))


@pytest.mark.parametrize("name", ["popularity", "item-knn", "ease", "ease-recency", "transitions"])
def test_a_floor_is_found_by_its_name_and_is_that_of_the_baselines(artefact, name):
    said = []
    found = find_retriever(name, artefact, say=said.append)
    expected = fit_floors(artefact.split)[name]
    assert (found.name, found.arguments, found.artefact, found.time_aware) == (name, expected.arguments, None, False)
    assert said == [f"fitting {name}"]


def test_a_floor_for_validation_has_not_counted_the_validation_targets(artefact):
    found = find_retriever("popularity", artefact)
    before = found.before_validation(artefact.split)
    counts = np.bincount(artefact.split.train.items, minlength=15)
    assert before.counts.tolist() == counts.tolist()
    assert found.scorer.counts.sum() == counts.sum() + len(artefact.split.validation.users)


def test_a_saved_model_is_found_by_its_folder(artefact, tmp_path):
    save_artefact(tmp_path / "ease", artefact)
    found = find_retriever(tmp_path / "ease", artefact)
    assert found.name == "recattn.models.TargetAttention"
    assert found.arguments["seed"] == 0
    assert found.before_validation(artefact.split) is found.scorer


def test_a_saved_model_that_does_not_agree_is_refused(artefact, tmp_path):
    save_artefact(tmp_path / "run", with_manifest(artefact, data="other"))
    with pytest.raises(ConfigError, match="differ in data"):
        find_retriever(tmp_path / "run", artefact)


def test_what_is_neither_a_folder_nor_a_floor_is_refused_with_the_floors(artefact, tmp_path):
    with pytest.raises(ConfigError, match=r"retriever is 'transition': neither a folder .* ease-recency, transitions"):
        find_retriever("transition", artefact)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtefactError, match="no saved model"):
        find_retriever(tmp_path / "empty", artefact)


def test_a_catalogue_too_large_for_ease_is_told(artefact, monkeypatch):
    monkeypatch.setattr(tuning, "EASE_MAX_ITEMS", 13)
    with pytest.raises(ConfigError, match="retriever is ease, but the catalogue of 14 items is too large for it"):
        find_retriever("ease", artefact)


def test_settings_without_a_retriever_are_refused():
    check_stages(None, 200, blend=0.0)
    check_stages("ease", 3, blend=True)
    for retrieve, blend in ((100, 0.0), (200, 0.5), (200, True)):
        with pytest.raises(ConfigError, match=f"retrieve={retrieve} and blend={blend} are a retriever's settings"):
            check_stages(None, retrieve, blend)
    with pytest.raises(ConfigError, match="retrieve must be an integer >= 1, got 0"):
        check_stages("ease", 0, blend=False)


def test_a_time_aware_model_makes_a_time_aware_retriever(artefact, monkeypatch):
    monkeypatch.setattr(artefact.model, "time_aware", True)
    assert Retriever("x", artefact.model.score_all, {}, artefact).time_aware
