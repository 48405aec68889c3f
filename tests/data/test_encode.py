from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from recattn.data.encode import encode
from recattn.data.interactions import Interactions
from recattn.data.load import load_interactions
from recattn.errors import ConfigError

TIMED = {"time_column": "time", "rating_column": "rating"}


def events(count=997, users=11, items=31, seconds=53, seed=7):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "user": rng.integers(1, users + 1, count) * 3,
            "item": rng.integers(1, items + 1, count) * 5,
            "time": rng.integers(0, seconds, count),
            "rating": np.arange(count, dtype=np.float32),  # names the row
        }
    )


def test_events_are_sorted_by_user_time_and_row():
    frame = events()
    encoded = encode(Interactions.from_frame(frame, **TIMED, duplicates="keep"))
    h = encoded.histories
    expected = sorted(zip(frame.user, frame.time, frame.rating, frame.item, strict=True), key=lambda row: row[:3])
    owners = np.repeat(encoded.users.decode(np.arange(h.num_users) + 1), h.lengths)
    found = zip(owners, h.times, h.ratings, encoded.items.decode(h.items), strict=True)
    assert [tuple(row) for row in found] == expected
    assert [array.dtype for array in (h.items, h.offsets, h.times, h.ratings)] == [
        np.int32, np.int64, np.int64, np.float32,
    ]  # fmt: skip
    assert h.num_items == len(encoded.items)
    assert h.items.min() == 1


@pytest.mark.parametrize("ties", ["file", "random"])
def test_times_too_far_apart_for_one_number_are_sorted_alike(ties):
    near = Interactions.from_frame(events(), **TIMED, duplicates="keep")
    far = replace(near, frame=near.frame.assign(time=near.frame.time * 10**17))
    assert np.array_equal(encode(far, ties=ties).histories.ratings, encode(near, ties=ties).histories.ratings)


def test_random_ties_depend_on_the_seed_and_move_ties_only():
    data = Interactions.from_frame(events(), **TIMED, duplicates="keep")
    file, one, same, two = (
        encode(data, ties=ties, seed=seed).histories
        for ties, seed in (("file", 0), ("random", 3), ("random", 3), ("random", 5))
    )
    assert np.array_equal(one.ratings, same.ratings)
    assert not np.array_equal(one.ratings, two.ratings)
    for h in (one, two):
        assert np.array_equal(h.times, file.times)
        assert np.array_equal(h.offsets, file.offsets)
        owners = np.repeat(np.arange(h.num_users), h.lengths)
        assert Counter(zip(owners, h.times, h.ratings, strict=True)) == Counter(
            zip(owners, file.times, file.ratings, strict=True)
        )
    with pytest.raises(ConfigError, match="ties='item' is not allowed; choose 'file' or 'random'"):
        encode(data, ties="item")


def test_without_times_the_order_is_that_of_the_file():
    frame = pd.DataFrame({"user": ["b", "a", "b", "b"], "item": ["z", "y", "x", "z"]})
    encoded = encode(Interactions.from_frame(frame))
    assert encoded.histories.times is None
    assert encoded.histories.ratings is None
    assert encoded.items.decode(encoded.histories.of(1)) == ["z", "x", "z"]
    assert encoded.histories.profile is None


def test_real_ml_100k_is_encoded(shared_data, tmp_path):
    encoded = encode(load_interactions("ml-100k", source=shared_data("ml-100k"), data_dir=tmp_path))
    assert encoded.histories.num_users == 943
    assert encoded.histories.num_items == 1682
    assert encoded.histories.lengths.min() == 20
    assert encoded.items.title(1) == "Toy Story (1995)"
