import numpy as np
import pandas as pd
import pytest

from recattn.data.vocabulary import Vocabulary
from recattn.errors import ConfigError, DataError, UnknownIdError


@pytest.mark.parametrize("ids", [[30, 4, 100], ["b", "a", "Z", "10", "9"]])
def test_decode_undoes_encode(ids):
    vocabulary = Vocabulary.build(ids * 3)
    numbers = vocabulary.encode(ids)
    assert numbers.dtype == np.int32
    assert sorted(numbers.tolist()) == list(range(1, len(ids) + 1))
    assert vocabulary.decode(numbers) == ids
    assert {type(raw) for raw in vocabulary.decode(numbers)} == {type(ids[0])}


def test_numbers_do_not_depend_on_the_order_of_the_rows():
    assert Vocabulary.build([30, 4, 100]).decode([1, 2, 3]) == [4, 30, 100]
    assert Vocabulary.build(["9", "10", "b"]).decode([1, 2, 3]) == ["10", "9", "b"]
    assert Vocabulary.build([5, 3, 5]) == Vocabulary.build(np.array([3, 5], np.int32))


@pytest.mark.parametrize("ids", [[7, 7, 8], pd.Series(["a", "b"], index=[5, 3]), np.array(["a", "b"]), []])
def test_a_frame_keeps_it_whole(ids):
    old = Vocabulary.build(ids)
    assert Vocabulary.from_frame(old.to_frame()) == old
    titled = Vocabulary(old.decode(range(1, len(old) + 1)), [f"title {n}" for n in range(len(old))])
    assert Vocabulary.from_frame(titled.to_frame()) == titled
    assert (titled == old) == (len(old) == 0)
    assert old != "something else"


def test_it_survives_parquet(tmp_path):
    for ids in ([5, 3], ["5", "x"]):
        old = Vocabulary(ids, ["Five", "Three"])
        old.to_frame().to_parquet(tmp_path / "v.parquet")
        new = Vocabulary.from_frame(pd.read_parquet(tmp_path / "v.parquet"))
        assert new == old
        assert new.decode([1, 2]) == ids


def test_titles_fall_back_to_ids():
    assert Vocabulary.build([5, 3]).title(2) == "5"
    assert Vocabulary.build([5, 3], {5: "Five"}).title(2) == "Five"
    assert Vocabulary.build([5, 3], {5: "Five"}).title(1) == "3"


def test_unknown_ids_are_zero_on_request_and_an_error_otherwise():
    numbers = Vocabulary.build([196, 242])
    assert numbers.encode([242, 5, 196], unknown="zero").tolist() == [2, 0, 1]
    with pytest.raises(UnknownIdError, match=r"unknown id 5, 6, 7 and 1 more: the 2 known ids are .* 196 to 242$"):
        numbers.encode([5, 6, 7, 8, 5, 196])
    with pytest.raises(UnknownIdError, match=r"unknown id '196': .*, not text"):
        numbers.encode(["196"])
    with pytest.raises(UnknownIdError, match="unknown id 'matrx': close to it are 'matrix'"):
        Vocabulary.build(["matrix", "alien"]).encode(["matrx"])
    with pytest.raises(UnknownIdError, match="unknown id 7: the 2 known ids are text, such as 'alien', 'matrix'"):
        Vocabulary.build(["matrix", "alien"]).encode([7])
    with pytest.raises(UnknownIdError, match="the vocabulary is empty"):
        Vocabulary.build([]).encode([7])
    with pytest.raises(ConfigError, match="unknown='skip' is not allowed"):
        numbers.encode([196], unknown="skip")


def test_typed_text_finds_its_id():
    assert Vocabulary.build([196, 242]).parse(" 196 ") == 196
    assert Vocabulary.build(["196", "x"]).parse("196") == "196"
    with pytest.raises(UnknownIdError, match="unknown id 'abc'"):
        Vocabulary.build([196]).parse("abc")
    with pytest.raises(UnknownIdError, match="unknown id 197"):
        Vocabulary.build([196]).parse("197")
    with pytest.raises(UnknownIdError, match="unknown id 'alein': close to it are 'alien'"):
        Vocabulary.build(["alien"]).parse("alein")


@pytest.mark.parametrize("number", [0, -1, 3])
def test_numbers_outside_are_refused(number):
    with pytest.raises(UnknownIdError, match=f"{number} is no item or user number; they run from 1 to 2"):
        Vocabulary.build([5, 7]).decode([1, number])


def test_encoding_nothing_gives_nothing():
    assert Vocabulary.build([5, 7]).encode([]).tolist() == []
    assert Vocabulary.build(["a"]).encode([]).tolist() == []
    assert Vocabulary.build(["a"]).decode([]) == []


def test_membership_is_by_raw_id():
    vocabulary = Vocabulary.build([1, 5])
    assert 5 in vocabulary
    assert "5" not in vocabulary
    assert True not in vocabulary
    assert len(vocabulary) == 2
    assert repr(vocabulary) == "Vocabulary of 2 whole numbers"


@pytest.mark.parametrize(
    ("ids", "titles", "message"),
    [
        ([5, 5], None, "the id 5 occurs twice"),
        ([1.5, 2.0], None, "all whole numbers or all text .* they are float64"),
        ([1, "a"], None, "all whole numbers or all text"),
        (["a", None], None, "all whole numbers or all text"),
        ([5, 7], ["one"], "2 ids, but 1 titles"),
    ],
)
def test_what_cannot_be_a_vocabulary(ids, titles, message):
    with pytest.raises(DataError, match=message):
        Vocabulary(ids, titles)


def test_a_frame_without_ids_is_refused():
    with pytest.raises(DataError, match="has a column 'id'; there are"):
        Vocabulary.from_frame(pd.DataFrame({"x": [1]}))


def test_text_of_any_64_bit_integer_is_read():
    large = Vocabulary([1234567890123456789, 2**63 - 1])
    assert large.read(["1234567890123456789", str(2**63)]) == [1234567890123456789, str(2**63)]
