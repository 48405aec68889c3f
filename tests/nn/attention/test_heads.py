import pytest
import torch
from torch import nn

from recattn.errors import ConfigError
from recattn.nn.attention.heads import head_widths, merge_heads, reset_projections, shared_mask, split_heads

DEFAULTS = dict.fromkeys(("key_dim", "value_dim", "value_source_dim", "output_dim"))


def test_splitting_gives_each_head_its_own_columns_and_merging_undoes_it():
    x = torch.arange(2 * 3 * 10).view(2, 3, 10)
    heads = split_heads(x, 5)
    assert heads.shape == (2, 5, 3, 2)
    assert torch.equal(heads[1, 4, 2], x[1, 2, 8:])
    assert torch.equal(merge_heads(heads), x)


def test_widths_follow_from_query_and_source():
    assert head_widths(22, 13, 2, **DEFAULTS) == (11, 11, 13, 22)
    given = {"key_dim": 3, "value_dim": 5, "value_source_dim": 7, "output_dim": 11}
    assert head_widths(23, 13, 2, **given) == (3, 5, 7, 11)


@pytest.mark.parametrize("name", ["query_dim", "source_dim", "num_heads", *DEFAULTS])
def test_a_width_below_one_is_named(name):
    given = {"query_dim": 6, "source_dim": 5, "num_heads": 2, **DEFAULTS, name: 0}
    with pytest.raises(ConfigError, match=f"^{name} must be an integer >= 1, got 0"):
        head_widths(given.pop("query_dim"), given.pop("source_dim"), given.pop("num_heads"), **given)


def test_heads_must_divide_the_query_only_where_the_default_needs_it():
    with pytest.raises(ConfigError, match=r"num_heads must divide query_dim 7 .* got 2"):
        head_widths(7, 5, 2, **{**DEFAULTS, "key_dim": 3})
    assert head_widths(7, 5, 2, **{**DEFAULTS, "key_dim": 3, "value_dim": 3})[:2] == (3, 3)


def test_projections_start_xavier_uniform_with_biases_at_zero():
    layer = nn.Linear(300, 100)
    reset_projections(layer, nn.Linear(2, 3, bias=False))
    bound = (6 / 400) ** 0.5
    assert 0.99 * bound < layer.weight.abs().max() <= bound
    assert (layer.bias == 0).all()


def test_a_shared_mask_is_one_for_all_queries():
    keys, mask = torch.zeros(2, 3, 5), torch.tensor([[True, False, True], [True, True, False]])
    assert shared_mask("Layer", None, keys) is None
    assert torch.equal(shared_mask("Layer", mask, keys), mask)
    assert torch.equal(shared_mask("Layer", mask[:, None], keys), mask)
    with pytest.raises(ConfigError, match=r"Layer summarises .* mask must be \(batch, length\), got shape \(2, 7, 3\)"):
        shared_mask("Layer", mask[:, None].expand(2, 7, 3), keys)
    with pytest.raises(ConfigError, match="boolean"):
        shared_mask("Layer", mask.float(), keys)
