"""People that the model does not know: what they did in raw ids, times, ratings and actions, and who they are."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from recattn.data import Interactions, encode, leave_one_out, with_features
from recattn.errors import ConfigError, DataError
from recattn.models import HSTU, SASRec, TargetAttention
from recattn.serving import Artefact, Recommender, Retriever

USERS, ITEMS = 7, 29


@pytest.fixture(scope="module")
def known() -> Artefact:
    """Users 100 .. 106 take 29 items from 1000 at uneven times; gender and age are known, of 106 the age alone."""
    draw = np.random.default_rng(3)
    user, step = np.repeat(range(USERS), 11), np.tile(range(11), USERS)
    told = {"user": 100 + user, "item": 1000 + (5 * user + 3 * step + draw.integers(4, size=len(user))) % ITEMS}
    told |= {"rating": draw.integers(1, 6, len(user)).astype(float), "time": 100_000 * user + 977 * step * step}
    events = pd.DataFrame(told)
    people = pd.DataFrame({"user": range(100, 107), "gender": [*"FMFMFM", None], "age": [18, 25, 35, 18, 25, 35, 18]})
    table = Interactions.from_frame(events, rating_column="rating", time_column="time", users=people, name="x")
    return artefact_of(table)


def drawn(model):
    """With weights that make everything count that the model reads."""
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.5)
    return model.eval()


def artefact_of(table: Interactions, model=TargetAttention, **arguments) -> Artefact:
    encoded = encode(table)
    split, encoders = with_features(leave_one_out(encoded.histories), table)
    histories = split.histories
    levels = () if histories.ratings is None else np.unique(histories.ratings).tolist()
    arguments = {"dim": 8, "rating_levels": levels, "profile_sizes": histories.profile_sizes, **arguments}
    made = drawn(model(histories.num_items, **arguments))
    return Artefact(made, encoded.users, encoded.items, histories, encoders, {"data": "x"})


def events_of(artefact: Artefact, user: int) -> pd.DataFrame:
    """A known user's events, as somebody would tell them."""
    histories, row = artefact.histories, user - 100
    part = slice(histories.offsets[row], histories.offsets[row + 1])
    told = {"item": artefact.items.decode(histories.items[part]), "time": histories.times[part]}
    return pd.DataFrame(told | {"rating": histories.ratings[part]})


def profile_of(user: int) -> dict:
    return {"gender": "FM"[user % 2], "age": [18, 25, 35][(user - 100) % 3]}


@pytest.mark.parametrize("model", [TargetAttention, SASRec, HSTU])
def test_somebody_with_the_events_and_profile_of_a_known_user_is_answered_alike(known, model):
    arguments = {"dim": 8, "rating_levels": (1.0, 2.0, 3.0, 4.0, 5.0), "profile_sizes": known.histories.profile_sizes}
    times = {HSTU: {"times": "request"}, SASRec: {"times": "events"}}.get(model, {})
    made = drawn(model(known.model.num_items, **arguments, **times))
    recommender = Recommender(replace(known, model=made))
    for user in (100, 103):
        told = {"history": events_of(known, user), "profile": profile_of(user)}
        asked = {"k": 13, "request_time": 800_000 if recommender.time_aware else None}
        alike = recommender.recommend(user, **asked)
        assert recommender.recommend(**told, **asked) == alike
        assert recommender.score([1003, 1001], **told) == recommender.score([1003, 1001], user=user)
        blind = recommender.recommend(history=events_of(known, user)["item"].tolist(), k=13)
        assert blind.items != alike.items


def test_events_are_put_in_the_order_of_their_times_and_ties_stay(known):
    recommender, events = Recommender(known), events_of(known, 102)
    events.loc[3:5, "time"] = events.loc[4, "time"]
    expected = recommender.recommend(history=events, k=13)
    rows = [10, 9, 3, 8, 7, 4, 6, 5, 2, 0, 1]
    assert recommender.recommend(history=events.iloc[rows], k=13) == expected
    swapped = [10, 9, 5, 8, 7, 4, 6, 3, 2, 0, 1]
    assert recommender.recommend(history=events.iloc[swapped], k=13) != expected
    blind = events.drop(columns="time")
    assert recommender.recommend(history=blind.iloc[rows]) != recommender.recommend(history=blind)


def test_times_may_be_dates_and_ids_text(known):
    recommender, events = Recommender(known), events_of(known, 101)
    told = events.assign(time=pd.to_datetime(events["time"], unit="s"))
    assert recommender.recommend(history=told) == recommender.recommend(history=events)
    told = events.assign(item=[*events["item"].astype(str)[:-1], "odd"])
    assert recommender.recommend(history=told).items == recommender.recommend(history=events[:-1]).items


def test_unknown_items_go_with_their_time_and_rating_and_reasons_stay_in_line(known):
    recommender, events = Recommender(known), events_of(known, 104)
    odd = pd.DataFrame({"item": [31337, 4242], "time": [events["time"][4], 0], "rating": [1.0, 5.0]})
    mixed = pd.concat([odd, events])
    expected, answer = recommender.recommend(history=events), recommender.recommend(history=mixed)
    assert answer.items == expected.items
    assert all(scored.because for scored in answer.items[:3])
    assert answer.notes == ["left out of the history, as the model does not know them: 31337, 4242"]
    nothing = recommender.recommend(history=odd, profile={"gender": "F"})
    assert nothing.source == "popularity"
    assert recommender.recommend(history=events[:0]).source == "popularity"


def test_the_time_of_the_request_counts_where_there_are_times(known):
    made = drawn(HSTU(known.model.num_items, dim=8, times="request"))
    recommender, events = Recommender(replace(known, model=made)), events_of(known, 100)
    soon, late = (recommender.recommend(history=events, request_time=t, k=13) for t in (100_000, 10_000_000))
    assert soon.notes == late.notes == []
    assert soon.items != late.items
    assert "request_time is not used" in recommender.recommend(history=events[["item"]], request_time=9).notes[0]
    table = recommender.recommend_many(histories=events[["item"]].assign(user="a"), request_time=9)
    assert "request_time is not used" in table.attrs["notes"][0]


def test_a_profile_takes_the_place_of_the_fields_it_names(known):
    recommender, encoder = Recommender(known), known.encoders.users
    assert encoder.names == ("gender", "age")
    saved = recommender.recommend(100, k=13)
    assert recommender.recommend(100, k=13, profile={}) == saved
    assert recommender.recommend(100, k=13, profile={"gender": "F"}) == saved
    other = recommender.recommend(100, k=13, profile={"gender": "M"})
    assert other.items != saved.items
    codes = known.histories.profile.copy()
    codes[0, 0] = encoder.fields[0].categories.index("M") + 1
    changed = replace(known, histories=replace(known.histories, profile=codes))
    assert Recommender(changed).recommend(100, k=13) == other
    assert recommender.recommend(100, k=13, profile={"age": "18"}) == saved


def test_what_is_not_told_of_a_profile_is_unknown(known):
    recommender, events = Recommender(known), events_of(known, 106)
    alike = recommender.recommend(106, k=13)
    for profile in ({"age": 18}, {"age": 18.0, "gender": None}, {"gender": "", "age": "18"}):
        assert recommender.recommend(history=events, profile=profile, k=13) == alike
    strange = recommender.recommend(history=events, profile={"age": 18, "gender": "X"}, k=13)
    assert strange.items == alike.items
    assert strange.notes == ["unknown to the model and left out of the profile: gender 'X'"]
    nothing = recommender.recommend(history=events, k=13)
    assert recommender.recommend(history=events, profile={}, k=13) == nothing
    assert nothing.items != alike.items


def test_many_at_once_are_answered_as_one_by_one(known):
    sizes = known.histories.profile_sizes
    recommender = Recommender(
        replace(known, model=drawn(HSTU(known.model.num_items, dim=8, times="request", profile_sizes=sizes)))
    )
    told = {user: events_of(known, 100 + row) for row, user in enumerate(["zoe", "adam", "eve", "nemo"])}
    told["nemo"] = told["nemo"][:1].assign(item=31337)
    told["eve"] = told["eve"][:4]
    profiles = {"eve": {"gender": "M", "age": 35}, "zoe": {"gender": "X", "age": 18}}
    profiles["late"] = {"gender": "F", "age": 25}
    table = pd.concat(events.assign(user=user) for user, events in told.items()).sample(frac=1, random_state=1)
    described = pd.DataFrame(profiles).T.rename_axis("user").reset_index()
    first_rows = [*table["user"].drop_duplicates(), "late"]
    for request_time in (None, 900_000):
        asked = {"k": 4, "request_time": request_time}
        found = recommender.recommend_many(histories=table, profiles=described, batch_size=2, **asked)
        assert found["user"].unique().tolist() == first_rows
        for user, rows in found.groupby("user"):
            alone = recommender.recommend(history=told.get(user, []), profile=profiles.get(user), **asked)
            assert rows["item"].tolist() == [scored.item for scored in alone.items]
            assert rows["score"].tolist() == pytest.approx([scored.score for scored in alone.items], rel=1e-5)
    assert found.attrs["notes"] == [
        "left out of the history, as the model does not know them: 31337",
        "unknown to the model and left out of the profile: gender 'X'",
        "2 of 5 users have no history: theirs are the most popular items",
    ]
    alone = recommender.recommend_many(histories=table, k=4)
    assert alone["user"].unique().tolist() == first_rows[:-1]


def test_users_keep_the_ids_they_were_given(known):
    recommender, events = Recommender(known), events_of(known, 100)
    for user in (2**40, "007"):
        assert recommender.recommend_many(histories=events.assign(user=user), k=1)["user"].tolist() == [user]


def test_the_file_of_a_table_says_the_same(known, tmp_path):
    recommender, events = Recommender(known), events_of(known, 105)
    expected = recommender.recommend(history=events, k=13)
    events.to_csv(tmp_path / "one.csv", index=False)
    events.to_parquet(tmp_path / "one.parquet")
    events.to_json(tmp_path / "one.jsonl", orient="records", lines=True)
    for name in ("one.csv", "one.parquet", "one.jsonl"):
        assert recommender.recommend(history=tmp_path / name, k=13) == expected
    (tmp_path / "bad.csv").write_text("item,rating\n1001,3\n1002,inf\n")
    with pytest.raises(DataError, match=r"bad\.csv, line 3, column 'rating': the rating 'inf' is not finite"):
        recommender.recommend(history=tmp_path / "bad.csv")


def test_both_stages_read_such_a_history(known):
    retriever = Retriever("model", known.model.score_all, {})
    both, alone, told = Recommender(known, retriever, retrieve=3, blend=0.5), Recommender(known), events_of(known, 101)
    asked = {"history": told, "profile": profile_of(101)}
    one, two = alone.recommend(**asked, k=3), both.recommend(**asked, k=3)
    assert [(a.item, a.because) for a in one.items] == [(b.item, b.because) for b in two.items]
    assert [b.score for b in two.items] == pytest.approx([1.5 * a.score for a in one.items], rel=1e-4)
    assert both.recommend(101, k=3).items == two.items
    many = both.recommend_many(
        histories=told.assign(user=1), profiles=pd.DataFrame({"user": [1], **profile_of(101)}), k=3
    )
    assert many["item"].tolist() == [b.item for b in two.items]


def test_a_profile_that_only_the_retriever_reads_is_taken(known):
    blind = TargetAttention(known.model.num_items, dim=8).eval()
    retriever = Retriever("model", known.model.score_all, {}, replace(known, model=known.model))
    manifest = {"data": "x", "split": {"name": "leave_one_out", "hash": "0"}}
    ranker = replace(known, model=blind, manifest=manifest)
    retriever = replace(retriever, artefact=replace(known, manifest=manifest))
    assert Recommender(ranker, retriever, retrieve=3).recommend(100, profile={"gender": "M"}).source == "model"
    with pytest.raises(ConfigError, match="a profile is given, but TargetAttention was trained without"):
        Recommender(ranker).recommend(100, profile={"gender": "M"})


def test_actions_are_told_by_name():
    rows = [(u, 7 + (u + s) % 11, ["view", "cart", "buy"][u * s % 3], 10 * s) for u in range(4) for s in range(5)]
    events = pd.DataFrame(rows, columns=["user", "item", "action", "time"])
    table = Interactions.from_frame(events, action_column="action", time_column="time", name="x")
    recommender = Recommender(artefact_of(table))
    for user in range(4):
        told = events[events["user"] == user]
        assert recommender.recommend(history=told, k=5) == recommender.recommend(user, k=5)
    other = events[events["user"] == 1].assign(action="buy")
    assert recommender.recommend(history=other, k=5) != recommender.recommend(1, k=5)
    with pytest.raises(
        DataError, match=r"row 2 of history, column 'action': 'sell' is none of the model's: buy, cart, "
    ):
        recommender.recommend(history=pd.DataFrame({"item": [7, 8], "action": ["buy", "sell"]}))
    with pytest.raises(ConfigError, match="history has ratings, but the model was trained on actions: buy, cart, view"):
        recommender.recommend(history=pd.DataFrame({"item": [7], "rating": [3.0]}))


def test_times_and_ratings_that_the_model_never_met_are_left_out_and_said():
    events = pd.DataFrame({"user": [1] * 4 + [2] * 4, "item": [5, 6, 7, 8, 6, 7, 8, 5]})
    recommender = Recommender(artefact_of(Interactions.from_frame(events, name="x")))
    told = pd.DataFrame({"item": [6, 5], "time": [20, 10], "rating": [1.0, 5.0]})
    answer = recommender.recommend(history=told, k=2)
    assert answer.items == recommender.recommend(history=[5, 6], k=2).items
    assert answer.notes == [f"{name} is not used: the model was trained without" for name in ("time", "rating")]


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (
            {"item": [1001, 1002], "rating": [3.0, np.inf]},
            "row 2 of history, column 'rating': the rating inf is not finite",
        ),
        ({"item": [1001, 1002], "rating": [np.nan, 1]}, "row 1 of history, column 'rating': the rating is missing"),
        ({"item": [1001, 1002], "time": [5, -1]}, "row 2 of history, column 'time': the time -1 is negative"),
        ({"item": [1001], "time": ["soon"]}, "row 1 of history, column 'time': the time 'soon' is neither a number"),
        ({"item": [1001, None]}, "row 2 of history, column 'item': the id is missing"),
        ({"items": [1001]}, "history: there is no column 'item'; the columns are 'items'"),
        ({"item": [1001], "when": [7]}, "history: 'when' is none of the columns item, user, time, rating, action"),
        ({"item": [1001], "action": ["buy"]}, "history has actions, but the model was trained without"),
        ({"item": [1001], "rating": [1], "action": ["buy"]}, "name one of them"),
        ({"item": [1001, 1001], "user": [1, 2]}, "history has events of several users"),
    ],
)
def test_a_history_that_cannot_be_is_refused(known, history, message):
    with pytest.raises((DataError, ConfigError), match=message):
        Recommender(known).recommend(history=pd.DataFrame(history))


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"sex": "F"}, "the profile has no field 'sex'; its fields are gender, age"),
        ({"age": {"years": 3}}, "profile, column 'age': features are numbers, text or lists"),
    ],
)
def test_a_profile_that_cannot_be_is_refused(known, profile, message):
    with pytest.raises((DataError, ConfigError), match=message):
        Recommender(known).recommend(100, profile=profile)


def test_tables_of_many_that_cannot_be_are_refused(known):
    recommender, events = Recommender(known), events_of(known, 100).assign(user=1)
    twice = pd.DataFrame({"user": [1, 2, 1], "gender": list("FFM")})
    for asked, message in (
        ({"histories": events, "profiles": twice}, "row 3 of profiles, column 'user': 1 has a profile already"),
        ({"histories": events, "users": [100]}, "give either users, or histories"),
        ({"profiles": twice}, "give either users, or histories"),
        ({"histories": events.drop(columns="user")}, "histories: there is no column 'user'"),
        ({"histories": pd.concat([events, events["item"]], axis=1)}, "more than one column is called 'item'"),
    ):
        with pytest.raises((DataError, ConfigError), match=message):
            recommender.recommend_many(**asked)


def test_a_model_without_profiles_says_so(artefact):
    with pytest.raises(ConfigError, match="a profile is given, but TargetAttention was trained without and reads none"):
        Recommender(artefact).recommend(history=[1000], profile={"gender": "F"})


def test_times_are_read_in_the_unit_of_the_training(known):
    events = events_of(known, 101)
    expected = Recommender(known).recommend(history=events, k=13)
    fine = Recommender(replace(known, manifest={"data": "x", "time_unit": "ms"}))
    assert fine.recommend(history=events.assign(time=1000 * events["time"] + 7), k=13) == expected
    assert fine.recommend(history=events.assign(time=pd.to_datetime(events["time"], unit="s")), k=13) == expected
    now = events.assign(time=1_700_000_000_000 + events["time"])
    assert fine.recommend(history=now).source == "model"
    with pytest.raises(DataError, match=r"look like milliseconds .* pass time_unit='ms', or times in 's'"):
        Recommender(known).recommend(history=now)
