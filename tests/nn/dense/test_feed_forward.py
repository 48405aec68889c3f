import pytest
import torch
from torch.nn import functional as F

from recattn.errors import ConfigError
from recattn.nn import FeedForward


@pytest.mark.parametrize(("activation", "function"), [("relu", F.relu), ("gelu", F.gelu), ("silu", F.silu)])
def test_is_two_linear_layers_with_the_activation_between(activation, function):
    layer, x = FeedForward(5, hidden_dim=7, activation=activation), torch.randn(2, 3, 5)
    torch.testing.assert_close(layer(x), layer.outward(function(layer.inward(x))))


def test_swiglu_gates_one_half_by_the_other():
    layer, x = FeedForward(5, hidden_dim=7, activation="swiglu"), torch.randn(2, 3, 5)
    gate, content = (x @ part.T for part in (layer.inward.weight[:7], layer.inward.weight[7:]))
    torch.testing.assert_close(layer(x), (gate * gate.sigmoid() * content) @ layer.outward.weight.T)


def test_the_hidden_layer_is_four_times_as_wide_by_default():
    assert FeedForward(5).outward.in_features == 20


def test_dropout_acts_in_training_alone():
    layer, x = FeedForward(5, dropout=0.9), torch.randn(2, 3, 5)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim must be an integer >= 1, got 0"),
        ({"dim": 3, "hidden_dim": 0}, "hidden_dim must be an integer >= 1, got 0"),
        ({"dim": 3, "activation": "tanh"}, "activation must be one of relu, gelu, silu, swiglu, got 'tanh'"),
        ({"dim": 3, "dropout": 1.0}, "dropout must be in"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        FeedForward(**arguments)
