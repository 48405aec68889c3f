import numpy as np
import pandas as pd
import pytest

from recattn.data import Interactions, encode, global_time, leave_one_out, load_interactions, with_features
from recattn.errors import DataError


def test_profiles_follow_the_users(tmp_path):
    (tmp_path / "ratings.dat").write_text("".join(f"{user}::{i}::3::{i}\n" for user in (20, 3, 100) for i in (2, 3, 5)))
    (tmp_path / "users.dat").write_text("100::F::25::3::x\n3::M::35::5::x\n")
    interactions = Interactions.from_movielens(tmp_path, name="toy")
    encoded = encode(interactions)
    split, encoders = with_features(leave_one_out(encoded.histories), interactions)
    assert encoded.users.decode([1, 2, 3]) == [3, 20, 100]
    assert encoders.users.names == ("age", "gender", "occupation")
    assert split.histories.profile.tolist() == [[2, 2, 2], [0, 0, 0], [1, 1, 1]]
    assert split.histories.profile_sizes == split.train.profile_sizes == (3, 3, 3)
    assert split.histories.profile.dtype == np.int32
    assert (encoders.items, split.histories.features) == (None, None)


def test_encoders_learn_from_the_training_part_alone():
    times = [1, 2, 3, 5, 40, 90, 91]  # user b comes after the test has begun
    events = pd.DataFrame({"user": list("aaaaabb"), "item": list("ppqqrsr"), "time": times})
    items = pd.DataFrame({"item": list("pqrs"), "maker": ["x", "y", "late", "later"]})
    users = pd.DataFrame({"user": ["a", "b"], "country": ["fr", "it"]})
    interactions = Interactions.from_frame(events, time_column="time", items=items, users=users)
    split = global_time(encode(interactions).histories, test_time=50, validation_time=30, target="all")
    split, encoders = with_features(split, interactions)
    assert encoders.items.fields[0].categories == ("x", "y")
    assert split.histories.features.ravel().tolist() == [0, 1, 2, 0, 0]
    assert encoders.users.fields[0].categories == ("fr",)
    assert split.histories.profile.ravel().tolist() == [1, 0]


def test_titles_of_the_events_and_features_of_a_table_are_joined():
    events = pd.DataFrame({"user": list("aaa"), "item": [7, 5, 9], "name": ["Seven", "Five", ""]})
    items = pd.DataFrame({"item": [9, 7], "title": ["ignored", "ignored"], "maker": ["x", "y"]})
    interactions = Interactions.from_frame(events, title_column="name", items=items)
    assert interactions.items["title"].tolist() == ["Five", "Seven", "9"]
    assert interactions.items["maker"].fillna("?").tolist() == ["?", "y", "x"]


def test_a_table_without_its_key_is_refused():
    events = pd.DataFrame({"user": ["a"], "item": [7]})
    with pytest.raises(DataError, match="table of items has no column 'item'"):
        Interactions.from_frame(events, items=pd.DataFrame({"id": [7]}))


def test_real_ml_100k_has_profiles_genres_and_years(shared_data, tmp_path):
    interactions = load_interactions("ml-100k", source=shared_data("ml-100k"), data_dir=tmp_path)
    split, encoders = with_features(leave_one_out(encode(interactions).histories), interactions)
    histories = split.histories
    assert histories.profile_sizes == (9, 3, 22)
    assert (histories.profile > 0).all()
    assert encoders.items.names == ("genres", "year")
    genres = encoders.items.fields[0].categories
    assert [genres[code - 1] for code in histories.features[1, :3]] == ["Animation", "Children's", "Comedy"]
    assert encoders.items.widths == (6, 1)
