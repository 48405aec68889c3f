import pytest
import torch

import recattn.nn as rnn
from recattn.errors import ConfigError
from recattn.nn.checks import check_count, check_positive

WRONG = [
    (lambda: rnn.Softmax(temperature=0.0), "temperature must be a finite number > 0, got 0.0"),
    (lambda: rnn.HardRetrieval(temperature=-1.0), "temperature must be a finite number > 0, got -1.0"),
    (lambda: rnn.TopK(0), "k must be an integer >= 1, got 0"),
    (lambda: rnn.TopK(2, temperature=float("nan")), "temperature must be a finite number > 0, got nan"),
    (lambda: rnn.Identity(scale="sqrt"), "scale must be one of none, sqrt_length, got 'sqrt'"),
    (lambda: rnn.AdditiveScorer(3, 5, hidden_dim=0), "hidden_dim must be an integer >= 1, got 0"),
    (lambda: rnn.BilinearScorer(3, 0), "key_dim must be an integer >= 1, got 0"),
    (lambda: rnn.ActivationUnitScorer(3, 5), r"query_dim and key_dim must be equal .* got 3 and 5"),
    (lambda: rnn.ActivationUnitScorer(3, 3, hidden_dims=()), r"hidden_dims must name at least one width, got \(\)"),
    (lambda: rnn.ActivationUnitScorer(3, 3, activation="tanh"), "activation must be one of dice, .* got 'tanh'"),
    (lambda: rnn.Dice(3, momentum=1.0), r"momentum must be in \[0, 1\), got 1.0"),
    (lambda: rnn.Dice(3, eps=0.0), "eps must be a finite number > 0, got 0.0"),
    (lambda: rnn.MultiHeadAttention(7, 5, num_heads=2), "num_heads must divide query_dim 7 .* got 2"),
    (lambda: rnn.MultiHeadAttention(6, 5, num_heads=0), "num_heads must be an integer >= 1, got 0"),
    (lambda: rnn.MultiHeadAttention(6, 5, num_heads=2, dropout=1.0), r"dropout must be in \[0, 1\), got 1.0"),
    (lambda: rnn.MultiHeadAttention(6, 5, num_heads=2, value_dim=0), "value_dim must be an integer >= 1, got 0"),
    (lambda: rnn.RecencyBias(max_age=-1), "max_age must be an integer >= 0, got -1"),
    (
        lambda: rnn.RecencyBias(num_heads=2, slopes=[0.5]),
        r"slopes must have one entry for each of the 2 heads, got \[0.5\]",
    ),
    (lambda: rnn.RecencyBias(slopes=[0.0]), "slopes must be a finite number > 0, got 0.0"),
    (lambda: rnn.RecencyBias()(torch.zeros(2, 3)), "ages must be integers, got torch.float32"),
    (lambda: rnn.TimeBias(num_buckets=1), "num_buckets must be an integer >= 2, got 1"),
    (lambda: rnn.TimeBias(base=1.0), r"base must be > 1 .* got 1.0 for 32 buckets"),
    (lambda: rnn.TimeBias(num_buckets=80), r"base must be > 1 with .* got 2.0 for 80 buckets"),
    (lambda: rnn.TimeBias()(torch.zeros(2, 3), torch.zeros(2)), "times and now must be integers .* got torch.float32"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_argument_is_named_with_its_value(call, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        call()


@pytest.mark.parametrize("value", [True, 2.0, "2", None])
def test_a_count_is_an_integer(value):
    with pytest.raises(ConfigError, match="num_heads must be an integer >= 1"):
        check_count("num_heads", value)


def test_infinity_is_not_a_temperature():
    with pytest.raises(ConfigError, match="got inf"):
        check_positive("temperature", float("inf"))
