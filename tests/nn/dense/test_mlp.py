import pytest
import torch
from torch.nn import functional as F

from recattn.errors import ConfigError
from recattn.nn import MLP, Dice


def test_is_its_formula():
    mlp = MLP(3, (7, 5), 2, activation="relu").double()
    x = torch.randn(11, 3, dtype=torch.float64)
    first, second, last = (layer for layer in mlp.layers if isinstance(layer, torch.nn.Linear))
    hidden = (x @ first.weight.T + first.bias).clamp(min=0)
    hidden = (hidden @ second.weight.T + second.bias).clamp(min=0)
    torch.testing.assert_close(mlp(x), hidden @ last.weight.T + last.bias)
    assert [tuple(layer.weight.shape) for layer in (first, second, last)] == [(7, 3), (5, 7), (2, 5)]


@pytest.mark.parametrize("activation", ["dice", "prelu", "sigmoid", "relu"])
def test_any_leading_axes(activation):
    mlp = MLP(3, (7,), 5, activation=activation).eval()
    x = torch.randn(2, 11, 3)
    assert mlp(x).shape == (2, 11, 5)
    torch.testing.assert_close(mlp(x)[1, 4], mlp(x[1, 4]))


def test_without_hidden_layers_it_is_linear():
    mlp = MLP(3, (), 2)
    x = torch.randn(5, 3)
    torch.testing.assert_close(mlp(x), F.linear(x, mlp.layers[0].weight, mlp.layers[0].bias))


def test_the_activation_is_the_one_that_was_named():
    mlp = MLP(2, (2,), 2, activation="sigmoid")
    with torch.no_grad():
        for layer in (mlp.layers[0], mlp.layers[2]):
            layer.weight.copy_(torch.eye(2))
            layer.bias.zero_()
    torch.testing.assert_close(mlp(torch.tensor([0.0, 2.0])), torch.tensor([0.0, 2.0]).sigmoid())
    mlp = MLP(1, (1, 1), 1, activation="prelu")
    assert [type(layer).__name__ for layer in mlp.layers] == ["Linear", "PReLU"] * 2 + ["Linear"]


def test_dice_learns_from_real_rows_alone():
    x, mask = torch.randn(5, 7, 3), torch.rand(5, 7) < 0.6
    torch.manual_seed(1)
    plain = MLP(3, (11, 5), 1, activation="dice")
    torch.manual_seed(1)
    padded = MLP(3, (11, 5), 1, activation="dice")
    expected = plain(x[mask])
    found = padded(x.masked_fill(~mask[..., None], 97.0), mask)
    torch.testing.assert_close(found[mask], expected)
    for left, right in zip(plain.modules(), padded.modules(), strict=True):
        if isinstance(left, Dice):
            assert (left.running_mean != 0).all()
            torch.testing.assert_close(right.running_mean, left.running_mean)
            torch.testing.assert_close(right.running_var, left.running_var)


def test_wrong_arguments_are_named():
    for arguments, name in [
        ((0, (3,), 1), "input_dim must be an integer >= 1, got 0"),
        ((2, (3, 0), 1), "hidden_dims must be an integer >= 1, got 0"),
        ((2, (3,), -1), "output_dim must be an integer >= 1, got -1"),
    ]:
        with pytest.raises(ConfigError, match=name):
            MLP(*arguments)
    with pytest.raises(ConfigError, match="activation must be one of dice, prelu, sigmoid, relu, got 'tanh'"):
        MLP(2, (3,), 1, activation="tanh")
