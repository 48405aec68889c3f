from dataclasses import replace

import pytest
import torch

from recattn.data.batches import pad_histories
from recattn.data.splits import global_time
from recattn.errors import ConfigError
from recattn.evaluation import ItemKNN, Popularity, TransitionCounts, evaluate, fit_floors, rank_targets, tune
from recattn.evaluation.floors import tuning
from recattn.evaluation.floors.tuning import known_before
from recattn.evaluation.metrics import ndcg

NAMES = ["popularity", "popularity-recent", "item-knn", "ease", "ease-recency", "transitions"]


def with_other_items_at(split, targets):
    """The same split with the item of each target exchanged for another one."""
    items = split.histories.items.copy()
    events = split.histories.offsets[targets.users] + targets.positions
    items[events] = items[events] % split.histories.num_items + 1
    return replace(split, histories=replace(split.histories, items=items))


def same_scores(a, b, split):
    users, ends = split.validation
    history = pad_histories(split.histories, users, ends)
    return all(torch.equal(a[name](history), b[name](history)) for name in NAMES)


def test_trials_are_sorted_by_validation_ndcg(random_split):
    trials = tune(TransitionCounts, {"horizon": (1, 3)}, random_split, decays=(0.5, 0.9))
    assert len(trials) == 4
    for trial in trials:
        ranks = rank_targets(TransitionCounts(random_split.train, **trial.settings), random_split, "validation")
        assert trial.ndcg == ndcg(ranks, 10).mean()
    assert [t.ndcg for t in trials] == sorted((t.ndcg for t in trials), reverse=True)


def test_equal_trials_stay_in_the_order_of_the_grid(successor_split):
    trials = tune(TransitionCounts, {"horizon": (1,)}, successor_split, decays=(0.1, 0.05, 0.2))
    assert [trial.settings["decay"] for trial in trials] == [0.1, 0.05, 0.2]
    assert trials[0].ndcg == 1


def test_decays_need_a_floor_that_has_one(random_split):
    with pytest.raises(ConfigError, match="Popularity has no decay"):
        tune(Popularity, {}, random_split, decays=(0.5,))
    with pytest.raises(ConfigError, match="ItemKNN has no decay"):
        tune(ItemKNN, {}, random_split, decays=(0.5,))


def test_known_before_a_test_target_is_all_that_precedes_it(random_split):
    known = known_before(random_split, "test")
    assert known.lengths.tolist() == (random_split.histories.lengths - 1).tolist()
    for user in range(known.num_users):
        assert known.of(user).tolist() == random_split.histories.of(user)[:-1].tolist()
    assert len(known.times) == len(known.items)
    assert known_before(random_split, "validation").items.tolist() == random_split.train.items.tolist()


@pytest.mark.parametrize("target", ["first", "last", "all"])
def test_known_before_is_all_before_the_moment_of_a_global_split(random_split, target):
    split = global_time(random_split.histories, validation=0.2, test=0.2, target=target)
    times = random_split.histories.times
    for part in ("validation", "test"):
        before = times[times < split.arguments[f"{part}_time"]]
        assert sorted(known_before(split, part).times) == sorted(before)


def test_test_targets_have_no_part_in_the_floors(random_split):
    changed = with_other_items_at(random_split, random_split.test)
    a, b = fit_floors(random_split), fit_floors(changed)
    assert [f.arguments for f in a.values()] == [f.arguments for f in b.values()]
    assert same_scores(a, b, random_split)


def test_validation_targets_have_no_part_in_what_is_fitted_for_validation(random_split, monkeypatch):
    monkeypatch.setattr(tuning, "NEIGHBOURS", (20,))
    monkeypatch.setattr(tuning, "REGULARISATIONS", (100.0,))
    monkeypatch.setattr(tuning, "EASE_DECAYS", (0.9,))
    monkeypatch.setattr(tuning, "TRANSITION_DECAYS", (0.8,))
    changed = with_other_items_at(random_split, random_split.validation)
    a, b = fit_floors(random_split, "validation"), fit_floors(changed, "validation")
    assert same_scores(a, b, random_split)
    assert not same_scores(fit_floors(random_split), fit_floors(changed), random_split)


def test_a_catalogue_too_large_for_ease_gets_the_other_floors(random_split, monkeypatch):
    monkeypatch.setattr(tuning, "EASE_MAX_ITEMS", 30)
    floors = fit_floors(random_split)
    assert list(floors) == ["popularity", "popularity-recent", "item-knn", "transitions"]
    assert floors["item-knn"].arguments["neighbours"] is not None


def test_without_times_nothing_is_recent(random_split):
    timeless = replace(random_split, histories=replace(random_split.histories, times=None))
    assert list(fit_floors(timeless, names=["popularity", "popularity-recent"])) == ["popularity"]


def test_floors_are_the_same_every_time_and_report_progress(random_split):
    told = []
    a, b = fit_floors(random_split, progress=told.append), fit_floors(random_split)
    assert told == ["popularity", "popularity-recent", "item-knn", "ease", "transitions"]
    assert list(a) == NAMES
    assert same_scores(a, b, random_split)


def test_floors_on_movielens_100k(movielens_100k):
    """The project's measured floors: leave-one-out, full catalogue, seen out, ties against, file order in a second."""
    expected = {
        "popularity": (0.0859, 0.0439),
        "popularity-recent": (0.0859, 0.0409),
        "item-knn": (0.1092, 0.0563),
        "ease": (0.1485, 0.0723),
        "ease-recency": (0.1951, 0.1025),
        "transitions": (0.2089, 0.1147),
    }
    floors = fit_floors(movielens_100k)
    for name, floor in floors.items():
        metrics = evaluate(floor, movielens_100k, ks=(10,)).metrics
        got = metrics["hr@10"]["mean"], metrics["ndcg@10"]["mean"]
        assert got == pytest.approx(expected[name], abs=0.003), name
    assert floors["popularity-recent"].arguments == {"days": 90.0}
    assert floors["ease"].arguments == {"regularisation": 100.0, "decay": 1.0}
    assert floors["ease-recency"].arguments == {"regularisation": 300.0, "decay": 0.9}
    assert floors["transitions"].arguments == {"horizon": 10, "decay": 0.8}


def test_floors_named_are_those_of_the_whole_list(random_split):
    everything = fit_floors(random_split)
    assert same_scores({name: fit_floors(random_split, names=[name])[name] for name in NAMES}, everything, random_split)
    assert list(fit_floors(random_split, names=["transitions", "ease"])) == ["ease", "transitions"]
    with pytest.raises(ConfigError, match="names holds 'slim': the floors are popularity, popularity-recent"):
        fit_floors(random_split, names=["slim"])
