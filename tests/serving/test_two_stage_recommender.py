from dataclasses import replace

import numpy as np
import pytest
import torch

import recattn
from recattn.errors import ConfigError
from recattn.models import HSTU
from recattn.serving import Recommender, Retriever, find_retriever, save_artefact

ITEMS = 14


def by_number(history, request_time):
    """Item 14 (2000) first, then 13 (1012) and so on down."""
    return torch.arange(ITEMS + 1.0).expand(len(history.items), -1)


@pytest.fixture
def numbered():
    return Retriever("numbered", by_number, {})


def numbers(recommender, answer):
    return recommender.items.encode([scored.item for scored in answer.items]).tolist()


def test_the_whole_catalogue_gives_the_answers_of_the_ranker_alone(artefact, numbered):
    alone, both = Recommender(artefact), Recommender(artefact, numbered, retrieve=ITEMS)
    for user in (100, 103, 7):
        assert both.recommend(user, k=20) == alone.recommend(user, k=20)
    assert both.recommend_many(k=20).equals(alone.recommend_many(k=20))


@pytest.mark.parametrize("filter_seen", [True, False])
def test_the_retrievers_best_are_put_in_the_rankers_order(artefact, numbered, filter_seen):
    both, alone = Recommender(artefact, numbered, retrieve=2), Recommender(artefact)
    for row, user in enumerate(range(100, 107)):
        seen = set(artefact.histories.of(row + 1).tolist()) if filter_seen else set()
        best = sorted(set(range(1, ITEMS + 1)) - seen)[-2:]
        ranked = alone.recommend(user, k=ITEMS, filter_seen=False)
        expected = [number for number in numbers(alone, ranked) if number in best]
        answer = both.recommend(user, k=ITEMS, filter_seen=filter_seen)
        assert numbers(both, answer) == expected
        assert "k is 14, but only 2 items are left to recommend" in answer.notes
        table = both.recommend_many([user], k=ITEMS, filter_seen=filter_seen)
        assert both.items.encode(table["item"].tolist()).tolist() == expected
        assert table["score"].tolist() == pytest.approx([scored.score for scored in answer.items], rel=1e-5)


def test_scores_and_reasons_are_the_rankers(artefact, numbered):
    both, alone = Recommender(artefact, numbered, retrieve=2), Recommender(artefact)
    known = {scored.item: scored for scored in alone.recommend(100, k=ITEMS).items}
    for scored in both.recommend(100).items:
        assert scored.because == known[scored.item].because != []
        assert scored.score == pytest.approx(known[scored.item].score, rel=1e-5)


def test_a_blend_adds_the_retrievers_score(artefact, numbered):
    both, alone = Recommender(artefact, numbered, retrieve=9, blend=0.5), Recommender(artefact)
    known = {scored.item: scored.score for scored in alone.recommend(100, k=ITEMS).items}
    answer = both.recommend(100)
    for number, scored in zip(numbers(both, answer), answer.items, strict=True):
        assert scored.score == pytest.approx(known[scored.item] + 0.5 * number, rel=1e-5)
    asked = both.score([1001, 1012], user=100)
    plain = alone.score([1001, 1012], user=100)
    more = [a.score - b.score for a, b in zip(asked.items, plain.items, strict=True)]
    assert more == pytest.approx([0.5 * 2, 0.5 * 13], rel=1e-4)


def test_items_that_are_not_retrieved_can_still_be_scored(artefact, numbered):
    both = Recommender(artefact, numbered, retrieve=1)
    scores = [scored.score for scored in both.score([1001, 1002], user=100).items]
    assert scores == pytest.approx(
        [s.score for s in Recommender(artefact).score([1001, 1002], user=100).items], rel=1e-5
    )


def test_nobody_known_gets_the_popular_items(artefact, numbered):
    answer = Recommender(artefact, numbered, retrieve=2).recommend(history=[], k=5)
    assert answer.source == "popularity"
    assert len(answer.items) == 5
    assert Recommender(artefact, numbered, retrieve=2).score([1001], history=[]).source == "popularity"


def test_both_stages_are_told_the_time_of_the_request(artefact):
    told = []
    model = HSTU(ITEMS, dim=4, times="request").eval()
    other = replace(artefact, model=model)
    retriever = Retriever("x", lambda h, t: told.append(t.tolist()) or model.score_all(h, t), {}, other)
    both = Recommender(artefact, retriever, retrieve=3)
    both.recommend(100, request_time=777)
    both.recommend_many([100, 101], request_time=99)
    assert told == [[777], [99, 99]]
    answer = both.recommend(history=[1001], request_time=777)
    assert any("request_time is not used" in note for note in answer.notes)


def test_saved_models_and_floors_are_loaded_by_name(artefact, tmp_path):
    save_artefact(tmp_path / "ranker", artefact)
    save_artefact(tmp_path / "retriever", replace(artefact, model=HSTU(ITEMS, dim=4)))
    for named in (tmp_path / "retriever", "transitions"):
        both = recattn.load(tmp_path / "ranker", retriever=named, retrieve=3, blend=0.1)
        assert len(both.recommend(100).items) == 3
        expected = Recommender(artefact, find_retriever(named, artefact), retrieve=3, blend=0.1)
        assert both.recommend(100) == expected.recommend(100)


def test_models_that_do_not_agree_are_refused(artefact, tmp_path):
    other = replace(artefact, model=HSTU(ITEMS, dim=4), histories=replace(artefact.histories, ratings=None))
    save_artefact(tmp_path / "ranker", artefact)
    save_artefact(tmp_path / "retriever", other)
    with pytest.raises(ConfigError, match=r"differ in histories \(ratings\)"):
        recattn.load(tmp_path / "ranker", retriever=tmp_path / "retriever")
    with pytest.raises(ConfigError, match=r"differ in histories \(ratings\)"):
        Recommender(artefact, Retriever("x", other.model.score_all, {}, other))
    with pytest.raises(ConfigError, match="are a retriever's settings"):
        recattn.load(tmp_path / "ranker", retrieve=7)
    with pytest.raises(ConfigError, match="blend must be a finite number >= 0"):
        recattn.load(tmp_path / "ranker", retriever="popularity", blend=-1.0)


def test_rows_do_not_depend_on_the_rows_beside_them(artefact, numbered):
    both = Recommender(artefact, numbered, retrieve=4)
    tables = [both.recommend_many(k=4, batch_size=size) for size in (1, 3, 256)]
    for table in tables[1:]:
        assert table["item"].tolist() == tables[0]["item"].tolist()
        assert np.allclose(table["score"], tables[0]["score"])
