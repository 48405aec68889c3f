import subprocess
import sys

import pytest
import torch

from recattn.errors import ConfigError
from recattn.nn.attended import at_least_float32, fill_masked, full_mask


def test_a_mask_of_events_gets_a_queries_axis_and_one_of_pairs_keeps_its_own():
    keys = torch.zeros(3, 7, 11)
    assert full_mask(torch.ones(3, 7, dtype=torch.bool), keys).shape == (3, 1, 7)
    assert full_mask(torch.ones(3, 5, 7, dtype=torch.bool), keys).shape == (3, 5, 7)
    assert full_mask(None, keys) is None


@pytest.mark.parametrize("mask", [torch.ones(3, 7), torch.ones(3, 7, dtype=torch.int64)])
def test_a_mask_that_is_not_boolean_is_refused(mask):
    with pytest.raises(ConfigError, match=f"mask must be boolean .* got {mask.dtype}"):
        full_mask(mask, torch.zeros(3, 7, 11))


def test_a_mask_of_another_length_is_refused_and_not_broadcast():
    with pytest.raises(ConfigError, match=r"mask must cover the 7 keys, got shape \(3, 1\)"):
        full_mask(torch.ones(3, 1, dtype=torch.bool), torch.zeros(3, 7, 11))


def test_masked_values_get_no_gradient_even_when_they_are_not_numbers():
    values = torch.tensor([2.0, float("nan"), float("inf")], requires_grad=True)
    fill_masked(values, torch.tensor([True, False, False]), 0.0).square().sum().backward()
    assert values.grad.tolist() == [4.0, 0.0, 0.0]


def test_only_half_precision_is_widened():
    kinds = {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.float64: torch.float64}
    assert all(at_least_float32(torch.ones(1, dtype=given)).dtype == wide for given, wide in kinds.items())


def test_importing_attention_pulls_nothing_but_torch():
    script = (
        "import sys, torch; before = set(sys.modules); import recattn.nn;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "heavy = new & {'pandas', 'pytorch_lightning', 'sklearn', 'scipy', 'pyarrow', 'jaxtyping', 'matplotlib'};"
        "assert not heavy, heavy; assert {'recattn'} <= new"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
