import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recattn.nn import HardRetrieval, Softmax, TopK
from recattn.nn.weightings.hard import best_k


def test_hard_retrieval_takes_the_best_real_event():
    scores = torch.tensor([[1.0, 3.0, 2.0, 9.0]])
    assert HardRetrieval()(scores, torch.tensor([[True, True, True, False]])).tolist() == [[0, 1, 0, 0]]


@pytest.mark.parametrize("length", [3, 8, 100, 1000])
def test_ties_go_to_the_earlier_event(length):
    scores = torch.zeros(2, length)
    scores[:, 0] = -1
    assert HardRetrieval()(scores).argmax(-1).tolist() == [1, 1]
    assert TopK(2)(scores).nonzero()[:, 1].tolist() == [1, 2, 1, 2]


def test_hard_retrieval_is_one_hot_in_training_with_the_gradient_of_the_softmax():
    scores = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(7) < torch.tensor([[7], [4], [0]])
    direction = torch.randn(3, 7, dtype=torch.float64)
    weights = HardRetrieval(temperature=0.5)(scores, mask)
    assert sorted(weights.unique().tolist()) == [0, 1]
    (hard,) = torch.autograd.grad((weights * direction).sum(), scores)
    (soft,) = torch.autograd.grad((Softmax(temperature=0.5)(scores, mask) * direction).sum(), scores)
    torch.testing.assert_close(hard, soft)
    assert not HardRetrieval().eval()(scores, mask).requires_grad


def test_softmax_at_a_low_temperature_is_hard_retrieval():
    scores = torch.randn(5, 11)
    torch.testing.assert_close(Softmax(temperature=1e-4)(scores), HardRetrieval()(scores))


def test_top_k_is_the_softmax_over_the_k_best():
    scores = torch.tensor([1.0, 2.0, 5.0, 100.0]).log()[None]
    mask = torch.tensor([[True, True, True, False]])
    torch.testing.assert_close(TopK(2)(scores, mask), torch.tensor([[0, 2 / 7, 5 / 7, 0]]))
    for k in (3, 4, 17):
        torch.testing.assert_close(TopK(k)(scores, mask), Softmax()(scores, mask))


def test_top_k_gives_no_gradient_to_events_left_out():
    scores = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    TopK(2)(scores).square().sum().backward()
    assert scores.grad[0, 0] == 0
    assert (scores.grad[0, 1:] != 0).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(-2, 2), st.booleans()), min_size=1, max_size=9), st.integers(1, 11))
def test_best_k_is_a_stable_sort(row, k):
    scores = torch.tensor([[float(score) for score, _ in row]])
    mask = torch.tensor([[real for _, real in row]])
    order = sorted((j for j, (_, real) in enumerate(row) if real), key=lambda j: (-row[j][0], j))
    assert best_k(scores, mask, k)[0].nonzero().flatten().tolist() == sorted(order[:k])
