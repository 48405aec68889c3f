from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from recattn.data import Encoders, FeatureEncoder, Vocabulary
from recattn.data.features import Field
from recattn.errors import ConfigError, UnknownIdError
from recattn.evaluation.best import best_items
from recattn.models import TargetAttention
from recattn.serving import Recommender

LAST = {user: 1000 + (3 * (user - 100) + 10) % 13 for user in range(100, 107)}


@pytest.fixture
def recommender(artefact):
    return Recommender(artefact)


@pytest.fixture
def known_profiles(artefact):
    encoder = FeatureEncoder((Field("age", categories=("3", "5")),))
    model = TargetAttention(artefact.model.num_items, dim=8, profile_sizes=encoder.column_sizes).eval()
    profile = np.ones((len(artefact.users), 1), np.int32)
    histories = replace(artefact.histories, profile=profile, profile_sizes=encoder.column_sizes)
    return Recommender(replace(artefact, model=model, histories=histories, encoders=Encoders(encoder)))


def test_what_follows_on_the_ring_is_recommended_first(recommender):
    for user, last in LAST.items():
        answer = recommender.recommend(user, k=1)
        assert answer.items[0].item == 1000 + (last - 1000 + 1) % 13
        assert answer.source == "model"


def test_the_event_before_is_the_first_reason(recommender):
    answer = recommender.recommend(100, k=1)
    assert answer.items[0].because[0].item == LAST[100]
    assert answer.items[0].because[0].contribution > 0
    assert len(answer.items[0].because) <= 3


def test_a_history_of_raw_ids_is_answered_as_its_user(recommender):
    assert recommender.recommend(history=[1002, 1003], k=1).items[0].item == 1004


def test_seen_items_stay_out_unless_asked_for(recommender):
    seen = [1000, 1001, 1002]
    assert not {scored.item for scored in recommender.recommend(history=seen, k=20).items} & set(seen)
    assert {scored.item for scored in recommender.recommend(history=seen, k=20, filter_seen=False).items} >= set(seen)


def test_scores_fall(recommender):
    scores = [scored.score for scored in recommender.recommend(103, k=5).items]
    assert scores == sorted(scores, reverse=True)


def test_many_users_at_once_are_answered_as_one_by_one(recommender):
    for seen_out in (True, False):
        table = recommender.recommend_many(k=4, filter_seen=seen_out, batch_size=3)
        assert table["user"].unique().tolist() == recommender.users.decode(range(1, 1 + len(recommender.users)))
        for user, rows in table.groupby("user"):
            alone = recommender.recommend(user, k=4, filter_seen=seen_out, num_reasons=0).items
            assert rows["rank"].tolist() == list(range(1, len(alone) + 1))
            assert rows["item"].tolist() == [scored.item for scored in alone]
            assert rows["score"].tolist() == pytest.approx([scored.score for scored in alone], rel=1e-5)


def test_equal_scores_stand_in_the_order_of_the_items(recommender, monkeypatch):
    score_all = recommender.model.score_all
    monkeypatch.setattr(recommender.model, "score_all", lambda *asked: score_all(*asked).round())
    table = recommender.recommend_many(k=3)
    for user, rows in table.groupby("user"):
        alone = [scored.item for scored in recommender.recommend(user, k=3, num_reasons=0).items]
        assert rows["item"].tolist() == alone


def test_best_items_are_those_of_a_stable_sort():
    torch.manual_seed(0)
    scores = torch.randint(0, 7, (11, 13)).float()
    for k in (1, 5, 12, 13):
        values, numbers = best_items(scores, k)
        expected = scores.sort(dim=1, descending=True, stable=True)
        assert torch.equal(numbers, expected.indices[:, :k])
        assert torch.equal(values, expected[0][:, :k])


def test_a_time_that_is_no_whole_second_is_refused(recommender):
    recommender.time_aware = True
    for moment in (12345.5, "yesterday", True, np.bool_(True), -1, 1_700_000_000_000):
        with pytest.raises(ConfigError, match="request_time must be whole seconds since 1970, got"):
            recommender.recommend_many(request_time=moment)
        with pytest.raises(ConfigError, match="request_time must be whole seconds since 1970, got"):
            recommender.recommend(100, request_time=moment)


def test_chosen_users_come_in_the_order_asked_and_all_there_is_at_most(recommender):
    table = recommender.recommend_many([104, 101, 104], k=1000)
    left = len(recommender.items) - len(
        set(
            recommender.artefact.histories.items[
                recommender.artefact.histories.offsets[4] : recommender.artefact.histories.offsets[5]
            ]
        )
    )
    assert table["user"].tolist()[0] == table["user"].tolist()[-1] == 104
    assert (table["user"] == 104).sum() == 2 * left
    with pytest.raises(UnknownIdError, match="424242"):
        recommender.recommend_many([424242])
    with pytest.raises(ConfigError, match="k must be an integer >= 1, got 0"):
        recommender.recommend_many(k=0)


def test_a_time_in_milliseconds_is_said_to_be_one(recommender):
    with pytest.raises(ConfigError, match="got 1700000000000: that looks like ms"):
        recommender.recommend(100, request_time=1_700_000_000_000)


def test_a_model_that_reads_no_time_of_the_request_says_so(recommender):
    message = "request_time is given, but TargetAttention reads no time of the request: leave it out"
    for ask in (
        lambda: recommender.recommend(100, request_time=9),
        lambda: recommender.score([1001], user=100, request_time=9),
        lambda: recommender.recommend_many(request_time=9),
    ):
        with pytest.raises(ConfigError, match=message):
            ask()


def test_integers_of_numpy_are_integers(recommender):
    assert recommender.recommend(100, k=np.int64(3)) == recommender.recommend(100, k=3)
    assert recommender.recommend_many(k=np.int32(2)).equals(recommender.recommend_many(k=2))
    recommender.time_aware = True
    assert recommender.recommend(100, request_time=np.int64(700)) == recommender.recommend(100, request_time=700)
    for k in (np.bool_(True), np.int64(0), 3.0):
        with pytest.raises(ConfigError, match="k must be an integer >= 1, got"):
            recommender.recommend(100, k=k)


def test_events_after_the_request_are_left_out_and_said(recommender):
    """User 103 takes items 1009, 1010, ... from 150,000 on, one a minute."""
    recommender.time_aware = True
    answer = recommender.recommend(103, k=5, request_time=150_120)
    assert answer.notes == ["left out of the history, as they come after the request_time 150120: 8 events"]
    past = pd.DataFrame({"item": [1009, 1010, 1011], "time": [150_000, 150_060, 150_120], "rating": [1.0, 2.0, 3.0]})
    assert recommender.recommend(history=past, k=5, request_time=150_120).items == answer.items
    assert recommender.score([1000], user=103, request_time=150_120).notes == answer.notes
    many = recommender.recommend_many([100, 103], k=5, request_time=150_120)
    assert many.attrs["notes"] == ["k is 5, but for 1 of 2 users fewer items are left to recommend", *answer.notes]
    assert many["item"][many["user"] == 103].tolist() == [scored.item for scored in answer.items]
    before = recommender.recommend(103, request_time=9)
    assert (before.source, before.notes[0][-9:]) == ("popularity", "11 events")
    assert recommender.recommend(103, k=1, request_time=150_600).notes == []


def test_the_request_time_reaches_a_model_that_reads_it(recommender, monkeypatch):
    recommender.time_aware = True
    told = []
    score_all = recommender.model.score_all
    monkeypatch.setattr(
        recommender.model, "score_all", lambda events, moment=None: told.append(moment) or score_all(events, moment)
    )
    explained, contributions = [], recommender.model.contributions
    monkeypatch.setattr(
        recommender.model, "contributions", lambda batch: explained.append(batch.request_time) or contributions(batch)
    )
    recommender.recommend(100, k=2, request_time=12345)
    recommender.recommend(100)
    assert explained[0].tolist() == [[12345, 12345]]
    assert explained[1] is None
    recommender.score([1001], user=100, request_time=777)
    recommender.recommend_many([100, 101], request_time=99)
    assert [None if moment is None else moment.tolist() for moment in told] == [[12345], None, [777], [99, 99]]


def test_unknown_user_is_named(recommender):
    with pytest.raises(UnknownIdError, match="424242"):
        recommender.recommend(424242)


def test_unknown_candidate_is_named(recommender):
    with pytest.raises(UnknownIdError, match="31337"):
        recommender.score([1001, 31337], user=100)


def test_unknown_history_items_are_left_out_and_said(recommender):
    answer = recommender.recommend(history=[1002, 31337, 1003], k=1)
    assert answer.items[0].item == 1004
    assert any("31337" in note for note in answer.notes)


@pytest.mark.parametrize("history", [[], [31337]])
def test_no_history_gives_the_popular_items_and_says_so(recommender, history):
    answer = recommender.recommend(history=history, k=14)
    assert answer.source == "popularity"
    assert answer.items[-1].item == 2000, "the item with a single event comes last"
    assert all(not scored.because for scored in answer.items)


def test_more_than_the_catalogue_gives_all_of_it(recommender):
    answer = recommender.recommend(history=[1000], k=1000)
    assert len(answer.items) == 13
    assert any("only 13" in note for note in answer.notes)


def test_scores_of_candidates_are_those_of_the_ranking(recommender):
    ranked = {scored.item: scored.score for scored in recommender.recommend(104, k=20).items}
    for scored in recommender.score(list(ranked), user=104).items:
        assert scored.score == pytest.approx(ranked[scored.item], abs=1e-5)


def test_candidates_keep_their_order(recommender):
    assert [scored.item for scored in recommender.score([1009, 1002, 1009], user=100).items] == [1009, 1002, 1009]


@pytest.mark.parametrize("arguments", [{}, {"user": 100, "history": [1000]}])
def test_user_and_history_exclude_each_other(recommender, arguments):
    with pytest.raises(ConfigError, match="either user or history"):
        recommender.recommend(**arguments)


def test_k_below_one_is_refused(recommender):
    with pytest.raises(ConfigError, match="k must be"):
        recommender.recommend(100, k=0)


def test_no_candidates_are_refused(recommender):
    with pytest.raises(ConfigError, match="candidates is empty"):
        recommender.score([], user=100)


def test_a_user_with_a_single_event_is_answered(recommender):
    assert recommender.recommend(7, k=3).source == "model"


def test_nobody_gets_nothing(recommender):
    found = recommender.recommend_many([])
    assert len(found) == 0
    assert list(found.columns) == ["user", "rank", "item", "score"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"history": "1000"}, "history must be a sequence of ids or a table, got '1000'"),
        ({"history": {"item": [1000]}}, "history must be a sequence of ids or a table, got {'item'"),
        ({"user": 100, "num_reasons": -1}, "num_reasons must be an integer >= 0, got -1"),
        ({"user": 100, "request_time": 10**20}, "request_time must be whole seconds"),
    ],
)
def test_arguments_of_no_meaning_are_refused(recommender, arguments, message):
    with pytest.raises(ConfigError, match=message):
        recommender.recommend(**arguments)


def test_ids_are_found_whether_they_are_told_as_numbers_or_text(recommender):
    expected = recommender.recommend(history=[1002, 1003], k=5)
    assert expected.source == "model"
    for told in (["1002", "1003"], [1002, "1003"], np.array([1002, 1003])):
        assert recommender.recommend(history=told, k=5) == expected
    assert recommender.recommend("100", k=5) == recommender.recommend(100, k=5)
    assert recommender.score(["1001"], user="100") == recommender.score([1001], user=100)
    assert recommender.recommend_many(["104"], k=2).equals(recommender.recommend_many([104], k=2))
    assert recommender.recommend(history=["1002", "odd"]).notes[0].endswith("the model does not know them: odd")


def test_numbers_find_ids_that_are_text(artefact):
    named = replace(artefact, items=Vocabulary(list(map(str, artefact.items.index))))
    told = Recommender(named).recommend(history=[1002, 1003], k=1)
    assert told.items[0].item == "1004"


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda r: r.recommend(100, profile="age=3"), "profile must be a mapping, field -> value, got 'age=3'"),
        (lambda r: r.recommend(100, profile=[1]), r"profile must be a mapping, field -> value, got \[1\]"),
        (lambda r: r.recommend([100]), r"user: an id is a whole number or text, got \[100\]"),
        (lambda r: r.recommend(True), "user: an id is a whole number or text, got True"),
        (lambda r: r.recommend(history=50), "history must be a sequence of ids or a table, got 50"),
        (lambda r: r.recommend(history=[[50, 172]]), r"history: an id is a whole number or text, got \[50, 172\]"),
        (lambda r: r.score(50, user=100), "candidates must be a sequence of ids, got 50"),
        (lambda r: r.score(None, user=100), "candidates must be a sequence of ids, got None"),
        (lambda r: r.recommend_many(100), "users must be a sequence of ids, got 100"),
        (lambda r: r.recommend_many("100"), "users must be a sequence of ids, got '100'"),
        (lambda r: r.recommend_many(histories=[[50], [172]]), "histories must be a table, .*, got a list"),
    ],
)
def test_what_is_no_answerable_question_is_one_clear_error(known_profiles, ask, message):
    with pytest.raises(ConfigError, match=message):
        ask(known_profiles)
