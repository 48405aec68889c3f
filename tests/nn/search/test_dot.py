import numpy as np
import pytest
import torch

from recattn.errors import ConfigError
from recattn.nn import AdditiveScorer, BilinearScorer, DotScorer, DotSearch, ScaledDotScorer


def listed(found, *row):
    return found.places[row][found.mask[row]].tolist()


@pytest.mark.parametrize("length", [13, 997])
def test_finds_what_sorting_the_products_finds(length):
    generator = torch.Generator().manual_seed(0)
    query, keys = (torch.randn(2, n, 5, generator=generator, dtype=torch.float64) for n in (3, length))
    mask = torch.arange(length) < torch.tensor([[length], [11]])
    bias = torch.randn(2, 3, length, generator=generator, dtype=torch.float64)
    weight = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    learned = BilinearScorer(5, 5).double()
    learned.weight.data.copy_(weight)
    products = {
        DotScorer(): query.numpy() @ keys.mT.numpy(),
        ScaledDotScorer(): query.numpy() @ keys.mT.numpy() / 5**0.5,
        learned: query.numpy() @ weight.numpy() @ keys.mT.numpy(),
    }
    for scorer, scores in products.items():
        for extra in (None, bias):
            found = DotSearch(7, scorer)(query, keys, mask, bias=extra)
            wanted = scores if extra is None else scores + extra.numpy()
            for row, real in enumerate((length, 11)):
                for i in range(3):
                    best = np.argsort(-wanted[row, i, :real], kind="stable")[:7]
                    assert listed(found, row, i) == sorted(best.tolist())


def test_a_bias_for_each_event_decides_and_one_for_each_query_changes_nothing():
    """The trap: a constant a head, added under a top-k, is a no-op."""
    query, keys = torch.randn(1, 2, 3), torch.randn(1, 11, 3)
    plain = DotSearch(4)(query, keys)
    constant = DotSearch(4)(query, keys, bias=torch.tensor([[[5.0], [-5.0]]]))
    assert torch.equal(constant.places, plain.places)
    decided = DotSearch(4)(query, keys, bias=torch.arange(11.0).view(1, 1, 11) * 100)
    assert listed(decided, 0, 1) == [7, 8, 9, 10]


def test_by_default_a_bias_weighs_as_in_scaled_dot_product_attention():
    """Scores 4 / sqrt(4) and 0 with a bias of 3: unscaled, the first event would win."""
    query, keys, bias = torch.ones(1, 1, 4), torch.tensor([[[1.0] * 4, [0.0] * 4]]), torch.tensor([[[0.0, 3.0]]])
    assert listed(DotSearch(1)(query, keys, bias=bias), 0, 0) == [1]
    assert listed(DotSearch(1, DotScorer())(query, keys, bias=bias), 0, 0) == [0]


def test_choosing_has_no_gradient_and_the_scores_have_one():
    """SIM's second prediction: the search's own weights learn from the scores."""
    search = DotSearch(2, BilinearScorer(3, 5))
    query, keys = torch.randn(1, 2, 3), torch.randn(1, 7, 5, requires_grad=True)
    assert not search(query, keys).places.requires_grad
    (search.scores(query, keys) @ keys).square().sum().backward()
    assert (search.scorer.weight.grad != 0).all()
    assert (keys.grad != 0).all()


def test_wrong_arguments_are_named():
    with pytest.raises(ConfigError, match=r"scorer must be a product .* got AdditiveScorer"):
        DotSearch(3, AdditiveScorer(3, 3, hidden_dim=2))
    with pytest.raises(ConfigError, match=r"k must be an integer >= 1, got 1\.5"):
        DotSearch(1.5)
