import gzip

import pytest

from recattn.data import Interactions, encode, load_interactions
from recattn.data.sequence_file import SequenceFile
from recattn.errors import ConfigError, DataError


def written(tmp_path, text, name="histories.txt", encoding="utf-8"):
    path = tmp_path / name
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["histories.txt", "histories.txt.gz"])
@pytest.mark.parametrize("text", ["3 50 20\n11 50\n", "3\t50  20\r\n\r\n 11 50", "3 50 20\n\n\n11 50\n\n"])
def test_a_line_is_a_user_and_items_oldest_first(tmp_path, text, name):
    interactions = Interactions.from_table(written(tmp_path, text, name), layout="sequences")
    assert interactions.frame.to_dict("list") == {"user": [3, 3, 11], "item": [50, 20, 50]}
    histories = encode(interactions).histories
    assert [histories.of(user).tolist() for user in range(2)] == [[2, 1], [2]]
    assert histories.times is None


def test_ids_stay_text_where_one_is_no_number(tmp_path):
    interactions = Interactions.from_table(written(tmp_path, "a 007 5\n"), layout="sequences")
    assert interactions.frame.to_dict("list") == {"user": ["a", "a"], "item": ["007", "5"]}


def test_an_item_taken_again_stays(tmp_path):
    interactions = Interactions.from_table(written(tmp_path, "1 5 7 5 5\n"), layout="sequences")
    assert interactions.frame["item"].tolist() == [5, 7, 5, 5]
    assert interactions.summary.repeats == 2


def test_items_are_described_by_a_table_beside(tmp_path):
    (tmp_path / "items.csv").write_text("item,title,genre\n5,Five,x\n")
    path = written(tmp_path, "1 5 7\n")
    interactions = load_interactions(path, layout="sequences", item_table=tmp_path / "items.csv")
    assert interactions.items["title"].tolist() == ["Five", "7"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1 5\n\n2\n3 4\n", r"histories.txt, line 3: a user without an item"),
        ("1 5\n\n2 7\n1 4\n", r"histories.txt, line 4: user '1' has a line already"),
        ("", "histories.txt is empty"),
        ("\n \n", "histories.txt is empty"),
    ],
)
def test_what_is_no_history_is_named_by_its_line(tmp_path, text, problem):
    with pytest.raises(DataError, match=problem):
        Interactions.from_table(written(tmp_path, text), layout="sequences")


def test_the_place_of_an_event_is_the_line_of_its_user(tmp_path):
    file = SequenceFile(written(tmp_path, "1 5 6\n\n2 7\n3 8 9\n"))
    assert [file.where(row).rsplit(" ", 1)[1] for row in range(5)] == ["1", "1", "3", "4", "4"]


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        Interactions.from_table(tmp_path / "none.txt", layout="sequences")
    with pytest.raises(DataError, match="line 2: byte 0xe9 is not utf-8"):
        Interactions.from_table(written(tmp_path, "1 5\né 6\n", encoding="latin-1"), layout="sequences")
    with pytest.raises(ConfigError, match="encoding='utf-9' does not exist"):
        Interactions.from_table(written(tmp_path, "1 5\n"), layout="sequences", encoding="utf-9")
    whole = gzip.compress(b"1 5 6\n" * 1000)
    (tmp_path / "cut.txt.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut.txt.gz is damaged or was cut off"):
        Interactions.from_table(tmp_path / "cut.txt.gz", layout="sequences")


def test_columns_are_refused(tmp_path):
    path = written(tmp_path, "1 5\n")
    with pytest.raises(ConfigError, match="leave out what names them"):
        Interactions.from_table(path, layout="sequences", time_column="when")
    with pytest.raises(ConfigError, match="leave out what names them"):
        Interactions.from_table(path, layout="sequences", delimiter=",")
    with pytest.raises(ConfigError, match="layout='lines' is not allowed; choose 'events' or 'sequences'"):
        Interactions.from_table(path, layout="lines")
    with pytest.raises(ConfigError, match="has its own columns"):
        load_interactions("ml-100k", layout="sequences")


def test_a_byte_order_mark_is_no_part_of_the_first_user(tmp_path):
    path = tmp_path / "histories.txt"
    path.write_bytes(b"\xef\xbb\xbf1 5 7\n2 9\n")
    assert SequenceFile(path).read().to_pydict()["user"] == ["1", "1", "2"]
