import pytest
import torch

from recattn.errors import ConfigError
from recattn.nn import MultiHeadAttention, RelativePositionBias, event_ages, sequence_distances


def test_is_hstus_table_of_2n_minus_1_read_at_i_minus_j():
    """pos_w[j - i + N - 1] of the research code, written as a loop."""
    length, heads = 7, 3
    bias = RelativePositionBias(heads, length - 1, bidirectional=True)
    assert bias.table.shape == (heads, 2 * length - 1)
    got = bias(sequence_distances(length))
    assert got.shape == (1, heads, length, length)
    for i in range(length):
        for j in range(length):
            assert torch.equal(got[0, :, i, j], bias.table[:, i - j + length - 1])


def test_beyond_the_largest_distance_all_are_one():
    bias = RelativePositionBias(1, 2)
    bias.table.data = torch.tensor([[10.0, 20.0, 30.0]])
    assert bias(torch.tensor([[9, 3, 2, 1, 0, -1, -9]])).tolist() == [[[[30, 30, 30, 20, 10, 10, 10]]]]
    both = RelativePositionBias(1, 1, bidirectional=True)
    both.table.data = torch.tensor([[-1.0, 0.0, 1.0]])
    assert both(torch.tensor([[9, 1, 0, -1, -9]])).tolist() == [[[[1, 1, 0, -1, -1]]]]
    assert RelativePositionBias(2, 0).table.shape == (2, 1)


def test_entries_start_small_and_learn_where_they_were_met():
    bias = RelativePositionBias(5, 4000)
    assert bias.table.std().item() == pytest.approx(0.02, rel=0.05)
    bias(torch.tensor([[3, 1, 1]])).sum().backward()
    assert bias.table.grad[:, :5].tolist() == [[0, 2, 0, 1, 0]] * 5
    assert (bias.table.grad[:, 5:] == 0).all()


def test_padding_neither_shifts_nor_trains_it():
    layer, bias = MultiHeadAttention(6, 6, num_heads=2), RelativePositionBias(2, 9)
    x, mask = torch.randn(2, 7, 6), torch.arange(7) < torch.tensor([[7], [3]])
    more, longer = torch.cat([x, x + 9], 1), torch.cat([mask, torch.zeros_like(mask)], 1)
    slopes = []
    for keys, real in ((x, mask), (more, longer)):
        output = layer(x[:, 0], keys, mask=real, bias=bias(event_ages(real) + 1), need_weights=False).output
        slopes.append((output, *torch.autograd.grad(output.square().sum(), bias.table)))
    torch.testing.assert_close(*slopes)


def test_follows_to_half_precision():
    bias = RelativePositionBias(2, 5).half()
    assert bias(sequence_distances(7)).dtype == torch.float16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5), "num_heads must be an integer >= 1, got 0"),
        ((2, -1), "max_distance must be an integer >= 0, got -1"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        RelativePositionBias(*arguments)


def test_distances_must_be_whole():
    with pytest.raises(ConfigError, match=r"distances must be integers, got torch.float32"):
        RelativePositionBias(2, 5)(torch.zeros(1, 3))
