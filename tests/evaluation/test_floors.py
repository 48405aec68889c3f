from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from recattn.batch import History
from recattn.data.histories import Histories
from recattn.errors import ConfigError
from recattn.evaluation import EASE, ItemKNN, Popularity, TransitionCounts, evaluate
from recattn.evaluation.floors import counts, ease, item_knn, pooling

FLOORS = [Popularity, ItemKNN, EASE, TransitionCounts]


@pytest.fixture
def histories():
    """4 users, 5 items; item 5 is never taken, user 3 repeats item 2."""
    return Histories(np.array([1, 2, 3, 2, 1, 3, 4, 2, 4, 2], np.int32), np.array([0, 3, 5, 7, 10]), num_items=5)


def history_of(*items):
    return History(torch.tensor([items]), torch.tensor([len(items)]))


def test_popularity_counts_events(histories):
    assert Popularity(histories)(history_of(1)).tolist() == [[0, 2, 4, 2, 2, 0]]


def test_popularity_of_the_last_days_counts_no_older_events(histories):
    day = 86_400
    timed = replace(histories, times=day * np.array([0, 1, 9, 9, 10, 3, 7, 7, 8, 10]))
    assert Popularity(timed, days=1)(history_of(1)).tolist() == [[0, 1, 1, 0, 0, 0]]
    assert Popularity(timed, days=3.5)(history_of(1)).tolist() == [[0, 1, 3, 1, 2, 0]]
    assert Popularity(timed, days=11)(history_of(1)).tolist() == Popularity(histories)(history_of(1)).tolist()
    assert Popularity(timed, days=7).arguments == {"days": 7}
    with pytest.raises(ConfigError, match="days is 7, but the histories have no times"):
        Popularity(histories, days=7)
    with pytest.raises(ConfigError, match="days must be"):
        Popularity(timed, days=0)


def test_item_knn_is_the_cosine_of_user_sets(histories):
    scores = ItemKNN(histories)(history_of(2))[0]
    # users of 1: {0, 1}; of 2: {0, 1, 3}; of 3: {0, 2}; of 4: {2, 3}
    assert scores.tolist() == pytest.approx([0, 2 / 6**0.5, 0, 1 / 6**0.5, 1 / 6**0.5, 0])
    shrunk = ItemKNN(histories, shrinkage=2)(history_of(2))[0]
    assert shrunk[1].item() == pytest.approx(2 / (6**0.5 + 2))


def test_item_knn_keeps_the_candidates_own_neighbours(histories):
    full, kept = ItemKNN(histories), ItemKNN(histories, neighbours=1)
    dense = np.stack([full(history_of(j))[0].numpy() for j in range(1, 6)])
    pruned = np.stack([kept(history_of(j))[0].numpy() for j in range(1, 6)])
    for c in range(1, 6):
        best = dense[:, c].argmax()  # ties to the lower id
        expected = np.where((np.arange(5) == best) & (dense[:, c] > 0), dense[:, c], 0)
        assert pruned[:, c].tolist() == expected.tolist()


def test_item_knn_counts_a_repeated_item_once(histories):
    floor = ItemKNN(histories)
    assert torch.equal(floor(history_of(2, 2, 2)), floor(history_of(2)))


def test_ease_solves_the_constrained_regression(histories):
    """Steck's problem, column by column: ridge regression of each item on all the others."""
    x = counts.user_items(histories).toarray()
    expected = np.zeros((6, 6))
    for c in range(1, 6):
        others = [j for j in range(1, 6) if j != c]
        a = x[:, others]
        expected[others, c] = np.linalg.solve(a.T @ a + 3 * np.eye(4), a.T @ x[:, c])
    assert EASE(histories, regularisation=3).weights == pytest.approx(expected, abs=1e-6)


def test_ease_reads_a_fading_history(histories):
    floor = EASE(histories, regularisation=3)
    faded = floor.with_decay(0.5)(history_of(1, 3, 4))
    expected = 0.25 * floor(history_of(1)) + 0.5 * floor(history_of(3)) + floor(history_of(4))
    assert torch.allclose(faded, expected)
    assert torch.equal(faded, EASE(histories, regularisation=3, decay=0.5)(history_of(1, 3, 4)))


def test_ease_refuses_large_catalogues(monkeypatch, histories):
    monkeypatch.setattr(ease, "EASE_MAX_ITEMS", 4)
    with pytest.raises(ConfigError, match="EASE takes up to 4 items: this catalogue has 5"):
        EASE(histories)


def test_transitions_count_what_follows_within_the_horizon():
    data = Histories(np.array([1, 2, 3, 1, 3], np.int32), np.array([0, 3, 5]), num_items=3)
    floor = TransitionCounts(data, horizon=2, decay=1.0)
    # 1 -> 2 once at distance 1; 1 -> 3 at distance 2 and at distance 1; 2 -> 3 once
    assert floor(history_of(1))[0].tolist() == pytest.approx([0, 0, 1 / 2.5, 1.5 / 2.5])
    assert floor(history_of(3))[0].tolist() == [0, 0, 0, 0]
    assert TransitionCounts(data, horizon=1)(history_of(1))[0].tolist() == pytest.approx([0, 0, 0.5, 0.5])


def test_transitions_fade_with_age_and_count_every_event(histories):
    floor = TransitionCounts(histories)
    once = {item: floor(history_of(item)) for item in (1, 2)}
    expected = 0.49 * once[2] + 0.7 * once[1] + once[2]
    assert torch.allclose(floor.with_decay(0.7)(history_of(2, 1, 2)), expected)


def test_a_horizon_beyond_every_history_is_allowed():
    data = Histories(np.array([1, 2], np.int32), np.array([0, 2]), num_items=2)
    assert TransitionCounts(data, horizon=10)(history_of(1)).tolist() == [[0, 0, 1]]


def test_transitions_are_perfect_where_the_next_item_is_the_successor(successor_split):
    floor = TransitionCounts(successor_split.train, horizon=1, decay=0.1)
    assert evaluate(floor, successor_split).metrics["hr@5"]["mean"] == 1
    assert evaluate(floor, successor_split, ks=(1,)).metrics["hr@1"]["mean"] == 1


@pytest.mark.parametrize("floor", [ItemKNN, EASE])
def test_checkerboard_candidates_are_of_the_users_own_colour(checkerboard_split, floor):
    result = evaluate(floor(checkerboard_split.train), checkerboard_split)
    assert result.ranks.max() <= 17 - 10  # 17 items of the colour, 10 of them seen
    assert evaluate(Popularity(checkerboard_split.train), checkerboard_split).ranks.max() > 17 - 10


@pytest.mark.parametrize("floor", FLOORS)
def test_empty_histories_and_padding(histories, floor):
    fitted = floor(histories)
    batch = History(torch.tensor([[2, 3, 0, 0], [0, 0, 0, 0]]), torch.tensor([2, 0]))
    scores = fitted(batch)
    assert torch.equal(scores[:1], fitted(history_of(2, 3)))
    assert torch.isfinite(scores).all()
    garbage = History(torch.tensor([[2, 3, 4, 1], [5, 5, 5, 5]]), torch.tensor([2, 0]))
    assert torch.equal(fitted(garbage), scores)
    if floor is not Popularity:
        assert not scores[1].any()


@pytest.mark.parametrize("floor", FLOORS)
def test_users_without_events_change_nothing(histories, floor):
    more = replace(histories, offsets=np.concatenate([[0, 0], histories.offsets[1:], [10]]))
    assert torch.equal(floor(more)(history_of(2, 3)), floor(histories)(history_of(2, 3)))


def test_blocks_and_sparse_products_give_the_same_scores(monkeypatch, random_split):
    train, batch = random_split.train, history_of(3, 9, 1)
    expected = [ItemKNN(train, neighbours=4)(batch), EASE(train)(batch), TransitionCounts(train)(batch)]
    monkeypatch.setattr(counts, "_BLOCK_CELLS", 5 * 32)
    monkeypatch.setattr(pooling, "_DENSE_CELLS", 0)
    got = [ItemKNN(train, neighbours=4)(batch), EASE(train)(batch), TransitionCounts(train)(batch)]
    for a, b in zip(expected, got, strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=0)


def test_pruning_takes_no_more_than_asked_for_where_entries_tie():
    block = np.array([[1.0, 0.0], [1.0, 2.0], [1.0, 3.0], [0.5, 1.0]])
    kept = item_knn._largest_per_column(sparse.csc_array(block), 2)
    assert kept.toarray().tolist() == [[1, 0], [1, 2], [0, 3], [0, 0]]


def test_impossible_settings_are_named(histories):
    for floor, name in [
        (lambda: ItemKNN(histories, neighbours=0), "neighbours is 0"),
        (lambda: ItemKNN(histories, shrinkage=-1), "shrinkage is -1"),
        (lambda: EASE(histories, regularisation=0), "regularisation is 0"),
        (lambda: EASE(histories, decay=0), "decay is 0"),
        (lambda: TransitionCounts(histories, horizon=0), "horizon is 0"),
        (lambda: TransitionCounts(histories).with_decay(1.1), r"decay is 1\.1"),
    ]:
        with pytest.raises(ConfigError, match=name):
            floor()
