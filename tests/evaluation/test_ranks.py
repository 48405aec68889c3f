import pytest
import torch

from recattn.errors import ConfigError
from recattn.evaluation import target_ranks


def test_rank_is_one_plus_the_items_that_score_higher():
    scores = torch.tensor([[0.0, 0.1, 0.5, 0.3, 0.2], [0.0, 4.0, 3.0, 2.0, 1.0]])
    assert target_ranks(scores, torch.tensor([3, 4])).tolist() == [2, 4]


def test_ties_count_against_the_target():
    scores = torch.tensor([[0.0, 0.5, 0.5, 0.5, 0.1]])
    assert target_ranks(scores, torch.tensor([2])).tolist() == [3]


@pytest.mark.parametrize("target", [1, 4, 7])
def test_a_constant_scorer_is_last_wherever_the_target_stands(target):
    assert target_ranks(torch.zeros(1, 8), torch.tensor([target])).tolist() == [7]


def test_padding_never_counts_however_high_it_scores():
    scores = torch.tensor([[torch.inf, 1.0, 0.5]])
    assert target_ranks(scores, torch.tensor([1])).tolist() == [1]


def test_seen_items_are_no_candidates_and_their_padding_changes_nothing():
    scores = torch.tensor([[0.0, 4.0, 3.0, 2.0, 1.0]])
    seen = torch.tensor([[1, 2, 2, 0, 0]])
    assert target_ranks(scores, torch.tensor([4]), seen).tolist() == [2]


def test_a_target_seen_before_stays_a_candidate():
    scores = torch.tensor([[0.0, 4.0, 3.0, 2.0]])
    assert target_ranks(scores, torch.tensor([2]), torch.tensor([[1, 2]])).tolist() == [1]
    assert target_ranks(scores, torch.tensor([2]), torch.tensor([[2]])).tolist() == [2]


def test_nan_scores_of_other_items_count_against_the_target():
    scores = torch.tensor([[0.0, torch.nan, 3.0, torch.nan, 1.0]])
    assert target_ranks(scores, torch.tensor([2])).tolist() == [3]


def test_a_target_that_scores_nan_is_last():
    scores = torch.tensor([[0.0, torch.nan, 3.0, 2.0, 1.0]])
    assert target_ranks(scores, torch.tensor([1])).tolist() == [4]
    assert target_ranks(scores, torch.tensor([1]), torch.tensor([[2]])).tolist() == [3]


def test_ranks_equal_a_plain_loop():
    generator = torch.Generator().manual_seed(3)
    scores = torch.randint(0, 9, (17, 30), generator=generator).float()
    targets = torch.randint(1, 30, (17,), generator=generator)
    seen = torch.randint(0, 30, (17, 5), generator=generator)
    expected = [
        1 + sum(c not in (0, t) and c not in gone and row[c] >= row[t] for c in range(30))
        for row, t, gone in zip(scores.tolist(), targets.tolist(), seen.tolist(), strict=True)
    ]
    assert target_ranks(scores, targets, seen).tolist() == expected


def test_the_scores_are_not_changed():
    scores = torch.randn(3, 8)
    before = scores.clone()
    target_ranks(scores, torch.tensor([1, 2, 3]), torch.tensor([[4], [5], [6]]))
    assert torch.equal(scores, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_type_is_ranked(dtype):
    assert target_ranks(torch.arange(6, dtype=dtype)[None], torch.tensor([4])).tolist() == [2]


def test_wrong_shapes_and_ids_are_named():
    with pytest.raises(ConfigError, match=r"\(2, 5\) and targets \(3,\)"):
        target_ranks(torch.zeros(2, 5), torch.tensor([1, 2, 3]))
    with pytest.raises(ConfigError, match=r"seen is \(3, 1\)"):
        target_ranks(torch.zeros(2, 5), torch.tensor([1, 2]), torch.zeros(3, 1, dtype=torch.int64))
    with pytest.raises(ConfigError, match="targets are 0 to 2: allowed are 1 to 4"):
        target_ranks(torch.zeros(2, 5), torch.tensor([0, 2]))
