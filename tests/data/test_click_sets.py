from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recattn.data import click_sets
from recattn.data.click_samples import label_by_rating, label_by_sampling
from recattn.data.click_sets import make_clicks, read_clicks, write_clicks
from recattn.data.histories import Histories
from recattn.data.split import events_between
from recattn.data.splits import global_time, leave_last, leave_one_out
from recattn.errors import ConfigError, DataError

PARTS = ("train", "validation", "test")


@pytest.fixture
def split():
    rng = np.random.default_rng(3)
    lengths = np.array([31, 2, 11, 53])
    total = int(lengths.sum())
    return leave_last(
        Histories(
            rng.integers(1, 38, total).astype(np.int32),
            np.concatenate([[0], np.cumsum(lengths)]),
            num_items=41,
            times=np.arange(total),
            ratings=rng.integers(1, 6, total).astype(np.float32),
        )
    )


def test_parts_are_the_splits(split):
    clicks = make_clicks(split)
    train = events_between(np.ones(4, np.int64), split.train_lengths)
    assert clicks.train.hash == label_by_rating(split.histories, train).hash
    assert clicks.validation.hash == label_by_rating(split.histories, split.validation).hash
    assert clicks.test.hash == label_by_rating(split.histories, split.test).hash
    assert clicks.labels == "rating >= 4"
    assert clicks.split_hash == split.hash


def test_no_sample_to_train_on_lies_at_or_after_one_that_validates_or_tests(split):
    clicks = make_clicks(split, negatives=2)
    for user in np.unique(clicks.test.users):
        last = [getattr(clicks, part).visible[getattr(clicks, part).users == user] for part in PARTS]
        assert last[0].max() < last[1].min() <= last[1].max() < last[2].min()


def test_without_ratings_or_on_request_negatives_are_sampled(split):
    bare = replace(split, histories=replace(split.histories, ratings=None))
    clicks = make_clicks(bare)
    assert clicks.labels == "each event against 1 sampled not taken by then, seed 0"
    assert all(getattr(clicks, part).labels.mean() == 0.5 for part in PARTS)
    asked = make_clicks(split, negatives=3, seed=7)
    assert asked.labels == "each event against 3 sampled not taken by then, seed 7"
    assert asked.test.labels.mean() == 0.25


def test_negatives_to_train_on_do_not_know_what_is_taken_later():
    """All of the catalogue but the last event is taken in training: that event alone is left as a negative there."""
    split = leave_one_out(Histories(np.array([2, 3, 5, 1, 4], np.int32), np.array([0, 5]), num_items=6))
    clicks = make_clicks(split, negatives=50)
    drawn = [set(getattr(clicks, part).items[~getattr(clicks, part).labels].tolist()) for part in PARTS]
    assert drawn == [{1, 4, 6}, {4, 6}, {6}]


def test_negatives_that_validate_do_not_know_the_test_window():
    """Of the window only the last event is a target; the one before it is no less unknown at the time."""
    histories = Histories(np.array([2, 3, 5, 1, 4], np.int32), np.array([0, 5]), num_items=6, times=np.arange(5))
    clicks = make_clicks(global_time(histories, validation_time=2, test_time=3, target="last"), negatives=50)
    assert set(clicks.validation.items[~clicks.validation.labels].tolist()) == {1, 4, 6}


def test_parts_draw_negatives_of_their_own(split):
    clicks = make_clicks(split, negatives=5)
    assert clicks.train.hash == label_by_sampling(split.train, train_targets(split), negatives=5, seed=0).hash
    assert clicks.test.hash == label_by_sampling(split.histories, split.test, negatives=5, seed=2).hash
    assert make_clicks(split, negatives=5, seed=1).test.hash != clicks.test.hash
    with pytest.raises(ConfigError, match="seed must be an integer >= 0, got -3"):
        make_clicks(split, negatives=5, seed=-3)


def train_targets(split):
    return events_between(np.minimum(1, split.train_lengths), split.train_lengths)


@pytest.mark.parametrize("options", [{}, {"negatives": 2, "seed": 5}, {"threshold": 3.0}])
@pytest.mark.parametrize("timed", [True, False])
def test_a_file_gives_back_what_was_written(split, tmp_path, options, timed):
    split = split if timed else replace(split, histories=replace(split.histories, times=None))
    clicks = make_clicks(split, **options)
    write_clicks(tmp_path / "clicks.parquet", clicks)
    for place in (tmp_path, tmp_path / "clicks.parquet"):
        found = read_clicks(place, split.hash)
        assert (found.labels, found.split_hash, found.hashes) == (clicks.labels, clicks.split_hash, clicks.hashes)
    assert [path.name for path in tmp_path.iterdir()] == ["clicks.parquet"]
    names = pq.read_table(tmp_path / "clicks.parquet").column_names
    assert names == ["part", "user", "visible", "item", "label", *["time"] * timed]


def test_samples_of_another_split_are_refused(split, tmp_path):
    write_clicks(tmp_path / "clicks.parquet", make_clicks(split))
    with pytest.raises(DataError, match=r"clicks\.parquet: its samples belong to the split"):
        read_clicks(tmp_path, leave_one_out(split.histories).hash)


def test_files_that_are_no_samples_are_named(split, tmp_path):
    with pytest.raises(DataError, match=r"clicks\.parquet: cannot be read as samples"):
        read_clicks(tmp_path, "x")
    (tmp_path / "text").write_text("user,item")
    with pytest.raises(DataError, match="text: cannot be read as samples"):
        read_clicks(tmp_path / "text", "x")
    write_clicks(tmp_path / "good", make_clicks(split))
    table = pq.read_table(tmp_path / "good")
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "bare")
    pq.write_table(table.drop_columns("item"), tmp_path / "short")
    for name in ("bare", "short"):
        with pytest.raises(DataError, match=f"{name}: cannot be read as samples"):
            read_clicks(tmp_path / name, "x")


def test_an_interrupted_write_leaves_the_old_file(split, tmp_path, monkeypatch):
    path = tmp_path / "clicks.parquet"
    write_clicks(path, make_clicks(split))
    before = path.read_bytes()

    def full(_table, name):
        Path(name).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(click_sets.pq, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        write_clicks(path, make_clicks(split, negatives=1))
    assert [file.name for file in tmp_path.iterdir()] == ["clicks.parquet"]
    assert path.read_bytes() == before


def test_what_is_printed(split):
    (line,) = make_clicks(split, negatives=1).lines()
    assert line.startswith("samples: 150 to train on, 18 to validate, 18 to test; 50.0% of those to train on are")


def test_contradictions_and_emptiness_are_refused(split):
    with pytest.raises(ConfigError, match=r"threshold=4\.0 and negatives=1: labels come from"):
        make_clicks(split, threshold=4.0, negatives=1)
    bare = replace(split, histories=replace(split.histories, ratings=None))
    with pytest.raises(ConfigError, match="no ratings"):
        make_clicks(bare, threshold=3.0)
    short = leave_one_out(Histories(np.array([1, 2, 3], np.int32), np.array([0, 3]), num_items=5))
    with pytest.raises(DataError, match="'leave_one_out' has no event to train on that another one precedes"):
        make_clicks(short)
