from dataclasses import replace

import numpy as np
import pytest
import torch

from recattn.data.splits import global_time
from recattn.errors import ConfigError
from recattn.evaluation import TransitionCounts, evaluate, rank_targets


def constant(history, request_time):
    return torch.zeros(len(history.items), 32)


def by_length(history, request_time):
    """Scores that depend on the row's own history alone."""
    last = history.items.gather(1, history.lengths[:, None] - 1)
    return -((torch.arange(32) - last - history.lengths[:, None]) % 31).float()


def test_a_constant_scorer_gets_no_hits_and_the_worst_rank(random_split):
    result = evaluate(constant, random_split)
    users, positions = random_split.test
    assert result.ranks.tolist() == (31 - positions).tolist()  # all items but those seen before
    assert users.tolist() == result.users.tolist()
    assert evaluate(constant, random_split, ks=(1, 5)).metrics["hr@5"]["mean"] == 0


def test_a_random_scorer_finds_k_in_all_candidates(random_split):
    generator = torch.Generator().manual_seed(0)
    ranks = np.stack(
        [rank_targets(lambda h, _: torch.rand(len(h.items), 32, generator=generator), random_split) for _ in range(60)]
    )
    candidates = 31 - random_split.test.positions
    assert ((ranks - 1) / (candidates - 1)).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_history_is_everything_before_the_target_and_nothing_else(random_split, part):
    given = {}

    def remember(history, request_time):
        for row, length in zip(history.items.tolist(), history.lengths.tolist(), strict=True):
            given[tuple(row[:length])] = given.get(tuple(row[:length]), 0) + 1
        return torch.zeros(len(history.items), 32)

    evaluate(remember, random_split, part)
    users, positions = getattr(random_split, part)
    expected = [tuple(random_split.histories.of(u)[:p].tolist()) for u, p in zip(users, positions, strict=True)]
    assert sorted(given) == sorted(expected)


@pytest.mark.parametrize("batch_size", [1, 7, 53, 1000])
def test_batch_size_and_order_change_no_rank(random_split, batch_size):
    users, positions = random_split.test
    histories = random_split.histories
    expected = []
    for user, position in zip(users.tolist(), positions.tolist(), strict=True):
        items = histories.of(user).tolist()
        row = [-((c - items[position - 1] - position) % 31) for c in range(32)]
        others = set(range(1, 32)) - set(items[: position + 1])
        expected.append(1 + sum(row[c] >= row[items[position]] for c in others))
    assert rank_targets(by_length, random_split, batch_size=batch_size).tolist() == expected
    floor = TransitionCounts(random_split.train)
    assert np.array_equal(rank_targets(floor, random_split, batch_size=batch_size), rank_targets(floor, random_split))


def test_seen_items_stay_candidates_on_request(random_split):
    result = evaluate(constant, random_split, filter_seen=False)
    assert set(result.ranks.tolist()) == {31}
    assert result.candidates == "full catalogue, seen items in"
    assert evaluate(constant, random_split).candidates == "full catalogue, seen items out"


def test_request_time_is_the_targets_own_and_given_only_on_request(random_split):
    def check(history, request_time):
        assert request_time.tolist() == (100 + history.lengths).tolist()
        return torch.zeros(len(history.items), 32)

    def check_blind(history, request_time):
        assert request_time is None
        return torch.zeros(len(history.items), 32)

    assert evaluate(check, random_split, time_aware=True).time_aware
    assert not evaluate(check_blind, random_split).time_aware


def test_time_aware_evaluation_needs_times(random_split):
    split = replace(random_split, histories=replace(random_split.histories, times=None))
    with pytest.raises(ConfigError, match="the data has no times"):
        evaluate(constant, split, time_aware=True)


def test_scores_of_another_shape_are_refused_with_both_shapes(random_split):
    with pytest.raises(ConfigError, match=r"\(8, 31\): they must be \(8, 32\)"):
        evaluate(lambda history, _: torch.zeros(len(history.items), 31), random_split, batch_size=8)


def test_wrong_part_and_batch_size_are_named(random_split):
    with pytest.raises(ConfigError, match="part is 'train'"):
        evaluate(constant, random_split, "train")
    with pytest.raises(ConfigError, match="batch_size is 0"):
        evaluate(constant, random_split, batch_size=0)


def test_a_part_without_targets_is_refused(random_split):
    none = np.array([], np.int64)
    split = replace(random_split, validation=type(random_split.test)(none, none))
    with pytest.raises(ConfigError, match="no validation targets"):
        evaluate(constant, split, "validation")


def test_several_targets_of_a_user_are_queries_of_their_own(random_split):
    split = global_time(random_split.histories, validation=0.2, test=0.3, target="all")
    users, positions = split.test
    assert len(np.unique(users)) < len(users)
    result = evaluate(constant, split, ks=(25,))
    assert result.ranks.tolist() == (31 - positions).tolist()
    hits = result.ranks <= 25
    assert result.metrics["hr@25"]["mean"] == pytest.approx(hits.mean())
    by_user = [hits[users == user].mean() for user in np.unique(users)]
    assert result.metrics["recall@25"]["mean"] == pytest.approx(np.mean(by_user))


def test_progress_counts_targets(random_split):
    calls = []
    evaluate(constant, random_split, batch_size=20, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(20, 53), (40, 53), (53, 53)]


def test_scores_that_require_gradients_are_evaluated_without(random_split):
    weight = torch.zeros(32, requires_grad=True)
    evaluate(lambda history, _: weight.expand(len(history.items), -1), random_split)
    assert weight.grad is None
