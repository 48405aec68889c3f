import pytest
import torch

from recattn.errors import ConfigError
from recattn.nn import CategorySearch


def listed(found):
    rows = zip(found.places.flatten(0, 1), found.mask.flatten(0, 1), strict=True)
    return [places[real].tolist() for places, real in rows]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_the_latest_k_of_the_category_are_found_oldest_first(dtype):
    events = torch.tensor([[7, 9, 7, 7, 0, 9, 7]], dtype=dtype)
    found = CategorySearch(3)(torch.tensor([[7, 9, 5]], dtype=dtype), events)
    assert listed(found) == [[2, 3, 6], [1, 5], []]


def test_not_known_matches_nothing_itself_included():
    assert listed(CategorySearch(3)(torch.tensor([[0]]), torch.tensor([[0, 0, 7]]))) == [[]]


def test_masked_events_are_not_found_for_any_or_for_one_query():
    events, asked = torch.tensor([[7, 7, 7, 7]]), torch.tensor([[7, 7]])
    mask = torch.tensor([[True, True, True, False]])
    assert listed(CategorySearch(2)(asked, events, mask)) == [[1, 2], [1, 2]]
    own = torch.tensor([[[True, True, True, False], [True, False, False, False]]])
    assert listed(CategorySearch(2)(asked, events, own)) == [[1, 2], [0]]


def test_one_shared_category_of_several_is_a_match():
    events = torch.tensor([[[1, 2], [3, 0], [2, 0], [4, 1]]])
    assert listed(CategorySearch(4)(torch.tensor([[[1, 0], [2, 3], [5, 0]]]), events)) == [[0, 3], [0, 1, 2], []]


def test_large_categories_are_compared_exactly():
    """In floats 2^53 + 1 would equal 2^53."""
    assert listed(CategorySearch(4)(torch.tensor([[2**53]]), torch.tensor([[2**53 + 1, 2**53]]))) == [[1]]


def test_wrong_categories_and_k_are_named():
    whole = torch.tensor([[1]])
    with pytest.raises(ConfigError, match=r"keys must be integer categories, got torch\.float32"):
        CategorySearch(1)(whole, whole.float())
    with pytest.raises(ConfigError, match=r"query must be integer categories, got torch\.bool"):
        CategorySearch(1)(whole.bool(), whole)
    with pytest.raises(ConfigError, match=r"query and keys must be .* got shapes \(1, 1\) and \(1, 1, 1\)"):
        CategorySearch(1)(whole, whole[..., None])
    with pytest.raises(ConfigError, match="k must be an integer >= 1, got 0"):
        CategorySearch(0)
