from dataclasses import replace

import numpy as np
import pytest
import torch

from recattn.data.splits import leave_one_out
from recattn.errors import ConfigError
from recattn.evaluation import (
    StageRanks,
    TransitionCounts,
    bootstrap_interval,
    choose_blend,
    ndcg,
    rank_targets,
    rank_two_stages,
    stage_ranks,
    summarise_stages,
)

ITEMS = 31


def scorer(seed):
    """Scores without ties that depend on the last event alone."""
    table = torch.rand(ITEMS + 1, ITEMS + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def score(history, request_time):
        return table[history.items.gather(1, history.lengths[:, None] - 1)[:, 0]]

    return score


def behind(score):
    def rank(history, candidates, request_time):
        return score(history, request_time).gather(1, candidates).masked_fill(candidates == 0, -torch.inf)

    return rank


def brute_force(first, second, split, count, weight=0.0):
    """Each target by itself: a sorted list, cut, sorted again."""
    ranks = []
    histories = split.histories
    for user, position in zip(*split.test, strict=True):
        items = histories.of(user).tolist()
        from recattn.batch import History

        history = History(torch.tensor([items[:position]]), torch.tensor([position]))
        a, b = first(history, None)[0].tolist(), second(history, None)[0].tolist()
        free = [c for c in range(1, ITEMS + 1) if c not in items[:position] or c == items[position]]
        found = sorted(free, key=lambda c: -a[c])[:count]
        order = sorted(found, key=lambda c: -(b[c] + weight * a[c]))
        ranks.append(order.index(items[position]) + 1 if items[position] in order else len(free))
    return ranks


@pytest.mark.parametrize("count", [1, 5, 11])
@pytest.mark.parametrize("batch_size", [7, 256])
def test_ranks_are_those_of_a_list_cut_and_sorted_again(random_split, count, batch_size):
    first, second = scorer(0), scorer(1)
    weights = [0.0, 0.5]
    ranks = rank_two_stages(first, [behind(second)], random_split, count=count, weights=weights, batch_size=batch_size)
    assert ranks.retriever.tolist() == rank_targets(first, random_split).tolist()
    assert ranks.users.tolist() == random_split.test.users.tolist()
    for place, weight in enumerate(weights):
        assert ranks.final[0, place].tolist() == brute_force(first, second, random_split, count, weight)


@pytest.mark.parametrize("count", [ITEMS, 1000])
def test_retrieving_the_whole_catalogue_is_the_ranker_alone(random_split, count):
    ranks = rank_two_stages(scorer(0), [behind(scorer(1)), behind(scorer(2))], random_split, count=count)
    for seed, final in zip((1, 2), ranks.final[:, 0], strict=True):
        assert final.tolist() == rank_targets(scorer(seed), random_split).tolist()


def test_a_ranker_equal_to_the_retriever_changes_no_rank_of_a_candidate(random_split):
    ranks = rank_two_stages(scorer(0), [behind(scorer(0))], random_split, count=9, weights=[0.0, 0.7])
    found = ranks.retriever <= 9
    assert 0 < found.sum() < len(found)
    assert (ranks.final[0][:, found] == ranks.retriever[found]).all()
    together, alone = summarise_stages(replace(ranks, final=ranks.final[:, :1]), 9, ks=(5,))
    for name in ("hr@5", "ndcg@5", "hr@9", "ndcg@9", "recall@9"):
        assert together[name] == alone[name]


def test_a_target_that_is_not_retrieved_comes_last_of_the_catalogue(random_split):
    ranks = rank_two_stages(scorer(0), [behind(scorer(1))], random_split, count=4)
    lost = ranks.retriever > 4
    assert lost.any()
    assert (ranks.final[0, 0][lost] == ITEMS - random_split.test.positions[lost]).all()
    assert (ranks.final[0, 0][~lost] <= 4).all()


def test_ties_count_against_the_target_in_both_stages(random_split):
    def constant(history, request_time):
        return torch.zeros(len(history.items), ITEMS + 1)

    tied = rank_two_stages(constant, [behind(scorer(1))], random_split, count=5)
    assert (tied.final[0, 0] == tied.retriever).all(), "a tie at the last place is not retrieved"
    ranks = rank_two_stages(scorer(0), [behind(constant)], random_split, count=5)
    assert (ranks.final[0, 0][ranks.retriever <= 5] == 5).all()


def test_a_score_that_is_not_a_number_counts_against_the_target(random_split):
    def broken(history, request_time):
        return torch.full((len(history.items), ITEMS + 1), torch.nan)

    ranks = rank_two_stages(scorer(0), [behind(broken)], random_split, count=5)
    assert (ranks.final[0, 0][ranks.retriever <= 5] == 5).all()
    ranks = rank_two_stages(scorer(0), [behind(broken)], random_split, count=ITEMS)
    assert (ranks.final[0, 0] == ITEMS - random_split.test.positions).all(), "padding is nobody's rival"
    ranks = rank_two_stages(broken, [behind(scorer(0))], random_split, count=5)
    assert (ranks.final[0, 0] == ITEMS - random_split.test.positions).all()


def test_a_target_that_was_seen_before_stays_in_the_running(random_split):
    histories = random_split.histories
    items = histories.items.copy()
    items[histories.offsets[1:] - 1] = items[histories.offsets[:-1]]  # the last event repeats the first
    split = leave_one_out(replace(histories, items=items))
    first, second = scorer(0), scorer(1)
    ranks = rank_two_stages(first, [behind(second)], split, count=9)
    assert ranks.final[0, 0].tolist() == brute_force(first, second, split, 9)


def test_recall_of_the_candidates_is_known(successor_split):
    """next = previous + 1: a retriever that places the successor third finds it among three, not among two."""

    def third(history, request_time):
        last = history.items.gather(1, history.lengths[:, None] - 1)
        away = (torch.arange(24) - last - 1) % 23
        return torch.where(away == 0, -2.5, -away.float())  # after the two that follow the successor

    def successor(history, candidates, request_time):
        last = history.items.gather(1, history.lengths[:, None] - 1)
        return ((candidates - last - 1) % 23 == 0).float().masked_fill(candidates == 0, -torch.inf)

    for count, expected in ((2, 0.0), (3, 1.0)):
        ranks = rank_two_stages(third, [successor], successor_split, count=count)
        together, alone = summarise_stages(ranks, count)
        fair = [r for r, p in zip(ranks.retriever, successor_split.test.positions, strict=True) if p < 18]
        assert together[f"recall@{count}"] == alone[f"recall@{count}"]
        assert np.mean(np.array(fair) <= count) == expected
    assert together["hr@5"]["mean"] == 1.0
    assert (ranks.final == 1).all()


def test_the_gain_is_paired_over_users_and_averaged_over_rankers(random_split):
    ranks = rank_two_stages(scorer(0), [behind(scorer(1)), behind(scorer(2))], random_split, count=20)
    together, _ = summarise_stages(ranks, 20)
    differences = ndcg(ranks.final[:, 0], 10) - ndcg(ranks.retriever, 10)
    mean, low, high = bootstrap_interval(differences.ravel(), np.tile(ranks.users, 2))
    assert together["ndcg@10 gain"] == {"mean": mean, "low": low, "high": high}
    assert mean == pytest.approx(differences.mean())


def test_request_times_reach_both_stages_only_when_asked_for(random_split):
    told = []

    def first(history, request_time):
        told.append(request_time)
        return scorer(0)(history, None)

    def second(history, candidates, request_time):
        told.append(request_time)
        return behind(scorer(1))(history, candidates, None)

    rank_two_stages(first, [second], random_split, count=3, batch_size=100, time_aware=True)
    expected = 100 + np.sort(random_split.test.positions)[::-1]
    assert [moments.tolist() for moments in told] == [expected.tolist()] * 2
    told.clear()
    rank_two_stages(first, [second], random_split, count=3, batch_size=100)
    assert told == [None, None]


def test_a_useless_ranker_leaves_the_order_to_the_retriever(successor_split):
    """Noise beside a retriever that knows the answer: the larger its weight the better, and 0 is not chosen."""
    counted = TransitionCounts(successor_split.train, horizon=1)

    def noise(history, candidates, request_time):
        values = torch.sin(candidates.double() * 7.3 + history.lengths[:, None])
        return values.masked_fill(candidates == 0, -torch.inf)

    chosen = choose_blend(counted, [noise], successor_split, count=23)
    assert chosen.weight > 0
    assert chosen.trials[chosen.weight] == max(chosen.trials.values()) > chosen.trials[0.0]


def test_a_perfect_ranker_is_left_alone(successor_split):
    counted = TransitionCounts(successor_split.train, horizon=1)

    def knows(history, candidates, request_time):
        return counted(history).gather(1, candidates).masked_fill(candidates == 0, -torch.inf)

    noise = torch.rand(24, generator=torch.Generator().manual_seed(3))
    chosen = choose_blend(lambda h, _: noise.expand(len(h.items), -1), [knows], successor_split, count=23)
    assert chosen.weight == 0.0
    assert list(chosen.trials) == sorted(chosen.trials)


def test_weights_are_in_units_of_the_two_spreads(random_split):
    """Scores a thousand times as large get a thousandth of the weight."""
    one = choose_blend(scorer(0), [behind(scorer(1))], random_split, count=9)
    far = choose_blend(lambda h, t: 1000 * scorer(0)(h, t), [behind(scorer(1))], random_split, count=9)
    assert list(far.trials.values()) == list(one.trials.values())
    assert list(far.trials) == pytest.approx([weight / 1000 for weight in one.trials])
    assert len(one.trials) == len(stage_ranks.GRID)


def test_a_retriever_without_any_spread_has_no_weight_to_choose(random_split):
    flat = choose_blend(lambda h, _: torch.ones(len(h.items), ITEMS + 1), [behind(scorer(1))], random_split, count=9)
    assert list(flat.trials) == [0.0]


def test_test_targets_have_no_part_in_the_weight(random_split):
    histories = random_split.histories
    items = histories.items.copy()
    places = histories.offsets[random_split.test.users] + random_split.test.positions
    items[places] = items[places] % ITEMS + 1
    changed = replace(random_split, histories=replace(histories, items=items))
    stages = scorer(0), [behind(scorer(1))]
    assert choose_blend(*stages, random_split, count=9) == choose_blend(*stages, changed, count=9)


def test_a_wrong_part_and_a_wrong_shape_are_named(random_split):
    with pytest.raises(ConfigError, match="part is 'train'"):
        rank_two_stages(scorer(0), [behind(scorer(1))], random_split, "train")
    with pytest.raises(ConfigError, match=r"they must be \(53, 32\)"):
        rank_two_stages(lambda h, _: torch.zeros(len(h.items), 31), [behind(scorer(1))], random_split)


def test_a_missed_target_is_no_hit_at_any_k_even_on_a_small_catalogue(random_split):
    """31 items, so that the last of the catalogue stands above rank 50."""
    ranks = rank_two_stages(scorer(0), [behind(scorer(1))], random_split, count=4)
    together, _ = summarise_stages(ranks, 4)
    found = (ranks.retriever <= 4).mean()
    assert 0 < found < 1
    for metric in ("hr@5", "hr@50", "recall@4"):
        assert together[metric]["mean"] == pytest.approx(found)


def test_the_rank_of_a_missed_target_counts_where_the_catalogue_is_larger_than_every_k():
    ranks = StageRanks(np.array([1, 99]), np.array([[[2, 120]]]), np.array([0, 1]))
    assert summarise_stages(ranks, 9)[0]["mrr"]["mean"] == pytest.approx((1 / 2 + 1 / 120) / 2)
