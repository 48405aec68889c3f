import hashlib

import numpy as np
import pandas as pd
import pytest

from recattn.data.attributes import read_attributes
from recattn.data.interactions import Interactions
from recattn.data.load import load_interactions
from recattn.data.summary import content_hash
from recattn.errors import ConfigError, DataError

EVENTS = pd.DataFrame(
    {
        "user": ["a", "b", "a", "a", "a", "b", "a"],
        "item": [7, 7, 5, 7, 7, 3, 5],
        "time": [10, 10, 10, 10, 20, 30, 40],
        "rating": [5.0, 1.0, 2.0, 4.0, 3.0, 2.5, 1.0],
    }
)
TIMED = {"time_column": "time", "rating_column": "rating"}


def test_the_first_of_duplicates_is_kept_and_the_others_are_counted():
    data = Interactions.from_frame(EVENTS, **TIMED)
    assert data.frame.rating.tolist() == [5.0, 1.0, 2.0, 3.0, 2.5, 1.0]
    assert data.frame.index.tolist() == list(range(6))
    assert (data.summary.read, data.summary.kept) == (7, 6)
    assert data.summary.left_out == {"duplicates of an earlier (user, item, time)": 1}
    assert "left out: 1 duplicates" in str(data.summary)


def test_duplicates_may_be_kept():
    data = Interactions.from_frame(EVENTS, **TIMED, duplicates="keep")
    assert len(data.frame) == data.summary.kept == 7
    assert data.summary.left_out == {}
    with pytest.raises(ConfigError, match="duplicates='drop' is not allowed; choose 'first' or 'keep'"):
        Interactions.from_frame(EVENTS, **TIMED, duplicates="drop")


def test_the_summary_counts_repeats_ties_and_short_users():
    summary = Interactions.from_frame(EVENTS, **TIMED).summary
    assert (summary.users, summary.items) == (2, 3)
    assert summary.repeats == 2  # a took 7 and 5 twice, at different times
    assert summary.tied == pytest.approx(1 / 6)  # a's second event, in the second of the first
    assert summary.short_users == 1
    assert (summary.first_time, summary.last_time) == (10, 40)
    text = str(summary)
    assert "1 users have fewer than three events (kept, but not split)" in text
    assert "1970-01-01 to 1970-01-01" in text


def test_without_times_every_row_is_an_event_in_the_order_of_the_file():
    data = Interactions.from_frame(EVENTS, time_column="", rating_column="")
    assert len(data.frame) == 7
    assert data.summary.left_out == {}
    assert data.summary.repeats == 3
    assert data.summary.tied is None
    assert list(data.frame.columns) == ["user", "item"]
    assert "columns not read: time, rating" in data.summary.lines()


def test_times_and_ratings_are_found_by_their_names():
    found, named = Interactions.from_frame(EVENTS), Interactions.from_frame(EVENTS, **TIMED)
    assert found.summary == named.summary
    assert not any("not read" in line for line in found.summary.lines())


def test_the_given_frame_is_left_as_it_is():
    before = EVENTS.copy()
    Interactions.from_frame(EVENTS, **TIMED)
    pd.testing.assert_frame_equal(EVENTS, before)


def test_titles_come_from_their_column_or_from_the_ids():
    titled = EVENTS.assign(title=["Seven", "Seven", "", "Seven", "Seven", None, "Five"])
    items = Interactions.from_frame(titled, title_column="title").items
    assert items.item.tolist() == [3, 5, 7]
    assert items.title.tolist() == ["3", "Five", "Seven"]


def test_a_table_is_read_with_its_summary(tmp_path):
    path = tmp_path / "events.csv"
    EVENTS.rename(columns={"user": "who", "item": "what", "time": "when"}).to_csv(path, index=False)
    named = {"user_column": "who", "item_column": "what", "time_column": "when", "rating_column": ""}
    data = load_interactions(path, **named, duplicates="keep")
    assert data.name == "events.csv"
    assert data.users is None
    assert data.summary.files == {"events.csv": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert data.summary.hash == Interactions.from_frame(EVENTS, rating_column="", duplicates="keep").summary.hash


def test_items_and_users_without_events_are_left_out_of_the_catalogue_and_counted(tmp_path):
    (tmp_path / "ratings.dat").write_text("2::7::5::9\n1::5::3::8\n4::11::1::7\n")
    (tmp_path / "movies.dat").write_text("5::Five::Drama\n7::Seven::War\n13::Never::War\n7::Again::War\n")
    (tmp_path / "users.dat").write_text("1::F::25::3::x\n2::M::35::5::x\n3::M::35::5::x\n")
    data = Interactions.from_movielens(tmp_path, name="toy")
    assert data.items.item.tolist() == [5, 7, 11]
    assert data.items.title.tolist() == ["Five", "Seven", "11"]
    assert data.users.user.tolist() == [1, 2, 4]
    assert data.users.gender.tolist()[:2] == ["F", "M"]
    assert data.users.gender.isna().tolist() == [False, False, True]
    text = str(data.summary)
    assert "1 items that no event has are left out" in text
    assert "1 items have events, but no row that describes them" in text
    assert "1 rows describe items again and are left out" in text
    assert "1 users that no event has are left out" in text


def test_the_content_hash_sees_values_and_order_but_not_widths():
    frame = pd.DataFrame({"user": ["a", "b"], "item": [3, 5], "rating": np.float32([1, 2])})
    assert content_hash(frame) == content_hash(frame.astype({"item": "int32"}))
    assert content_hash(frame) != content_hash(frame[::-1])
    assert content_hash(frame) != content_hash(frame.assign(user=["a", "c"]))
    assert content_hash(frame) != content_hash(frame.rename(columns={"user": "who"}))


def test_the_content_hash_of_a_known_table_never_changes():
    frame = pd.DataFrame({"user": ["a", "ü"], "item": [3, 5]})
    assert content_hash(frame) == "fad37e54775b7c744ac83202dc454bc91b9ff2db81430c75df45e136d1c48827"


def test_what_is_neither_a_name_nor_a_file_is_said(tmp_path):
    with pytest.raises(DataError, match=r"'ml-2m' is neither a data set \(ml-100k, ml-1m, .*\) nor a file that exists"):
        load_interactions("ml-2m")
    with pytest.raises(ConfigError, match=r"user_column='who': a named data set .ml-100k. has its own columns"):
        load_interactions("ml-100k", user_column="who")
    with pytest.raises(ConfigError, match="source='x' is for named data sets"):
        load_interactions(tmp_path / "x.csv", source="x")


def test_rare_items_go_with_users_who_have_nothing_else():
    events = pd.DataFrame({"user": [1, 1, 2, 3, 3], "item": [7, 5, 7, 5, 9], "t": [1, 2, 3, 4, 5]})
    kept = Interactions.from_frame(events, time_column="t").without_rare_items(2)
    assert kept.frame[["user", "item"]].to_numpy().tolist() == [[1, 7], [1, 5], [2, 7], [3, 5]]
    assert kept.items["item"].tolist() == [5, 7]
    assert (kept.summary.read, kept.summary.kept, kept.summary.items) == (5, 4, 2)
    assert kept.summary.left_out["of items with fewer than 2 events"] == 1
    only = Interactions.from_frame(events, time_column="t").without_rare_items(1)
    assert only.summary.hash == Interactions.from_frame(events, time_column="t").summary.hash
    assert kept.without_rare_items(2).summary == kept.summary
    with pytest.raises(DataError, match="no item of frame has 3 events; the most frequent has 2"):
        kept.without_rare_items(3)
    with pytest.raises(ConfigError, match="min_item_events must be an integer >= 1, got 0"):
        kept.without_rare_items(0)


def test_ml_1m_has_3416_items_of_five_events(shared_data, tmp_path):
    data = load_interactions("ml-1m", source=shared_data("ml-1m"), data_dir=tmp_path, verify=False)
    kept = data.without_rare_items(5)
    assert (kept.summary.kept, kept.summary.users, kept.summary.items) == (999_611, 6_040, 3_416)


def test_rebuilt_ml_1m_is_loaded_with_an_opt_in_and_a_note(shared_data, tmp_path):
    folder = shared_data("ml-1m")
    with pytest.raises(DataError, match=r"ratings.dat has 24594136 bytes, published are 24594131.*verify=False"):
        load_interactions("ml-1m", source=folder, data_dir=tmp_path)
    summary = load_interactions("ml-1m", source=folder, data_dir=tmp_path, verify=False).summary
    assert "NOT the published bytes" in summary.notes[0]
    assert "177 items that no event has are left out" in summary.notes[1]
    assert (summary.kept, summary.users, summary.items, summary.short_users) == (1_000_209, 6_040, 3_706, 0)
    assert len(summary.files["ratings.dat"]) == 64


def test_real_ml_100k_has_titles_and_profiles(shared_data, tmp_path):
    said = []
    data = load_interactions("ml-100k", source=shared_data("ml-100k"), data_dir=tmp_path, say=said.append)
    assert data.items.title.iloc[0] == "Toy Story (1995)"
    assert data.users.to_dict("records")[0] == {"user": 1, "age": 24, "gender": "M", "occupation": "technician"}
    assert data.summary.tied == pytest.approx(0.506, abs=0.001)
    assert data.summary.notes == ()
    assert said == []


def test_frames_of_items_and_users_become_what_their_files_would(tmp_path):
    events = pd.DataFrame({"user": [1, 2], "item": [5, 7]})
    items = pd.DataFrame({"item": [5, 7], "tags": [["b", "a"], []], "old": [True, False], "price": ["1", "2.5"]})
    users = pd.DataFrame({"user": [1, 2], "since": pd.to_datetime(["1970-01-02", "1970-01-03"]), 0: ["x", " y"]})
    data = Interactions.from_frame(events, items=items, users=users)
    for frame, name, key in ((items, "items", "item"), (users, "users", "user")):
        frame.rename(columns=str).to_parquet(tmp_path / f"{name}.parquet")
        read = read_attributes(tmp_path / f"{name}.parquet", key, key)
        pd.testing.assert_frame_equal(getattr(data, name).drop(columns="title", errors="ignore"), read)


def test_columns_may_be_called_by_numbers():
    data = Interactions.from_frame(pd.DataFrame([[1, 5], [1, 6]]), user_column="0", item_column="1")
    assert data.frame["item"].tolist() == [5, 6]
