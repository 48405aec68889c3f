import gzip

import numpy as np
import pandas as pd
import pyarrow.csv
import pytest

from recattn.data import FeatureEncoder, Histories, Vocabulary
from recattn.data.click_tables import read_click_table, write_click_table
from recattn.errors import ConfigError

FILMS = pd.DataFrame(
    {
        "item": range(11),
        "genres": ["War|Drama", "Drama", "", "War", "Drama", "War", "", "Drama|War", "War", "War", ""],
        "year": range(1990, 2001),
    }
)


def split(num_users=5, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 9, num_users)
    encoder = FeatureEncoder.fit(FILMS, without=["item"])
    codes = np.concatenate([np.zeros((1, sum(encoder.widths)), np.int32), encoder.transform(FILMS)])
    histories = Histories(
        rng.integers(1, 12, lengths.sum()).astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]),
        num_items=11,
        features=codes,
        feature_sizes=encoder.sizes,
        feature_widths=encoder.widths,
    )
    users = np.repeat(np.arange(num_users), lengths)
    visible = np.arange(len(users)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return histories, encoder, users, visible, histories.items, (rng.random(len(users)) < 0.5).astype(np.float32)


@pytest.mark.parametrize("max_length", [None, 3])
@pytest.mark.parametrize("name", ["train.csv", "train.csv.gz"])
def test_what_is_written_is_read_again(tmp_path, name, max_length):
    histories, encoder, *samples = split()
    users, visible, items, labels = samples
    user_ids = Vocabulary([f"u,{user}" for user in range(5)])
    item_ids = Vocabulary([50 + item for item in range(11)])
    path = tmp_path / "made" / name
    write_click_table(
        path, histories, *samples, user_ids=user_ids, item_ids=item_ids, encoder=encoder, max_length=max_length
    )
    table = read_click_table(path)
    vocabulary = table.vocabulary
    assert [child.name for child in path.parent.iterdir()] == [name], "nothing else is left"
    assert vocabulary.users.decode(table.users[table.owners]) == user_ids.decode(users + 1)
    assert vocabulary.items.decode(table.candidates) == item_ids.decode(items)
    assert table.labels.tolist() == labels.tolist()
    genres, years = vocabulary.features
    assert (genres.name, years.name) == ("genres_id", "year_id")
    for row, (user, count) in enumerate(zip(users, visible, strict=True)):
        seen = histories.of(user)[:count][-max_length if max_length else None :]
        assert vocabulary.items.decode(table.histories.of(table.owners[row])) == item_ids.decode(seen)
    for number, raw in enumerate(vocabulary.items.index, 1):
        genre, year = vocabulary.codes[number]
        told = FILMS.iloc[raw - 50]
        assert ("", *genres.categories)[genre] == told["genres"]
        assert int(years.categories[year - 1]) == encoder.transform(FILMS)[raw - 50, 2]


def test_the_file_is_plain_text_as_others_write_it(tmp_path):
    histories = Histories(np.array([3, 1, 2], np.int32), np.array([0, 3]), num_items=3)
    path = tmp_path / "x.csv.gz"
    write_click_table(path, histories, np.array([0, 0]), np.array([0, 2]), np.array([1, 2]), np.array([0, 1]))
    assert gzip.decompress(path.read_bytes()).decode() == "label,user_id,item_id,item_history\n0,1,1,\n1,1,2,3^1\n"


def test_blocks_follow_each_other(tmp_path, monkeypatch):
    histories, encoder, *samples = split()
    write_click_table(tmp_path / "whole.csv", histories, *samples, encoder=encoder)
    monkeypatch.setattr("recattn.data.click_tables.write._ROWS", 3)
    write_click_table(tmp_path / "parts.csv", histories, *samples, encoder=encoder)
    assert (tmp_path / "parts.csv").read_text() == (tmp_path / "whole.csv").read_text()


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    histories, _, *samples = split()
    path = tmp_path / "x.csv"
    path.write_text("before")

    class FullDisk(pyarrow.csv.CSVWriter):
        def write_table(self, table):
            raise OSError("disk full")

    monkeypatch.setattr("pyarrow.csv.CSVWriter", FullDisk)
    with pytest.raises(OSError, match="disk full"):
        write_click_table(path, histories, *samples)
    assert path.read_text() == "before"
    assert [child.name for child in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": [0]}, r"one entry a sample, got \(1, 2, 2, 2\)"),
        ({"users": [0, 1]}, "users must be 0 to 0, got 0 to 1"),
        ({"visible": [0, 4]}, "visible must be 0 to the length"),
        ({"items": [0, 1]}, "items must be 1 to 3, got 0 to 1"),
        ({"labels": [0, 0.5]}, "labels must be 0 or 1, got .*0.5"),
        ({"max_length": 0}, "max_length must be an integer >= 1"),
        ({"separator": ","}, "separator must be text without comma, quote or line break, .* got ','"),
        ({"separator": ""}, "separator must be text .* got ''"),
        ({"separator": "^\n"}, "separator must be text .* got "),
        ({"item_ids": Vocabulary(["a", "b"])}, "the vocabulary has 2 ids, the histories 3"),
        ({"item_ids": Vocabulary(["a", "b^c", "d"])}, r"item 'b\^c' holds '\^'"),
        ({"item_ids": Vocabulary(["a", "b ", "d"])}, "item 'b ' holds .*or spaces at an end"),
        ({"encoder": FeatureEncoder.fit(FILMS, without=["item"])}, r"encoder has fields of \(2, 1\) values"),
    ],
)
def test_samples_that_cannot_be_are_refused(tmp_path, change, message):
    histories = Histories(np.array([3, 1, 2], np.int32), np.array([0, 3]), num_items=3)
    given = {"users": [0, 0], "visible": [0, 2], "items": [1, 2], "labels": [0, 1], **change}
    with pytest.raises(ConfigError, match=message):
        write_click_table(
            tmp_path / "x.csv",
            histories,
            **{name: np.array(v) if isinstance(v, list) else v for name, v in given.items()},
        )
    assert not list(tmp_path.iterdir())
