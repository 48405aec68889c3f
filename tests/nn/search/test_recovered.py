import pytest
import torch

from recattn.errors import ConfigError
from recattn.nn import AttentionPooling, ClusterPooling, DotScorer, DotSearch, Found, Softmax, recovered_mass

EXACT = torch.tensor([[[0.5, 0.3, 0.2, 0.0], [0.1, 0.2, 0.3, 0.4]]])


def test_it_is_the_weight_of_what_was_found():
    found = Found(torch.tensor([[[0, 2], [3, 0]]]), torch.tensor([[[True, True], [True, False]]]))
    torch.testing.assert_close(recovered_mass(EXACT, found), torch.tensor([[0.7, 0.4]]))
    torch.testing.assert_close(recovered_mass(EXACT, found.spread(4)), torch.tensor([[0.7, 0.4]]))


def test_one_search_for_all_queries_counts_for_each_and_for_each_head():
    found = Found(torch.tensor([[[0, 3]]]), torch.ones(1, 1, 2, dtype=torch.bool))
    torch.testing.assert_close(recovered_mass(EXACT, found), torch.tensor([[0.5, 0.5]]))
    with_heads = torch.stack([EXACT, EXACT.flip(-1)], 1)
    expected = torch.tensor([[[0.5, 0.5], [0.5, 0.5]]])
    torch.testing.assert_close(recovered_mass(with_heads, found), expected)


def test_of_two_distributions_it_is_one_less_half_their_distance():
    exact, other = torch.randn(2, 3, 5, 7, 11, dtype=torch.float64).softmax(-1)
    expected = 1 - (exact - other).abs().sum(-1) / 2
    torch.testing.assert_close(recovered_mass(exact, other), expected)
    torch.testing.assert_close(recovered_mass(exact, exact), torch.ones(3, 5, 7, dtype=torch.float64))


def test_everything_found_is_1_and_an_empty_history_0():
    assert recovered_mass(EXACT, torch.ones(1, 1, 4, dtype=torch.bool)).tolist() == [[1, 1]]
    assert recovered_mass(EXACT * 0, torch.ones(1, 1, 4, dtype=torch.bool)).tolist() == [[0, 0]]
    assert recovered_mass(torch.zeros(2, 3, 0), torch.zeros(2, 3, 0)).tolist() == [[0, 0, 0]] * 2


def test_small_weights_of_half_precision_are_summed_wide():
    mass = recovered_mass(
        torch.full((1, 1, 10**4), 1e-4, dtype=torch.float16), torch.ones(1, 1, 10**4, dtype=torch.bool)
    )
    assert mass.dtype == torch.float32
    assert mass.item() == pytest.approx(1, abs=1e-3)


def test_the_best_k_recover_more_than_any_other_k_and_clusters_more_the_more_there_are():
    torch.manual_seed(0)
    query, keys = torch.randn(2, 5, 3), torch.randn(2, 101, 3)
    exact = AttentionPooling(DotScorer(), Softmax())(query, keys).weights
    best = recovered_mass(exact, DotSearch(7, DotScorer())(query, keys))
    torch.testing.assert_close(best, exact.sort(dim=-1).values[..., -7:].sum(-1))
    few, many = (
        recovered_mass(
            exact, ClusterPooling(AttentionPooling(DotScorer(), Softmax()), num_clusters=n)(query, keys).weights
        )
        for n in (2, 50)
    )
    assert (few < many).all()


@pytest.mark.parametrize("shape", [(1, 2, 3), (1, 2, 2, 4), (2, 4)])
def test_another_shape_is_refused(shape):
    with pytest.raises(ConfigError, match=r"approximate must be .* like exact's \(1, 2, 4\)"):
        recovered_mass(EXACT, torch.zeros(shape))
