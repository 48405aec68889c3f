from dataclasses import replace

import numpy as np
import pytest

from recattn.data.click_samples import ClickSamples, label_by_rating, label_by_sampling
from recattn.data.histories import Histories
from recattn.data.split import Targets, events_between
from recattn.errors import ConfigError, DataError

LENGTHS = np.array([17, 0, 1, 2, 23, 5])
NUM_ITEMS = 29


@pytest.fixture
def histories():
    rng = np.random.default_rng(0)
    total = int(LENGTHS.sum())
    return Histories(
        items=rng.integers(1, NUM_ITEMS + 1, total).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(LENGTHS)]),
        num_items=NUM_ITEMS,
        times=np.arange(total) * 7,
        ratings=rng.integers(1, 6, total).astype(np.float32),
    )


def all_targets(histories):
    return events_between(np.zeros_like(histories.lengths), histories.lengths)


def rows(samples):
    return list(zip(*(samples.columns()[name].tolist() for name in samples.columns()), strict=True))


@pytest.mark.parametrize("threshold", [2.0, 4.0, 4.5])
def test_labels_are_ratings_from_the_threshold_on_and_first_events_are_no_samples(histories, threshold):
    expected = []
    for user, length in enumerate(LENGTHS):
        for position in range(1, length):
            event = histories.offsets[user] + position
            label = bool(histories.ratings[event] >= threshold)
            expected.append((user, position, int(histories.items[event]), label, int(histories.times[event])))
    found = label_by_rating(histories, all_targets(histories), threshold=threshold)
    assert rows(found) == expected
    assert 0 < found.labels.sum() < len(found)


def test_targets_in_any_order_give_a_sorted_table(histories):
    targets = all_targets(histories)
    order = np.random.default_rng(1).permutation(len(targets.users))
    mixed = Targets(targets.users[order], targets.positions[order])
    assert rows(label_by_rating(histories, mixed)) == rows(label_by_rating(histories, targets))


def test_each_event_is_a_positive_followed_by_its_negatives_at_the_same_moment(histories):
    positives = label_by_rating(histories, all_targets(histories))
    found = label_by_sampling(histories, all_targets(histories), negatives=3, seed=5)
    assert found.labels.reshape(-1, 4).tolist() == [[True, False, False, False]] * len(positives)
    for name in ("users", "visible", "times"):
        assert (getattr(found, name).reshape(-1, 4) == getattr(positives, name)[:, None]).all()
    assert (found.items.reshape(-1, 4)[:, 0] == positives.items).all()


def test_negatives_are_all_items_of_the_catalogue_that_the_user_never_takes_each_as_often(histories):
    """Neither before nor after the moment, and no padding."""
    found = label_by_sampling(histories, all_targets(histories), negatives=1000, seed=5)
    for user in (0, 3, 4, 5):
        drawn = found.items[(found.users == user) & ~found.labels]
        counts = np.bincount(drawn, minlength=NUM_ITEMS + 1)
        lacking = sorted(set(range(1, NUM_ITEMS + 1)) - set(histories.of(user).tolist()))
        assert np.flatnonzero(counts).tolist() == lacking
        mean = len(drawn) / len(lacking)
        assert (abs(counts[lacking] - mean) < 5 * np.sqrt(mean)).all()


def test_the_only_item_left_is_the_negative():
    histories = Histories(np.array([1, 2, 4, 2, 3, 4], np.int32), np.array([0, 3, 6]), num_items=4)
    found = label_by_sampling(histories, all_targets(histories), negatives=2)
    assert found.items[~found.labels].tolist() == [3] * 4 + [1] * 4


def test_the_seed_fixes_the_negatives(histories):
    def drawn(seed):
        return label_by_sampling(histories, all_targets(histories), seed=seed).hash

    assert drawn(3) == drawn(3) != drawn(4)


def test_histories_without_times_give_samples_without(histories):
    bare = replace(histories, times=None)
    assert label_by_rating(bare, all_targets(bare)).times is None
    assert label_by_sampling(bare, all_targets(bare)).times is None


def test_the_hash_is_of_values_whatever_their_dtype_and_of_every_column(histories):
    samples = label_by_rating(histories, all_targets(histories))
    assert replace(samples, items=samples.items.astype(np.int64)).hash == samples.hash
    others = [
        replace(samples, labels=~samples.labels),
        replace(samples, times=None),
        replace(samples, items=samples.items % 3 + 1),
        replace(samples, visible=samples.visible + 1),
        replace(samples, users=samples.users + 1),
    ]
    assert len({samples.hash, *(other.hash for other in others)}) == 6


def test_what_cannot_be_labelled_is_refused(histories):
    targets = all_targets(histories)
    with pytest.raises(ConfigError, match="no ratings to make labels of"):
        label_by_rating(replace(histories, ratings=None), targets)
    with pytest.raises(ConfigError, match="threshold must be a finite number, got nan"):
        label_by_rating(histories, targets, threshold=float("nan"))
    with pytest.raises(ConfigError, match="negatives must be an integer >= 1, got 0"):
        label_by_sampling(histories, targets, negatives=0)
    whole = Histories(np.array([1, 2, 2, 1], np.int32), np.array([0, 2, 4]), num_items=2)
    with pytest.raises(DataError, match="user number 0 has taken all 2 items"):
        label_by_sampling(whole, all_targets(whole))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("users", [1, 0], "sorted by users"),
        ("visible", [2, 1], "sorted by users, and a user's by visible"),
        ("visible", [-1, 1], "visible at -1: allowed are 1 and 0"),
        ("items", [0, 1], "items begin at 0"),
        ("labels", [True], r"labels is \(1,\), but users is \(2,\)"),
    ],
)
def test_tables_that_are_none_are_refused(column, values, message):
    columns = {"users": [0, 0], "visible": [1, 1], "items": [3, 5], "labels": [True, False]} | {column: values}
    with pytest.raises(ConfigError, match=message):
        ClickSamples(**{name: np.array(given) for name, given in columns.items()})
