import gzip
import json
import re

import numpy as np
import pandas as pd
import pytest

from recattn.data import tables
from recattn.data.tables import Columns
from recattn.errors import ConfigError, DataError

ALL = Columns(rating="rating", time="time", title="title")
ROWS = [("a", 7, 4.5, 100, "Seven"), ("b", 5, 3.0, 90, 'Five, or "V"'), ("a", 5, 1.0, 110, 'Five, or "V"')]
FRAME = pd.DataFrame(ROWS, columns=["user", "item", "rating", "time", "title"])


def read_table(*arguments, **options):
    return tables.read_table(*arguments, **options).frame


def from_pandas(*arguments, **options):
    return tables.from_pandas(*arguments, **options).frame


def write(path, text, encoding="utf-8"):
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.csv.gz", "x.jsonl", "x.ndjson.gz", "x.parquet"])
def test_every_format_gives_the_same_table(tmp_path, name):
    path = tmp_path / name
    if "csv" in name or "tsv" in name:
        write(path, FRAME.assign(extra="z").to_csv(index=False, sep="\t" if "tsv" in name else ","))
    elif "json" in name:
        write(path, FRAME.to_json(orient="records", lines=True))
    else:
        FRAME.to_parquet(path)
    table = read_table(path, ALL)
    assert table.user.tolist() == ["a", "b", "a"]
    assert table.item.tolist() == [7, 5, 5]
    assert table.rating.tolist() == [4.5, 3.0, 1.0]
    assert table.time.tolist() == [100, 90, 110]
    assert table.title.tolist() == ["Seven", 'Five, or "V"', 'Five, or "V"']
    assert [str(kind) for kind in table.dtypes] == ["str", "int32", "float32", "int64", "str"]
    pd.testing.assert_frame_equal(table, from_pandas(FRAME, ALL))


@pytest.mark.parametrize(
    ("texts", "ids"),
    [
        (["1", "20"], [1, 20]),
        (["1.0", "20.0"], [1, 20]),
        (["007", "8"], ["007", "8"]),
        (["NA", "null"], ["NA", "null"]),
        (["nan", "None"], ["nan", "None"]),
        (["1,000", "2"], ["1,000", "2"]),
        ([" 5 ", "6"], [5, 6]),
        (["True", "False"], ["True", "False"]),
        (["1", "b"], ["1", "b"]),
        (["1.5", "2"], ["1.5", "2"]),
        (["9007199254740993", "3"], [9007199254740993, 3]),
        (["99999999999999999999", "3"], ["99999999999999999999", "3"]),
        (["2020-01-01", "2020-01-02"], ["2020-01-01", "2020-01-02"]),
    ],
)
def test_ids_in_text_are_numbers_only_when_all_are(tmp_path, texts, ids):
    path = write(tmp_path / "x.tsv", "user\titem\n" + "".join(f"{text}\t3\n" for text in texts))
    assert read_table(path).user.tolist() == ids


def test_integers_beside_a_missing_value_are_an_error_and_not_floats():
    with pytest.raises(DataError, match="row 2 of the frame, column 'user': the id is missing"):
        from_pandas(pd.DataFrame({"user": [1, None], "item": [2, 3]}), Columns())
    assert from_pandas(pd.DataFrame({"user": [1.0, 2.0], "item": [2, 3]}), Columns()).user.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.5, 2.0], "row 1 of the frame, column 'user': the id 1.5 is neither a whole number nor text"),
        ([2.0, 2.0**60], "row 2 .* is neither a whole number"),
        ([True, False], "ids are whole numbers or text, not bool"),
        ([1, "b"], "column 'user' mixes kinds of values"),
        ([float("nan"), 1.0], "row 1 .*the id is missing"),
        (["a", ""], "row 2 .*the id is missing"),
        (["a", None], "row 2 .*the id is missing"),
        ([2**64 - 1, 5], "does not fit into 64 bits"),
    ],
)
def test_ids_that_cannot_be(values, message):
    with pytest.raises(DataError, match=message):
        from_pandas(pd.DataFrame({"user": values, "item": [2, 3]}), Columns())


@pytest.mark.parametrize(
    "make",
    [
        lambda ids: pd.Series(ids, dtype="category"),
        lambda ids: pd.Series(ids, dtype="str"),
        lambda ids: pd.Series(ids, dtype=object),
    ],
)
def test_text_ids_of_any_dtype_are_text(make):
    frame = from_pandas(pd.DataFrame({"user": make(["b", "a"]), "item": [1, 2]}), Columns())
    assert frame.user.tolist() == ["b", "a"]
    assert str(frame.user.dtype) == "str"


@pytest.mark.parametrize(
    ("values", "unit", "seconds"),
    [
        (["880000000", "880000001"], "s", [880000000, 880000001]),
        (["880000000.9", "1"], "s", [880000000, 1]),
        (["1.2e9", "5"], "s", [1200000000, 5]),
        (["1700000000123", "1700000001999"], "ms", [1700000000, 1700000001]),
        (["1700000000123456789", "1700000000999999999"], "ns", [1700000000, 1700000000]),
        (["2001-09-09", "2001-09-09 01:46:40"], "s", [999993600, 1000000000]),
        (["2001-09-09T01:46:40.75Z", "2001-09-09T03:46:40+02:00"], "ms", [1000000000, 1000000000]),
        (["+5", "7"], "s", [5, 7]),
    ],
)
def test_times_become_whole_seconds(tmp_path, values, unit, seconds):
    path = write(tmp_path / "x.tsv", "user\titem\ttime\n" + "".join(f"1\t3\t{value}\n" for value in values))
    assert read_table(path, Columns(time="time"), time_unit=unit).time.tolist() == seconds


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
@pytest.mark.parametrize("resolution", ["s", "ms", "us", "ns"])
def test_datetimes_become_whole_seconds(zone, resolution):
    stamps = pd.Series(pd.to_datetime(["2001-09-09 01:46:40", "2001-09-10 00:00:00"])).dt.as_unit(resolution)
    stamps = stamps if zone is None else stamps.dt.tz_localize("UTC").dt.tz_convert(zone)
    frame = pd.DataFrame({"user": [1, 2], "item": [3, 5], "time": stamps})
    assert from_pandas(frame, Columns(time="time")).time.tolist() == [1000000000, 1000080000]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["5", "yesterday"], "line 3, column 'time': the time 'yesterday' is neither a number nor an ISO date"),
        (["2001-01-01", "7"], "line 3, column 'time': the time '7' is neither"),
        (["soon", "later"], "line 2, column 'time': the time 'soon' is neither"),
        (["5", "-7"], "line 3, column 'time': the time '-7' is negative"),
        (["5", ""], "line 3, column 'time': the time '' is neither"),
        (["5", "nan"], "line 3, column 'time': the time 'nan' is not finite"),
        (["5", "inf"], "line 3, column 'time': the time 'inf' is not finite"),
        (["1960-01-01", "1999-01-01"], "line 2, column 'time': the time '1960-01-01' is negative"),
        (["1700000000000", "1700000000001"], "look like milliseconds .*pass time_unit='ms'"),
        (["1700000000000000000", "1700000000000000001"], "look like nanoseconds .*pass time_unit='ns'"),
    ],
)
def test_times_that_cannot_be(tmp_path, times, message):
    path = write(tmp_path / "x.tsv", "user\titem\ttime\n" + "".join(f"1\t3\t{time}\n" for time in times))
    with pytest.raises(DataError, match=message):
        read_table(path, Columns(time="time"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["5", "good"], "line 3, column 'stars': the rating 'good' is not a number"),
        (["5", ""], "line 3, column 'stars': the rating '' is not a number"),
        (["nan", "5"], "line 2, column 'stars': the rating 'nan' is not finite"),
        (["inf", "5"], "line 2, column 'stars': the rating 'inf' is not finite"),
    ],
)
def test_ratings_that_cannot_be(tmp_path, values, message):
    path = write(tmp_path / "x.tsv", "user\titem\tstars\n" + "".join(f"1\t3\t{value}\n" for value in values))
    with pytest.raises(DataError, match=message):
        read_table(path, Columns(rating="stars"))


def test_ratings_and_times_of_other_kinds_are_refused():
    frame = pd.DataFrame({"user": [1, 2], "item": [3, 5], "x": [True, False], "y": [None, 2.0]})
    with pytest.raises(DataError, match="column 'x': ratings are numbers, not bool"):
        from_pandas(frame, Columns(rating="x"))
    with pytest.raises(DataError, match="column 'x': times are numbers or dates, not bool"):
        from_pandas(frame, Columns(time="x"))
    with pytest.raises(DataError, match="row 1 of the frame, column 'y': the rating is missing"):
        from_pandas(frame, Columns(rating="y"))
    with pytest.raises(DataError, match="row 1 of the frame, column 'y': the time is missing"):
        from_pandas(frame, Columns(time="y"))


def test_lines_are_those_of_the_file(tmp_path):
    text = 'user,item,title\n1,2,"two\nlines"\n\n3,4,x\n,6,y\n'
    with pytest.raises(DataError, match=r"x.csv, line 6, column 'user': the id is missing"):
        read_table(write(tmp_path / "x.csv", text), Columns(title="title"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "", "x.csv is empty"),
        ("x.csv", "\n\n", "x.csv is empty"),
        ("x.csv.gz", "", "x.csv.gz is empty"),
        ("x.csv", "user,item\n", "x.csv is empty: it names columns, but has no rows"),
        ("x.csv", "user,film\n1,2\n", r"x.csv, line 1: there is no column 'item'; the columns are 'user', 'film'"),
        ("x.csv", "user,item,user\n1,2,3\n", "x.csv, line 1: more than one column is called 'user'"),
        ("x.csv", "user\titem\n1\t2\n", r"x.csv, line 1: .*contains tabs: pass delimiter='\\t'"),
        ("x.tsv", "user,item\n1,2\n", "x.tsv, line 1: .*contains commas: pass delimiter=','"),
        ("x.csv", "user;item\n1;2\n", "x.csv, line 1: .*contains semicolons: pass delimiter=';'"),
        ("x.csv", "user,item\n1,2\n3\n", "x.csv, line 3: 1 fields split at ',', not 2"),
        ("x.csv", "user,item\n1,2\n\n3,4,5\n", "x.csv, line 4: 3 fields split at ',', not 2"),
        ("x.jsonl", "", "x.jsonl is empty"),
        ("x.jsonl", " \n", "x.jsonl is empty"),
        ("x.jsonl", '{"user": 1}\n', "x.jsonl, line 1: there is no column 'item'; the columns are 'user'"),
        ("x.jsonl", '{"user": 1, "item": 2}\n\n{"user": \n', "x.jsonl, line 3: not JSON"),
        ("x.jsonl", '[{"user": 1, "item": 2}]\n', "x.jsonl, line 1: each line is an object"),
        ("x.jsonl", '{"user": 1, "item": 2}\n{"user": "b", "item": 2}\n', "line 2, field 'user': 'b' is not int64"),
        ("x.jsonl", '{"user": 1, "item": 2}\n\n{"item": 2}\n', "x.jsonl, line 3, column 'user': the id is missing"),
        ("x.jsonl", '{"user": null, "item": 2}\n{"user": 5, "item": 2}\n', "x.jsonl, line 1, column 'user': the id is"),
        ("x.jsonl", '{"user": true, "item": 2}\n', "ids are whole numbers or text, not bool"),
        ("x.parquet", "not parquet at all", "x.parquet is not a Parquet file"),
        ("x.xlsx", "user,item\n", "x.xlsx: the suffix '.xlsx' is not one of .csv"),
    ],
)
def test_files_that_cannot_be(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path / name, text))


def test_json_times_may_turn_into_fractions(tmp_path):
    rows = [{"user": "a", "item": 1, "time": 5}, {"user": "b", "item": 2, "time": 7.5}]
    path = write(tmp_path / "x.jsonl", "\n".join(map(json.dumps, rows)))
    table = read_table(path, Columns(time="time"))
    assert table.time.tolist() == [5, 7]
    assert table.user.tolist() == ["a", "b"]


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(DataError, match=r"gone.csv: there is no such file"):
        read_table(tmp_path / "gone.csv")
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path)


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.jsonl"])
def test_the_line_that_is_not_utf8_is_named(tmp_path, name):
    text = "user,item\n1,2\n1,Misérables\n"
    if "json" in name:
        text = '{"user": "1", "item": "2"}\n\n{"user": "1", "item": "Misérables"}\n'
    path = write(tmp_path / name, text, "latin-1")
    with pytest.raises(DataError, match=f'{name}, line 3: byte 0xe9 is not utf-8.*encoding="latin-1"'):
        read_table(path)
    assert read_table(path, encoding="latin-1").item.tolist() == ["2", "Misérables"]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xef\xbb\xbfuser,item\n1,2\n")
    assert read_table(path).user.tolist() == [1]


@pytest.mark.parametrize("name", ["x.csv.gz", "x.jsonl.gz", "x.parquet"])
def test_a_file_that_was_cut_off_is_named(tmp_path, name):
    frame = pd.DataFrame({"user": np.random.default_rng(3).integers(0, 10**9, 997), "item": 5})
    path = tmp_path / name
    if name.endswith("parquet"):
        frame.to_parquet(path)
    else:
        write(path, frame.to_csv(index=False) if "csv" in name else frame.to_json(orient="records", lines=True))
    path.write_bytes(path.read_bytes()[:-1009])
    with pytest.raises(DataError, match=f"{name} is .*cut off"):
        read_table(path)


def test_a_missing_parquet_column_is_named(tmp_path):
    FRAME.to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x.parquet: there is no column 'when'.*time_column= "):
        read_table(tmp_path / "x.parquet", Columns(time="when"))
    FRAME.assign(user=["a", None, "b"]).to_parquet(tmp_path / "y.parquet")
    with pytest.raises(DataError, match=r"y.parquet, row 2, column 'user': the id is missing"):
        read_table(tmp_path / "y.parquet")


def test_any_suffix_is_read_with_a_delimiter(tmp_path):
    path = write(tmp_path / "u.data", "user|item\n1|2\n")
    assert read_table(path, delimiter="|").item.tolist() == [2]


def test_arguments_that_do_not_exist_are_refused(tmp_path):
    path = write(tmp_path / "x.csv", "user,item,time\n1,2,3\n")
    with pytest.raises(ConfigError, match="delimiter='::' is not allowed"):
        read_table(path, delimiter="::")
    with pytest.raises(ConfigError, match="delimiter='' is not allowed"):
        read_table(path, delimiter="")
    with pytest.raises(ConfigError, match="encoding='klingon' is unknown"):
        read_table(path, encoding="klingon")
    with pytest.raises(ConfigError, match="time_unit='h' is not allowed; choose one of 's', 'ms'"):
        read_table(path, Columns(time="time"), time_unit="h")


def test_a_frame_without_rows_or_columns_is_refused():
    with pytest.raises(DataError, match="the frame is empty"):
        from_pandas(pd.DataFrame({"user": [], "item": []}), Columns())
    with pytest.raises(DataError, match="the frame: there is no column 'item'; the columns are 'user'"):
        from_pandas(pd.DataFrame({"user": [1]}), Columns())


ROW = {
    "user": ["a", "b"],
    "item": [7, 5],
    "time": [20, 10],
    "rating": [3.0, 4.0],
    "action": ["view", "buy"],
    "x": [1, 2],
}


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
@pytest.mark.parametrize(
    ("columns", "read", "unread"),
    [
        (Columns(), {"time", "rating"}, ["action", "x"]),
        (Columns(time=""), {"rating"}, ["time", "action", "x"]),
        (Columns(rating=""), {"time", "action"}, ["rating", "x"]),
        (Columns(rating="", action=""), {"time"}, ["rating", "action", "x"]),
        (Columns(action="action"), {"time", "action"}, ["rating", "x"]),
        (Columns(rating="", action="action"), {"time", "action"}, ["rating", "x"]),
        (Columns(rating="x"), {"time", "rating"}, ["rating", "action"]),
        (Columns(rating="time", action=""), {"rating"}, ["rating", "action", "x"]),
        (Columns(time="x"), {"time", "rating"}, ["time", "action"]),
    ],
)
def test_time_rating_and_action_are_found_by_their_names(tmp_path, name, columns, read, unread):
    frame = pd.DataFrame(ROW)
    if name == "x.csv":
        frame.to_csv(tmp_path / name, index=False)
    elif name == "x.jsonl":
        frame.to_json(tmp_path / name, orient="records", lines=True)
    else:
        frame.to_parquet(tmp_path / name)
    for events in (tables.read_table(tmp_path / name, columns), tables.from_pandas(frame, columns)):
        assert set(events.frame.columns) == {"user", "item", *read}
        assert events.unread == unread


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "user,item,time\n1,2,5\n1,3,soon\n", "line 3, column 'time': the time 'soon' is neither .* date"),
        ("x.csv", "user,item,rating\n1,2,good\n", "line 2, column 'rating': the rating 'good' is not a number"),
        ("x.csv", "user,item,action\n1,2,\n", "line 2, column 'action': the value is missing; every row needs one"),
        ("x.csv", "user,item,time\n1,2,1700000000000\n", "look like milliseconds .*; pass time_unit='ms'"),
        (
            "x.jsonl",
            '{"user":1,"item":2,"time":5}\n{"user":1,"item":2,"time":"x"}\n',
            "line 2, field 'time': 'x' is not",
        ),
    ],
)
def test_a_column_that_was_found_and_cannot_be_read_is_said_to_be_optional(tmp_path, name, text, message):
    path = write(tmp_path / name, text)
    (ours,) = {"time", "rating", "action"} & set(re.split(r"\W+", text))
    without = rf"{message}.*\. The column was found by its name; {ours}_column='' \(--{ours}-column ''\) leaves it out$"
    with pytest.raises(DataError, match=without):
        read_table(path)
    with pytest.raises(DataError, match=message) as raised:
        read_table(path, Columns(**{ours: ours}))
    assert "found by its name" not in str(raised.value)
    assert len(read_table(path, Columns(**{ours: ""}))) >= 1


def test_only_the_column_that_was_found_is_said_to_be_optional(tmp_path):
    path = write(tmp_path / "x.csv", "user,item,time\n1,,5\n")
    with pytest.raises(DataError, match=r"column 'item': the id is missing; every row needs one$"):
        read_table(path)
    path = write(tmp_path / "x.csv", "user,item,time\n1,2,good\n")
    with pytest.raises(DataError, match=r"the rating 'good' is not a number$"):
        read_table(path, Columns(rating="time"))


def test_a_column_holds_one_thing():
    with pytest.raises(ConfigError, match="user_column and item_column are both 'item': a column holds one thing"):
        Columns(user="item")
    with pytest.raises(ConfigError, match="rating_column and time_column are both 'x'"):
        Columns(rating="x", time="x")


def test_a_unit_without_times_is_refused(tmp_path):
    path = write(tmp_path / "x.csv", "user,item,when\n1,2,3\n")
    with pytest.raises(ConfigError, match="time_unit='s', but no column of times is read: name one with time_column="):
        read_table(path, time_unit="s")
    with pytest.raises(ConfigError, match="time_unit='ms', but no column of times is read"):
        from_pandas(pd.DataFrame(ROW), Columns(time=""), time_unit="ms")
    assert read_table(path, Columns(time="when"), time_unit="ms").time.tolist() == [0]


def test_json_fields_that_only_later_objects_have_are_columns(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"user": "a", "item": 1}\n{"user": "a", "item": 2, "time": 10}\n')
    with pytest.raises(DataError, match=r"line 1, column 'time': the time is missing"):
        tables.read_table(path)
    path.write_text('{"user": "a", "item": 1, "shop": 1}\n{"user": "a", "item": 2, "shop": "x", "note": 3}\n')
    assert tables.read_table(path).unread == ["shop", "note"]


def test_integers_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"user": 5, "item": 1}\n{"user": 18446744073709551615, "item": 1}\n')
    with pytest.raises(DataError, match=r"line 2, field 'user': 18446744073709551615 is not int64"):
        tables.read_table(path)


@pytest.mark.parametrize("columns", [Columns(), Columns(title="action")])
def test_lists_are_neither_actions_nor_titles(tmp_path, columns):
    path = tmp_path / "events.jsonl"
    path.write_text('{"user": "a", "item": 1, "action": ["view"]}\n')
    with pytest.raises(DataError, match=r"column 'action': list<.*> is neither text nor a number"):
        tables.read_table(path, columns)


def test_lines_after_a_long_cell_are_found(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text(f"user,item,rating\n{'a' * 200_000},1,5\nb,2,x\n")
    with pytest.raises(DataError, match=r"line 3, column 'rating'"):
        tables.read_table(path)
