import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from recattn.data.encode import encode
from recattn.data.interactions import Interactions
from recattn.data.load import load_interactions
from recattn.data.profile import ProfileEncoder
from recattn.errors import ArtefactError, ConfigError

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
    assert encoded.profile_encoder is None
    assert encoded.histories.profile_sizes == ()


def test_profiles_follow_the_users(tmp_path):
    (tmp_path / "ratings.dat").write_text("20::7::5::9\n3::5::3::8\n100::5::1::7\n")
    (tmp_path / "users.dat").write_text("100::F::25::3::x\n3::M::35::5::x\n")
    encoded = encode(Interactions.from_movielens(tmp_path, name="toy"))
    assert encoded.users.decode([1, 2, 3]) == [3, 20, 100]
    assert encoded.profile_encoder.names == ("age", "gender", "occupation")
    assert encoded.histories.profile.tolist() == [[2, 2, 2], [0, 0, 0], [1, 1, 1]]
    assert encoded.histories.profile_sizes == (3, 3, 3)
    assert encoded.histories.profile.dtype == np.int32


def test_many_numbers_fall_into_eight_bins_of_like_size():
    ages = pd.DataFrame({"user": range(997), "age": np.random.default_rng(3).permutation(997)})
    encoder = ProfileEncoder.fit(ages)
    counts = np.bincount(encoder.transform(ages)[:, 0], minlength=9)
    assert encoder.sizes == (9,)
    assert counts[0] == 0
    assert counts[1:].min() >= 124
    beyond = pd.DataFrame({"age": [-5, 10**6, np.nan, "old"]})
    assert encoder.transform(beyond).ravel().tolist() == [1, 8, 0, 0]


def test_every_bin_of_a_skewed_field_is_used():
    ages = pd.DataFrame({"age": [1] * 500 + list(range(2, 40))})
    codes = ProfileEncoder.fit(ages).transform(ages)
    assert set(codes.ravel()) == set(range(1, ProfileEncoder.fit(ages).sizes[0]))


def test_a_gap_does_not_change_how_numbers_are_written():
    encoder = ProfileEncoder.fit(pd.DataFrame({"age": [18, 25]}))
    assert encoder.transform(pd.DataFrame({"age": [25.0, np.nan, 18.0]})).ravel().tolist() == [2, 0, 1]


def test_a_missing_field_is_unknown():
    encoder = ProfileEncoder.fit(pd.DataFrame({"user": [1, 2], "age": [18, 25], "gender": ["F", "M"]}))
    assert encoder.transform(pd.DataFrame({"gender": ["M"]})).tolist() == [[0, 2]]
    assert encoder.transform(pd.DataFrame({"user": [7]})).tolist() == [[0, 0]]


def test_plain_data_keeps_the_encoder_whole():
    users = pd.DataFrame({"age": np.arange(101), "gender": ["F", "M"] * 50 + [None]})
    old = ProfileEncoder.fit(users)
    new = ProfileEncoder.from_dict(json.loads(json.dumps(old.to_dict())))
    assert new.fields == old.fields
    assert np.array_equal(new.transform(users), old.transform(users))
    with pytest.raises(ArtefactError, match="profile's fields cannot be read"):
        ProfileEncoder.from_dict({"fields": [{"name": "age"}]})


def test_real_ml_100k_is_encoded(shared_data, tmp_path):
    encoded = encode(load_interactions("ml-100k", source=shared_data("ml-100k"), data_dir=tmp_path))
    assert encoded.histories.num_users == 943
    assert encoded.histories.num_items == 1682
    assert encoded.histories.lengths.min() == 20
    assert encoded.histories.profile_sizes == (9, 3, 22)
    assert (encoded.histories.profile > 0).all()
    assert encoded.items.title(1) == "Toy Story (1995)"
