import numpy as np
import pytest
import torch
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score, top_k_accuracy_score

from recattn.errors import ConfigError
from recattn.evaluation import hit_rate, mrr, ndcg, recall, summarise, target_ranks


def test_metrics_by_hand():
    ranks = np.array([1, 2, 10, 11])
    assert hit_rate(ranks, 10).tolist() == [1, 1, 1, 0]
    assert ndcg(ranks, 10) == pytest.approx([1, 1 / np.log2(3), 1 / np.log2(11), 0])
    assert mrr(ranks) == pytest.approx([1, 0.5, 0.1, 1 / 11])
    assert mrr(ranks, 5) == pytest.approx([1, 0.5, 0, 0])


def test_recall_divides_by_all_targets_of_the_user():
    ranks, users = np.array([1, 50, 3, 2, 99]), np.array([4, 4, 9, 4, 9])
    assert recall(ranks, users, 10) == pytest.approx([2 / 3, 1 / 2])
    assert recall(ranks, users, 1) == pytest.approx([1 / 3, 0])  # not cut at k: three targets, three queries


def test_recall_is_the_hit_rate_when_each_user_has_one_target():
    ranks, users = np.array([7, 30, 2]), np.array([0, 1, 2])
    assert recall(ranks, users, 10).tolist() == hit_rate(ranks, 10).tolist()


def test_a_k_above_the_catalogue_finds_every_target():
    assert hit_rate(np.array([1, 5]), 1000).tolist() == [1, 1]


def test_metrics_equal_scikit_learn_on_untied_scores():
    rng = np.random.default_rng(2)
    scores, targets = rng.permuted(np.tile(np.arange(29.0), (13, 1)), axis=1), rng.integers(29, size=13)
    relevant = np.eye(29)[targets]
    padded = torch.from_numpy(np.pad(scores, ((0, 0), (1, 0))))
    ranks = target_ranks(padded, torch.from_numpy(targets + 1)).numpy()
    for k in (3, 7, 29):
        assert ndcg(ranks, k).mean() == pytest.approx(ndcg_score(relevant, scores, k=k))
    for k in (3, 7):
        expected = top_k_accuracy_score(targets, scores, k=k, labels=np.arange(29))
        assert hit_rate(ranks, k).mean() == pytest.approx(expected)
    assert mrr(ranks).mean() == pytest.approx(label_ranking_average_precision_score(relevant, scores))


@pytest.mark.parametrize("metric", [hit_rate, ndcg, mrr])
def test_impossible_arguments_are_named(metric):
    with pytest.raises(ConfigError, match="k is 0"):
        metric(np.array([1]), 0)
    with pytest.raises(ConfigError, match="ranks hold 0"):
        metric(np.array([0]), 5)


def test_recall_needs_a_user_for_each_rank():
    with pytest.raises(ConfigError, match=r"users is \(2,\)"):
        recall(np.array([1, 2, 3]), np.array([1, 2]), 5)


def test_summary_averages_over_targets_but_recall_over_users():
    summary = summarise(np.array([1, 1, 1, 50]), np.array([3, 3, 3, 8]), ks=(10,))
    assert summary["hr@10"]["mean"] == 0.75
    assert summary["recall@10"]["mean"] == 0.5
    assert set(summary) == {"hr@10", "ndcg@10", "recall@10", "mrr"}
    assert all(entry["low"] <= entry["mean"] <= entry["high"] for entry in summary.values())


def test_summary_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="ranks is empty"):
        summarise(np.array([], int), np.array([], int))
