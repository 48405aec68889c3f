import pytest
import torch

from recattn.batch import History, RankingBatch
from recattn.models.moments import moments_of
from recattn.models.windows import put_back

BATCH, CANDIDATES = 2, 7


def batch_of(visible=None, request_time=None, times=None):
    history = History(torch.tensor([[3, 5, 7], [4, 6, 0]]), torch.tensor([3, 2]), times)
    candidates = torch.arange(1, BATCH * CANDIDATES + 1).view(BATCH, CANDIDATES)
    return RankingBatch(history, candidates, None, visible, request_time)


TIMES = torch.tensor([[10, 20, 30], [10, 20, 0]])


def test_without_moments_of_their_own_all_candidates_are_one():
    asked = moments_of(batch_of())
    assert asked.visible.tolist() == [[3], [2]]
    assert asked.candidates.shape == (BATCH, 1, CANDIDATES)
    assert asked.now is None


@pytest.mark.parametrize("aware", [True, False])
def test_each_candidate_is_found_again_beside_what_it_sees_and_when(aware):
    visible = torch.tensor([[3, 1, 3, 1, 0, 3, 1], [2, 1, 2, 1, 0, 2, 1]])
    moments = torch.tensor([[50, 40, 50, 40, 40, 60, 40]] * BATCH)
    batch = batch_of(visible, moments, TIMES)
    asked = moments_of(batch, time_aware=aware)
    slots = asked.candidates.shape[2]
    assert torch.equal(asked.back(asked.candidates), batch.candidates)
    assert torch.equal(asked.back(asked.visible[..., None].expand(-1, -1, slots)), visible)
    last = TIMES.gather(1, (visible - 1).clamp(min=0))
    assert torch.equal(asked.back(asked.now[..., None].expand(-1, -1, slots)), moments if aware else last)
    assert asked.candidates.shape[1] == (4 if aware else 3)
    assert (asked.candidates == 0).sum() == BATCH * (asked.candidates[0].numel() - CANDIDATES)


@pytest.mark.parametrize("visible", [None, torch.tensor([[3, 1, 3, 1, 0, 3, 1], [2, 1, 2, 1, 0, 2, 1]])])
def test_what_is_known_of_a_request_stays_beside_its_candidate(visible):
    batch = batch_of(visible)
    context = torch.stack([10 * batch.candidates, 20 * batch.candidates, 30 * batch.candidates], -1)
    asked = moments_of(batch._replace(context=context))
    assert torch.equal(asked.context, asked.candidates[..., None] * torch.tensor([10, 20, 30]))
    assert asked.context.shape[1] == (1 if visible is None else 3)


def test_columns_that_agree_in_one_row_only_are_moments_of_their_own():
    visible = torch.tensor([[3, 3, 3, 3, 3, 3, 3], [2, 1, 2, 2, 2, 2, 2]])
    asked = moments_of(batch_of(visible))
    assert asked.candidates.shape == (BATCH, 2, 6)
    assert asked.visible.tolist() == [[3, 3], [1, 2]]


def test_groups_of_very_different_size_are_not_padded_to_the_largest():
    visible = torch.tensor([[3, 3, 3, 3, 2, 1, 0]] * BATCH)
    asked = moments_of(batch_of(visible))
    assert asked.candidates.shape == (BATCH, CANDIDATES, 1)
    assert torch.equal(asked.back(asked.candidates), asked.candidates.flatten(1))


def test_what_windows_hold_is_put_where_it_stands_and_cut_at_the_end():
    values = torch.arange(1.0, 13.0).view(1, 2, 2, 3)  # (batch, moments, heads, width)
    found = put_back(values, torch.tensor([[0, 3]]), 5)
    assert found[0].tolist() == [[[1, 2, 3, 0, 0], [4, 5, 6, 0, 0]], [[0, 0, 0, 7, 8], [0, 0, 0, 10, 11]]]
