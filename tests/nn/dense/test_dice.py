import copy

import pytest
import torch
from torch import nn

from recattn.nn import Dice


def learned(dim=3, **options):
    dice = Dice(dim, **options).double()
    nn.init.normal_(dice.alpha)
    return dice


def formula(dice, x, mean, variance):
    p = torch.sigmoid((x - mean) / (variance + dice.eps).sqrt())
    return p * x + dice.alpha * (1 - p) * x


def test_dice_by_hand_in_evaluation():
    dice = Dice(1).eval()
    dice.alpha.data.fill_(0.25)
    dice.running_mean.fill_(1.0)
    dice.running_var.fill_(4.0)
    # (3 - 1) / 2 = 1: p = 0.731059; 3 p + 0.25 * 3 (1 - p)
    torch.testing.assert_close(dice(torch.tensor([3.0])), torch.tensor([3 * 0.7310586 + 0.75 * 0.2689414]))


@pytest.mark.parametrize("train", [True, False])
def test_dice_is_the_formula_around_torch_batch_norm(train):
    dice = learned(momentum=0.1).train(train)
    norm = nn.BatchNorm1d(3, eps=dice.eps, momentum=0.1, affine=False).double().train(train)
    for _ in range(3):
        x = torch.randn(17, 3, dtype=torch.float64) * 5 + 2
        p = norm(x).sigmoid()
        torch.testing.assert_close(dice(x), p * x + dice.alpha * (1 - p) * x)
    torch.testing.assert_close(dice.running_mean, norm.running_mean)
    torch.testing.assert_close(dice.running_var, norm.running_var)


def test_padding_does_not_move_output_gradients_or_statistics():
    short, long = (learned() for _ in range(2))
    long.load_state_dict(short.state_dict())
    x = torch.randn(2, 7, 3, dtype=torch.float64, requires_grad=True)
    y = torch.cat([x.detach(), torch.full((2, 45, 3), 1e3, dtype=torch.float64)], 1).requires_grad_()
    mask = torch.arange(52) < torch.tensor([[7], [7]])
    slope = torch.randn(2, 7, 3, dtype=torch.float64)
    left, right = short(x), long(y, mask)[:, :7]
    torch.testing.assert_close(left, right)
    (left * slope).sum().backward()
    (right * slope).sum().backward()
    torch.testing.assert_close(x.grad, y.grad[:, :7])
    assert (y.grad[:, 7:] == 0).all()
    torch.testing.assert_close(short.alpha.grad, long.alpha.grad)
    torch.testing.assert_close(short.state_dict(), long.state_dict())


def test_statistics_are_those_of_the_real_rows_alone():
    dice = learned()
    x = torch.randn(5, 7, 3, dtype=torch.float64)
    mask = torch.arange(7) < torch.tensor([[7], [1], [0], [3], [2]])
    real = x[mask]
    expected = formula(dice, real, real.mean(0), real.var(0, unbiased=False))
    torch.testing.assert_close(dice(x, mask)[mask], expected)


def test_one_real_position_learns_a_mean_and_no_variance():
    dice = learned(momentum=0.5)
    x = torch.full((1, 2, 3), 4.0, dtype=torch.float64, requires_grad=True)
    output = dice(x, torch.tensor([[True, False]]))
    output[0, 0].sum().backward()
    torch.testing.assert_close(output[0, 0], 2 + 2 * dice.alpha)  # p = 1/2
    assert dice.running_mean.tolist() == [2, 2, 2]
    assert dice.running_var.tolist() == [1, 1, 1]
    assert x.grad.isfinite().all()


def test_no_real_position_leaves_the_statistics():
    dice = learned()
    before = copy.deepcopy(dice.state_dict())
    output = dice(torch.randn(2, 5, 3, dtype=torch.float64), torch.zeros(2, 5, dtype=torch.bool))
    assert output.isfinite().all()
    torch.testing.assert_close(dice.state_dict(), before, atol=0, rtol=0)


def test_dice_has_the_gradient_of_its_formula_in_training():
    dice = learned(momentum=0.1)
    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    assert torch.autograd.gradcheck(lambda x: dice(x, mask)[mask], x)


def test_dice_differs_from_silu():
    """A Dice without normalisation is just x sigmoid(x)."""
    x = torch.randn(19, 3) * 3 + 1
    assert not torch.allclose(Dice(3)(x), nn.functional.silu(x), atol=0.05)


def test_a_far_mean_in_half_precision_is_met_in_fp32():
    x = torch.tensor([[1000.0], [1001.0], [1002.0]])
    for dtype in (torch.float16, torch.float32):
        torch.testing.assert_close(Dice(1).to(dtype)(x.to(dtype)).float(), Dice(1)(x), rtol=2e-3, atol=0)
