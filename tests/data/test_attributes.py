import datetime as dt
import gzip
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recattn.data import FeatureEncoder, Interactions, encode, leave_one_out, load_interactions, with_features
from recattn.data.attributes import feature, read_attributes
from recattn.errors import ConfigError, DataError

FILMS = [
    {"film": 7, "title": "Seven", "genres": ["War", "Drama"], "year": 1995, "maker": "x"},
    {"film": 5, "title": "Five, or V", "genres": ["Drama"], "year": None, "maker": None},
    {"film": 11, "title": None, "genres": [], "year": 2001.5, "maker": "007"},
]


def write(path, text):
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def as_text(delimiter):
    frame = pd.DataFrame(FILMS).assign(genres=["|".join(film["genres"]) for film in FILMS])
    return frame.to_csv(index=False, sep=delimiter)


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.tsv", "x.jsonl", "x.ndjson.gz", "x.parquet"])
def test_every_format_gives_the_same_attributes(tmp_path, name):
    path = tmp_path / name
    if "json" in name:
        write(path, "\n".join(map(json.dumps, FILMS)))
    elif "parquet" in name:
        pq.write_table(pa.Table.from_pylist(FILMS), path)
    else:
        write(path, as_text("\t" if "tsv" in name else ","))
    films = read_attributes(path, "item", "film")
    assert films.columns.tolist() == ["item", "title", "genres", "year", "maker"]
    assert films["item"].tolist() == [7, 5, 11]
    assert films[["title", "genres", "maker"]].fillna("?").to_numpy().tolist() == [
        ["Seven", "War|Drama", "x"],
        ["Five, or V", "Drama", "?"],
        ["?", "?", "007"],
    ]
    assert films["year"].fillna(-1).tolist() == [1995, -1, 2001.5]
    genres = FeatureEncoder.fit(films[["genres", "year"]]).fields[0]
    assert (genres.categories, genres.width) == (("Drama", "War"), 2)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["3", "", " -2.5e1 "], [3, None, -25]),
        (["3", "x"], ["3", "x"]),
        (["007", "3"], ["007", "3"]),
        (["1|2", "3"], ["1|2", "3"]),
        (["nan", "3"], ["nan", "3"]),
        (["1e999", "3"], ["1e999", "3"]),
        (["", " "], [None, None]),
        ([True, False, None], ["true", "false", None]),
        ([1, None, 3], [1, None, 3]),
        ([np.inf, np.nan, 3.0], [None, None, 3]),
        ([[3, 5, 3], [7], None, [None]], ["3|5", "7", None, None]),
        ([dt.date(1970, 1, 2), None], [86400, None]),
        ([dt.datetime(1970, 1, 2), None], [86400, None]),
    ],
)
def test_what_becomes_of_a_column(values, expected):
    found = feature(pa.chunked_array([pa.array(values, from_pandas=False)]), "x", str)
    assert [None if pd.isna(value) else value for value in found] == expected
    numeric = any(isinstance(value, int | float) for value in expected)
    assert str(found.dtype) == ("float64" if numeric else "str")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "film,maker\n", "x.csv is empty"),
        (
            "x.csv",
            "id,maker\n7,x\n",
            r"x.csv, line 1: there is no column 'film' of the item.*\(item_column\); .*'id', 'm",
        ),
        ("x.jsonl", '{"id": 7}\n', r"x.jsonl.*: there is no column 'film' of the item"),
        ("x.csv", "film,maker\n7,x\n\n,y\n", r"x.csv, line 4, column 'film': the id is missing"),
        ("x.csv", "film,maker\n7,x\n5\n", r"x.csv, line 3: 1 fields"),
        ("x.csv", "film,maker,maker\n7,x,y\n", r"x.csv, line 1: more than one column is called 'maker'"),
        ("x.csv", "film,item\n7,x\n", r"x.csv, line 1: more than one column is called 'item'"),
        ("x.csv", ",film\n0,7\n", r"x.csv, line 1: column 1 has no name"),
        ("x.jsonl", '{"film": 7, "t": ["a"]}\n{"film": 5, "t": [3]}\n', r"line 2, field 't': \[3\] is not list"),
        (
            "x.jsonl",
            '{"film": 7, "t": ["a"]}\n\n{"film": 5, "t": ["b|c"]}\n',
            r"x.jsonl, line 3, column 't': 'b|c' holds",
        ),
        ("x.gone", "film\n7\n", "suffix '.gone' is not one of"),
    ],
)
def test_tables_that_cannot_be(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        read_attributes(write(tmp_path / name, text), "item", "film")


def test_types_that_are_no_features_are_named(tmp_path):
    pq.write_table(pa.table({"film": [7], "x": [{"a": 1}]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x.parquet, row 1, column 'x': features are numbers, text or lists of these"):
        read_attributes(tmp_path / "x.parquet", "item", "film")
    pq.write_table(pa.table({"film": [7], "title": [["a"]]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="column 'title': titles are text, not list"):
        read_attributes(tmp_path / "x.parquet", "item", "film")


def test_json_fields_that_only_later_objects_have_are_features(tmp_path):
    path = write(tmp_path / "x.jsonl", '{"film": 7, "tags": []}\n{"film": 5, "maker": "x", "tags": ["a", "b"]}\n')
    films = read_attributes(path, "item", "film")
    assert films.fillna("?").to_numpy().tolist() == [[7, "?", "?"], [5, "a|b", "x"]]


EVENTS = "who,film,when,does\na,7,1,view\na,5,2,view\na,7,3,buy\na,7,3,view\na,7,3,view\nb,5,1,view\n"


def test_events_items_and_users_come_together(tmp_path):
    events = write(tmp_path / "events.csv", EVENTS)
    films = write(tmp_path / "films.tsv", as_text("\t"))
    people = write(tmp_path / "people.jsonl", '{"who": "b", "age": 30, "title": "Dr"}\n{"who": "b", "age": 31}\n')
    data = load_interactions(
        events, user_column="who", item_column="film", time_column="when", item_table=films, user_table=people
    )
    assert data.items["title"].tolist() == ["Five, or V", "Seven"]
    assert data.items.columns.tolist() == ["item", "title", "genres", "year", "maker"]
    assert data.users["age"].fillna(-1).tolist() == [-1, 30]
    assert data.users["title"].fillna("?").tolist() == ["?", "Dr"]
    assert list(data.summary.files) == ["events.csv", "films.tsv", "people.jsonl"]
    assert "1 items that no event has are left out" in str(data.summary)
    assert "1 users have events, but no row that describes them" in str(data.summary)
    assert "1 rows describe users again" in str(data.summary)


def test_tables_of_one_name_in_two_folders_are_both_in_the_summary(tmp_path):
    events = write(tmp_path / "events.csv", "user,item\na,7\n")
    for folder, text in (("films", "item,kind\n7,x\n"), ("people", "user,age\na,30\n")):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "all.csv", text)
    films, people = tmp_path / "films" / "all.csv", tmp_path / "people" / "all.csv"
    files = load_interactions(events, item_table=films, user_table=people).summary.files
    assert list(files) == ["events.csv", str(films), str(people)]
    assert files[str(films)] != files[str(people)]


def test_the_title_column_is_the_item_tables_where_there_is_one(tmp_path):
    events = write(tmp_path / "events.csv", "user,item,name\na,7,Event\n")
    films = write(tmp_path / "films.csv", "item,name,maker\n7,Table,x\n")
    assert Interactions.from_table(events, title_column="name").items["title"].tolist() == ["Event"]
    named = Interactions.from_table(events, title_column="name", item_table=films)
    assert named.items.to_dict("list") == {"item": [7], "title": ["Table"], "maker": ["x"]}
    with pytest.raises(
        DataError, match=r"films.csv, line 1: there is no column 'label' of the title; .* 'item', 'name'"
    ):
        Interactions.from_table(events, title_column="label", item_table=films)


@pytest.mark.parametrize(
    ("events", "described", "expected"),
    [
        ("7\n5", "5\nx", [1, 0]),  # whole numbers, and a table in which one id is text
        ("7\nx", "7\n5", [1, 0]),
        ("7\n5", "7\n4294967303", [0, 1]),  # 2^32 + 7 is not 7
        ("7\n5", "007\n5", [1, 0]),
    ],
)
def test_ids_of_both_tables_are_compared_as_they_are_written(tmp_path, events, described, expected):
    rows = "\n".join(f"a,{item}" for item in events.split())
    path = write(tmp_path / "events.csv", f"user,item\n{rows}\n")
    films = write(tmp_path / "films.csv", "item,maker\n" + "".join(f"{item},x\n" for item in described.split()))
    found = Interactions.from_table(path, item_table=films).items["maker"].notna()
    assert found.astype(int).tolist() == expected


def test_a_delimiter_is_for_text_alone(tmp_path):
    events = write(tmp_path / "events.csv", "user;item\na;7\n")
    pq.write_table(pa.table({"item": [7], "maker": ["x"]}), tmp_path / "films.parquet")
    data = Interactions.from_table(events, delimiter=";", item_table=tmp_path / "films.parquet")
    assert data.items["maker"].tolist() == ["x"]


def test_a_named_data_set_takes_no_tables():
    with pytest.raises(ConfigError, match=r"item_table='x.csv': a named data set .ml-100k. has its own"):
        load_interactions("ml-100k", item_table="x.csv")


def test_actions_are_numbered_by_name_and_read_as_ratings(tmp_path):
    events = write(tmp_path / "events.csv", EVENTS)
    columns = {"user_column": "who", "item_column": "film", "time_column": "when"}
    data = load_interactions(events, **columns, action_column="does")
    assert data.actions == ("buy", "view")
    assert data.frame["rating"].tolist() == [2, 2, 1, 2, 2]
    assert data.summary.left_out == {"duplicates of an earlier (user, item, time, action)": 1}
    assert "actions are told apart as buy 1, view 2" in str(data.summary)
    split, encoders = with_features(leave_one_out(encode(data).histories), data)
    assert split.histories.ratings.tolist() == [2, 2, 1, 2, 2]
    assert encoders.actions == ("buy", "view")
    with pytest.raises(ConfigError, match=r"rating_column='stars' and action_column='does': .*name one of them"):
        load_interactions(events, **columns, action_column="does", rating_column="stars")


def test_actions_that_cannot_be(tmp_path):
    path = write(tmp_path / "x.csv", "user,item,does\na,7,view\na,5, \n")
    with pytest.raises(DataError, match=r"x.csv, line 3, column 'does': the value is missing"):
        load_interactions(path, action_column="does")
    with pytest.raises(DataError, match=r"no column 'did'.* --action-column|no column 'did'.*action_column"):
        load_interactions(path, action_column="did")
    frame = pd.DataFrame({"user": 1, "item": range(23), "does": range(23)})
    with pytest.raises(DataError, match=r"frame: 23 different actions .'0', '1', '10', ....; 20 at most"):
        Interactions.from_frame(frame, action_column="does")


def test_parquet_columns_are_those_of_the_user(tmp_path):
    path = tmp_path / "items.parquet"
    pd.DataFrame({"item": [5, 7], "year": [1, 2]}).query("item > 5").to_parquet(path)  # keeps its row numbers
    assert read_attributes(path, "item", "item").to_dict("list") == {"item": [7], "year": [2.0]}
    pq.write_table(pa.table([[5], [1], [2]], names=["item", "year", "year"]), path)
    with pytest.raises(DataError, match="more than one column is called 'year'"):
        read_attributes(path, "item", "item")
