import pytest
import torch
from torch import nn

from recattn.training.pieces import sum_of_losses


def parameters():
    return [nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in (2.0, 3.0, 5.0)]


def losses(a, b, c):
    """c is in the last alone, b in the first two; the gradient of a + b is one tensor for both."""
    return [lambda: a + b, lambda: a * b, lambda: a.exp() * c]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_sum_has_the_value_and_the_gradients_of_the_sum(count):
    expected, found = parameters(), parameters()
    (7 * sum(compute() for compute in losses(*expected)[:count])).backward()
    (7 * sum_of_losses(losses(*found)[:count], found)).backward()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=0, rtol=1e-12)


def test_gradients_agree_with_finite_differences():
    assert torch.autograd.gradcheck(lambda *given: sum_of_losses(losses(*given), given), parameters())


def test_what_is_frozen_gets_no_gradient():
    a, b, c = parameters()
    b.requires_grad_(requires_grad=False)
    sum_of_losses(losses(a, b, c), [a, b, c]).backward()
    assert a.grad is not None
    assert b.grad is None


def test_each_loss_has_its_backward_pass_before_the_next_is_computed():
    weight, course = nn.Parameter(torch.tensor(2.0)), []

    def compute(number):
        course.append(f"forward {number}")
        squared = weight**2
        squared.register_hook(lambda _: course.append(f"backward {number}"))
        return squared.sum()

    sum_of_losses([lambda: compute(1), lambda: compute(2)], [weight])
    assert course == ["forward 1", "backward 1", "forward 2", "backward 2"]
