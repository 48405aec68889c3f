import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recattn.nn import Found
from recattn.nn.search.found import best_found, latest_found


def stable_sort(scores, mask, k):
    """The specification in numpy: the places of the k best of one row, oldest first."""
    order = np.argsort(-scores.double().numpy(), kind="stable")
    return sorted(order[mask.numpy()[order]][:k].tolist())


def listed(found, *row):
    return found.places[row][found.mask[row]].tolist()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(-2, 2), st.booleans()), min_size=1, max_size=9), st.integers(1, 11))
def test_the_best_are_those_of_a_stable_sort(row, k):
    scores, mask = torch.tensor([[[float(x) for x, _ in row]]]), torch.tensor([[[real for _, real in row]]])
    for some in (scores, scores.int()):
        found = best_found(some, mask, k)
        assert listed(found, 0, 0) == stable_sort(scores[0, 0], mask[0, 0], k)
        assert found.places.shape == found.mask.shape == (1, 1, min(k, len(row)))


@pytest.mark.parametrize("levels", [2, 5, 10**6])
@pytest.mark.parametrize("k", [1, 3, 7])
@pytest.mark.parametrize("length", [1000, 1283])
def test_of_a_long_history_too_with_ties_across_blocks_and_padding(levels, k, length):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(levels, (2, 5, length), generator=generator).float()
    mask = torch.rand(2, 5, length, generator=generator) < torch.tensor([0.9, 0.004])[:, None, None]
    mask[1, 3] = False
    found = best_found(scores, mask, k)
    for row in range(2):
        for query in range(5):
            assert listed(found, row, query) == stable_sort(scores[row, query], mask[row, query], k)
    found = best_found(scores, None, k)
    assert found.mask.all()
    assert listed(found, 1, 2) == stable_sort(scores[1, 2], torch.ones(length, dtype=torch.bool), k)


def test_the_last_event_after_the_last_whole_block_can_win():
    scores = torch.zeros(1, 1, 1283)
    scores[..., -1] = 1
    assert best_found(scores, None, 2).places.tolist() == [[[0, 1282]]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.int64])
def test_padding_never_wins_however_low_the_real_scores_are(dtype):
    """The trap: padding with score 0 beats every negative score."""
    scores = torch.full((1, 1, 5), -1000).to(dtype)
    scores[..., 3:] = 0
    found = best_found(scores, torch.tensor([[[True, True, True, False, False]]]), 4)
    assert listed(found, 0, 0) == [0, 1, 2]
    assert found.mask.sum() == 3


def test_the_latest_are_the_last_that_the_mask_lets_through():
    mask = torch.tensor([[[True, True, False, True, False]], [[False, False, False, False, True]]])
    found = latest_found(mask, 2)
    assert [listed(found, row, 0) for row in range(2)] == [[1, 3], [4]]


def test_nothing_to_find_is_nothing_found():
    found = best_found(torch.zeros(2, 3, 5), torch.zeros(2, 1, 5, dtype=torch.bool), 2)
    assert not found.mask.any()
    assert ((found.places >= 0) & (found.places < 5)).all()
    assert best_found(torch.zeros(2, 3, 0), None, 2).places.shape == (2, 3, 0)


def test_spread_and_gather_put_the_found_in_their_places():
    found = Found(torch.tensor([[[2, 4, 0], [1, 0, 0]]]), torch.tensor([[[True, True, False], [True, True, False]]]))
    assert found.spread(5).int().tolist() == [[[0, 0, 1, 0, 1], [1, 1, 0, 0, 0]]]
    assert found.gather(torch.arange(10.0).view(1, 5, 2))[0, 1].tolist() == [[2, 3], [0, 1], [0, 1]]


def test_a_slot_where_nothing_was_found_hides_no_event():
    """Whichever of the two slots that point at event 0 is written last."""
    for order in ([0, 1], [1, 0]):
        found = Found(torch.tensor([[[0, 0]]]), torch.tensor([[[True, False]]])[..., order])
        assert found.spread(2).tolist() == [[[True, False]]]
