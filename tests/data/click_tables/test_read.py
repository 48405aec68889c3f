import gzip
import json
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recattn.data import table_files
from recattn.data.click_tables import ClickColumns, ClickVocabulary, read_click_table
from recattn.errors import ConfigError, DataError

HEAD = ["label", "user_id", "item_id", "cate_id", "item_history", "cate_history"]


def told(table):
    """Each row in raw ids: (label, user, item, its category, hour's code, history, its categories)."""
    found, vocabulary = [], table.vocabulary
    categories = ("", *vocabulary.features[0].categories)
    codes = table.histories.features[:, 0]
    for row in range(len(table)):
        owner = int(table.owners[row])
        seen = table.histories.of(owner)
        item = int(table.candidates[row])
        found.append(
            [
                int(table.labels[row]),
                vocabulary.users.decode([table.users[owner]])[0],
                vocabulary.items.decode([item])[0],
                categories[codes[item]],
                vocabulary.items.decode(seen),
                [categories[code] for code in codes[seen]],
            ]
        )
    return found


def expected(rows):
    return [
        [
            int(row[0]),
            row[1],
            int(row[2]),
            row[3],
            [int(x) for x in row[5].split("^") if x],
            list(filter(None, row[6].split("^"))),
        ]
        for row in rows
    ]


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "text.parquet", "lists.parquet", "lists.jsonl"])
def test_every_format_gives_the_rows_of_the_file(rows, write, tmp_path, name):
    path = write(rows)
    frame = pd.read_csv(path, dtype="str", keep_default_na=False)
    if name.endswith("gz"):
        path = tmp_path / name
        path.write_bytes(gzip.compress((tmp_path / "train.csv").read_bytes()))
    elif name == "text.parquet":
        path = tmp_path / name
        frame.astype({"label": "int8", "item_id": "int64"}).to_parquet(path)
    elif name.startswith("lists"):
        path = tmp_path / name
        columns = {column: pa.array(frame[column].tolist()) for column in frame}
        seen = [[int(item) for item in text.split("^") if item] for text in frame["item_history"]]
        columns["label"] = pa.array(frame["label"].astype(float))
        columns["item_history"] = pa.array(seen, pa.list_(pa.int32()))
        columns["cate_history"] = pa.array([list(filter(None, t.split("^"))) for t in frame["cate_history"]])
        if name == "lists.parquet":
            pq.write_table(pa.table(columns), path, row_group_size=7)
        else:
            pa.table(columns).to_pandas().to_json(path, orient="records", lines=True)
    table = read_click_table(path)
    assert told(table) == expected(rows)
    assert len(table.users) * 2 == len(table), "the two candidates of a pair share their history"
    assert table.vocabulary.context.names == ("hour",)
    hours = pd.Series([int(row[4]) for row in rows])
    assert pd.Series(table.context[:, 0]).groupby(hours).nunique().max() == 1
    assert table.context[:, 0].min() >= 1
    assert [str(array.dtype) for array in (table.labels, table.candidates, table.owners)] == [
        "float32",
        "int32",
        "int32",
    ]
    assert table.histories.items.dtype == "int32"


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_blocks_of_any_size_give_the_same_table(rows, write, monkeypatch, size):
    path = write(rows)
    whole = read_click_table(path)

    def blocks(file, wanted):
        table = file.read(wanted)
        yield table.slice(0, 0)
        for start in range(0, len(table), size):
            yield table.slice(start, size)

    monkeypatch.setattr(table_files._TextFile, "blocks", blocks)
    cut = read_click_table(path)
    assert told(cut) == told(whole)
    assert cut.owners.tolist() == whole.owners.tolist()
    assert cut.context.tolist() == whole.context.tolist()
    with pytest.raises(DataError, match=r"train.csv, line 6, column 'label'"):
        read_click_table(write([*rows[:4], ["2", *rows[4][1:]]]))


def test_files_follow_each_other(rows, write):
    parts = write(rows[:11], "a.csv"), write(rows[11:], "b.csv")
    assert told(read_click_table(*parts)) == expected(rows)
    with pytest.raises(DataError, match=r"b.csv, line 3, column 'label': the label 'x' is not 0 or 1"):
        read_click_table(parts[0], write([rows[0], ["x", *rows[1][1:]]], "b.csv"))


def test_numbers_do_not_depend_on_the_order_of_the_rows(rows, write):
    forward, backward = read_click_table(write(rows)), read_click_table(write(rows[::-1]))
    assert told(backward) == told(forward)[::-1]
    assert backward.candidates.tolist() == forward.candidates.tolist()[::-1]
    assert backward.vocabulary.items == forward.vocabulary.items
    assert backward.vocabulary.codes.tolist() == forward.vocabulary.codes.tolist()


def test_only_the_training_file_is_learnt_from(write):
    train = read_click_table(write([["1", "u", "30", "c", "10^20", "a^b"], ["0", "v", "20", "b", "", ""]], head=HEAD))
    rows = [
        ["1", "v", "31", "c", "20^99^30", "b^z^c"],
        ["0", "new", "30", "", "99", "z"],
        ["0", "u", "10", "a", "98^98", "a^"],
        ["0", "newer", "30", "", "99", "z"],
        ["0", "new", "97", "", "99", "z"],
    ]
    test = read_click_table(write(rows, "test.csv", HEAD), fitted=train.vocabulary)
    assert test.vocabulary is train.vocabulary
    assert train.vocabulary.items.index.tolist() == [10, 20, 30]
    assert (train.vocabulary.num_items, test.histories.num_items) == (7, 7)
    assert train.vocabulary.met.tolist() == [True] * 4 + [False] * 4
    assert test.histories.features.ravel().tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert test.candidates.tolist() == [7, 3, 1, 3, 4], "31 is a new item of category c, of 97 nothing is known"
    assert [test.histories.of(h).tolist() for h in range(4)] == [[2, 4, 3], [4], [5, 4], [4]], (
        "new ones keep their place"
    )
    assert test.users.tolist() == [2, 3, 1, 4], "new users are told from each other"
    assert test.of_users.tolist() == [2, 3, 1, 4, 3]
    assert test.unknown == {"users of histories": 3, "candidates": 2, "events of histories": 6}
    assert "2 candidates unknown from training" in str(test)
    assert train.unknown == {"users of histories": 0, "candidates": 0, "events of histories": 0}


def test_context_is_coded_as_the_training_file_says(write):
    head = ["label", "user_id", "item_id", "item_history", "price", "shop"]
    rows = [["0", "u", "7", "", str(price), "ab"[price % 2]] for price in range(20)]
    train = read_click_table(write(rows, head=head))
    assert train.histories.features is None
    assert train.vocabulary.context.sizes == (9, 3)
    test = read_click_table(
        write([["0", "u", "7", "", "99", "b"], ["0", "u", "7", "", "", "c"]], "test.csv", head), fitted=train.vocabulary
    )
    assert test.context.tolist() == [[8, 2], [0, 0]]
    with pytest.raises(DataError, match=r"x.csv, line 1: features \[\] and context \['price'\], but the first file"):
        read_click_table(write([row[:5] for row in rows], "x.csv", head[:5]), fitted=train.vocabulary)


def test_a_missing_value_is_unknown_and_no_conflict(write):
    rows = [["1", "u", "7", "", "", ""], ["1", "u", "5", "", "7", ""], ["0", "u", "5", "a", "7^5^7", "b^^"]]
    table = read_click_table(write(rows, head=HEAD))
    assert table.histories.lengths.tolist() == [0, 1, 3]
    assert table.vocabulary.codes.ravel().tolist() == [0, 1, 2, 0, 1, 2]


FIRST = ["1", "u", "7", "a", "5^7", "b^a"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["2", "u", "7", "a", "", ""], "line 3, column 'label': the label '2' is not 0 or 1"),
        (["", "u", "7", "a", "", ""], "line 3, column 'label': the label '' is not 0 or 1"),
        (["1", "", "7", "a", "", ""], "line 3, column 'user_id' is empty"),
        (["1", "u", " ", "a", "", ""], "line 3, column 'item_id' is empty"),
        (["1", "u", "7", "a", "5^^7", "b^a^a"], "line 3, column 'item_history': an event of the history is empty"),
        (["1", "u", "7", "a", "5^7", "b"], "line 3: 'cate_history' lists 1 values, but 'item_history' has 2 events"),
        (["1", "u", "7", "a", "5", "b^a"], "line 3: 'cate_history' lists 2 values, but 'item_history' has 1 events"),
        (["1", "u", "7", "a", "", "a"], "line 3: 'cate_history' lists 1 values, but 'item_history' has 0 events"),
        (["1", "u", "7", "a", "5^7", ""], "line 3: 'cate_history' lists 0 values, but 'item_history' has 2 events"),
        (
            ["1", "u", "7", "c", "", ""],
            "line 3: the item '7' has cate_id='a' elsewhere and 'c' here.*context=.'cate_id'",
        ),
        (["1", "u", "9", "a", "9^5", "a^c"], "line 3: the item '5' has cate_id='b' elsewhere and 'c' here"),
        (["1", "u", "9", "a", "9", "b"], "line 3: the item '9' has cate_id='a' elsewhere and 'b' here"),
        (["1", "u", "7"], "line 3: 3 fields split at ',', not 6"),
    ],
)
def test_rows_that_cannot_be_are_named(write, row, message):
    with pytest.raises(DataError, match=r"train.csv, " + message):
        read_click_table(write([FIRST, row], head=HEAD))


def test_a_feature_that_changes_between_training_and_test_is_named(write):
    train = read_click_table(write([FIRST], head=HEAD))
    for row, message in (
        (["1", "u", "7", "b", "", ""], "'7' has cate_id='a' elsewhere and 'b' here"),
        (
            ["1", "u", "99", "b", "5", "z"],
            "'5' has cate_id='b' elsewhere and another, which the training file does not",
        ),
    ):
        with pytest.raises(DataError, match=rf"test.csv, line 2: the item {message}"):
            read_click_table(write([row], "test.csv", HEAD), fitted=train.vocabulary)


def test_what_is_no_function_of_the_item_may_be_context(write):
    rows = [["1", "u", "7", "a", "5", "b"], ["0", "u", "7", "c", "5", "c"]]
    columns = ClickColumns(features={}, context=["cate_id"], ignored=["cate_history"])
    table = read_click_table(write(rows, head=HEAD), columns=columns)
    assert table.histories.features is None
    assert table.context.tolist() == [[1], [2]]
    assert table.vocabulary.features == ()


def test_columns_of_any_name(write):
    head = ["clk", "uid", "aid", "brand", "aids", "brands"]
    columns = ClickColumns("clk", "uid", "aid", "aids", {"brand": "brands"}, separator="|")
    table = read_click_table(write([["1", "u", "7", "x", "5|7", "y|x"]], head=head), columns=columns)
    assert table.histories.items.tolist() == [1, 2]
    assert table.histories.features.ravel().tolist() == [0, 2, 1, 0, 1, 2]


@pytest.mark.parametrize(
    ("head", "columns", "message"),
    [
        ("label,user_id,item_id", None, "line 1: there is no column 'item_history', which history names; the columns"),
        ("label,user_id,item_id,item_history,label", None, "line 1: more than one column is called 'label'"),
        ("label,user_id,item_id,item_history,x_history", None, "'x_history' belongs to no column: .*'x_id' nor 'x'"),
        ("label,user_id,item_id,item_history", ClickColumns(context=["hour"]), r"no column 'hour', which context\[0\]"),
        ("label,user_id,item_id,item_history", ClickColumns(ignored=["x"]), r"no column 'x', which ignored\[0\]"),
        ("label,user_id,item_id,item_history", ClickColumns(context=["label"]), "'label' is named for two roles"),
        ("label,user_id,item_id,item_history", ClickColumns(features={"x": "xs"}), "no column 'xs', which features"),
        ("label,user_id,item_id,item_history", None, "is empty: it names columns, but has no rows"),
    ],
)
def test_columns_that_cannot_be_are_named(write, head, columns, message):
    with pytest.raises(DataError, match="train.csv.*" + message):
        read_click_table(write([], head=head.split(",")), columns=columns)


@pytest.mark.parametrize("separator", [" ", ",", "|", ";"])
def test_lists_that_are_divided_by_something_else_are_told(tmp_path, separator):
    path = tmp_path / "train.csv"
    rows = [{"label": 1, "user_id": n, "item_id": n, "item_history": separator.join("123"[: n % 4])} for n in range(9)]
    pd.DataFrame(rows).to_csv(path, index=False)
    with pytest.raises(DataError, match=f"between its events, but most have a .{re.escape(separator)}.: name it with"):
        read_click_table(path)
    assert read_click_table(path, columns=ClickColumns(separator=separator)).histories.lengths.max() == 3


def test_single_events_whose_ids_have_spaces_are_no_lists(tmp_path):
    path = tmp_path / "train.csv"
    rows = [{"label": 1, "user_id": n, "item_id": f"No {n}", "item_history": f"No {n + 5}"} for n in range(9)]
    pd.DataFrame(rows).to_csv(path, index=False)
    assert read_click_table(path).histories.lengths.tolist() == [1] * 9


def test_arguments_that_cannot_be_are_refused(write):
    with pytest.raises(ConfigError, match="name at least one file"):
        read_click_table()
    train = read_click_table(write([FIRST], head=HEAD))
    with pytest.raises(ConfigError, match="columns and fitted"):
        read_click_table(Path("x.csv"), columns=ClickColumns(), fitted=train.vocabulary)


def test_the_order_of_the_columns_is_free(rows, write):
    train = read_click_table(write(rows))
    order = [5, 3, 0, 6, 4, 2, 1]
    head = ["label", "user_id", "item_id", "cate_id", "hour", "item_history", "cate_history"]
    shuffled = write([[row[place] for place in order] for row in rows], "test.csv", [head[place] for place in order])
    assert told(read_click_table(shuffled, fitted=train.vocabulary)) == told(train)


def test_two_features_in_another_order_keep_their_values(write):
    head = ["label", "user_id", "item_id", "a_id", "b_id", "item_history", "a_history", "b_history"]
    train = read_click_table(write([["1", "u", "7", "x", "y", "5", "p", "q"]], head=head))
    assert train.vocabulary.codes.tolist() == [[0, 0], [1, 1], [2, 2], [0, 0], [1, 1], [2, 2]]
    order = [0, 1, 2, 4, 3, 5, 7, 6]
    path = write([["1", "u", "7", "y", "x", "5", "q", "p"]], "test.csv", [head[place] for place in order])
    assert read_click_table(path, fitted=train.vocabulary).candidates.tolist() == [2]


def test_new_items_are_known_by_all_their_features_together(write):
    head = ["label", "user_id", "item_id", "a_id", "b_id", "item_history", "a_history", "b_history"]
    train = read_click_table(write([["1", "u", "7", "x", "y", "5^3", "p^x", "q^q"]], head=head))
    rows = [["1", "u", "8", *features, "", "", ""] for features in ("xq", "pq", "xy", "py", ("x", ""), "x?")]
    test = read_click_table(write(rows, "test.csv", head), fitted=train.vocabulary)
    codes = test.histories.features[test.candidates]
    assert codes.tolist() == [[2, 1], [1, 1], [2, 2], [0, 0], [0, 0], [0, 0]], "no item had the last three together"
    assert (test.candidates > len(train.vocabulary.items)).all()


def test_plain_data_gives_the_vocabulary_back(rows, write):
    train = read_click_table(write(rows))
    old = train.vocabulary
    data = json.loads(json.dumps(old.to_dict()))
    known = old.codes[: len(old.items) + 1]
    again = ClickVocabulary.from_dict(data, old.users, old.items, old.features, known)
    test = write([["1", "new", "999", "c3", "7", "999^100", "c3^c0"], *rows], "test.csv")
    one, other = (read_click_table(test, fitted=vocabulary) for vocabulary in (old, again))
    assert one.hash == other.hash
    assert one.hash != train.hash


def test_lists_with_gaps(tmp_path):
    def table(history, categories, labels=(1, 0)):
        names = {"label": list(labels), "user_id": ["u"] * 2, "item_id": [7, 7], "cate_id": ["a"] * 2}
        pq.write_table(pa.table({**names, "item_history": history, "cate_history": categories}), tmp_path / "x.parquet")
        return read_click_table(tmp_path / "x.parquet")

    found = table([[5, 7], None], [[None, "a"], []])
    assert (found.histories.lengths.tolist(), found.histories.features.ravel().tolist()) == ([2, 0], [0, 0, 1, 0, 1])
    with pytest.raises(DataError, match=r"x.parquet, row 2, column 'item_history': an event of the history is empty"):
        table([[5, 7], [5, None]], [["b", "a"], ["b", "a"]])
    with pytest.raises(DataError, match=r"x.parquet, row 2, column 'cate_history': 'b\^c' holds '\^'"):
        table([[5, 7], [5]], [["b", "a"], ["b^c"]])


def test_members_of_lists_are_trimmed(tmp_path):
    path = tmp_path / "clicks.csv"
    path.write_text('label,user_id,item_id,item_history\n1,1,30,"10, 20, 30"\n0,1,20,"10, 20, 30"\n')
    table = read_click_table(path, columns=ClickColumns(separator=","))
    assert table.vocabulary.items.decode(table.histories.of(0)) == [10, 20, 30]
    path.write_text('label,user_id,item_id,item_history\n1,1,30,"10, ,30"\n')
    with pytest.raises(DataError, match="an event of the history is empty"):
        read_click_table(path, columns=ClickColumns(separator=","))


def test_a_struct_is_no_context(tmp_path):
    path = tmp_path / "clicks.parquet"
    row = {"label": 1, "user_id": 1, "item_id": 3, "item_history": "4^5", "device": {"os": "x"}}
    pq.write_table(pa.Table.from_pylist([row]), path)
    with pytest.raises(DataError, match=r"column 'device': struct<.*> is neither text nor a number"):
        read_click_table(path)
