import math

import pytest
import torch

from recattn.errors import ConfigError
from recattn.nn import BucketHashPooling

both_kinds = pytest.mark.parametrize("normalize", [True, False])


def make(normalize=True, num_groups=7, num_bits=2, dim=3):
    torch.manual_seed(0)
    return BucketHashPooling(dim, num_groups=num_groups, num_bits=num_bits, normalize=normalize).double()


def inputs(length=23):
    generator = torch.Generator().manual_seed(1)
    query, keys, values = (
        torch.randn(3, n, dim, dtype=torch.float64, generator=generator)
        for n, dim in ((5, 3), (length, 3), (length, 13))
    )
    return query, keys, values, torch.arange(length) < torch.tensor([[length], [3], [0]])


def written_down(layer, query, keys, values, mask):
    """The paper's formula, event by event."""
    output = torch.zeros(*query.shape[:2], values.shape[2], dtype=torch.float64)
    planes = layer.planes.view(layer.dim, layer.num_groups, layer.num_bits)
    for row in range(len(query)):
        for i, q in enumerate(query[row]):
            for group in range(layer.num_groups):
                r = planes[:, group]
                bucket = [
                    v for k, v, real in zip(keys[row], values[row], mask[row], strict=True)
                    if real and torch.equal(k @ r > 0, q @ r > 0)
                ]  # fmt: skip
                found = sum(bucket, torch.zeros_like(output[row, i]))
                if layer.normalize and bucket:
                    found = found / found.norm()
                output[row, i] += found / layer.num_groups
    return output


@both_kinds
def test_equals_the_formula_of_the_paper(normalize):
    layer, given = make(normalize), inputs()
    expected = written_down(layer, *given)
    output, weights = layer(*given)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(layer(*given, need_weights=False).output, expected)
    torch.testing.assert_close(layer.reference(*given), expected)
    torch.testing.assert_close(weights @ given[2], expected)
    summary = layer.summarize(*given[1:])
    assert summary.shape == (3, 7, 4, 13)
    torch.testing.assert_close(layer.ask(given[0], summary), expected)
    torch.testing.assert_close(layer.ask(given[0][:, 2], summary), expected[:, 2])


@both_kinds
def test_gradients_of_the_values_are_those_of_the_reference(normalize):
    layer, (query, keys, values, mask) = make(normalize), inputs()
    values.requires_grad_()
    slope = torch.randn(3, 5, 13, dtype=torch.float64)
    (expected,) = torch.autograd.grad((layer.reference(query, keys, values, mask) * slope).sum(), values)
    for need_weights in (True, False):
        output = layer(query, keys, values, mask, need_weights=need_weights).output
        (got,) = torch.autograd.grad((output * slope).sum(), values)
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("num_bits", [1, 3])
@pytest.mark.parametrize("theta", [0.3, 1.2, 2.5])
def test_an_event_is_in_the_querys_bucket_with_the_probability_of_the_paper(theta, num_bits):
    """Without normalising, the weight of one event is the share of the groups in which it collides."""
    groups, expected = 4096, (1 - theta / math.pi) ** num_bits
    layer = make(normalize=False, num_groups=groups, num_bits=num_bits, dim=2)
    query, keys = torch.tensor([[3.0, 0.0]]).double(), torch.tensor([[[math.cos(theta), math.sin(theta)]]]).double()
    weight = layer(query, keys).weights.item()
    assert abs(weight - expected) < 5 * (expected * (1 - expected) / groups) ** 0.5


def test_codes_are_binary_numbers_of_the_sides():
    layer = make(num_groups=3, num_bits=16)
    vectors = torch.randn(7, 3).double()
    sides = (vectors @ layer.planes > 0).view(7, 3, 16).long()
    assert torch.equal(layer.codes(vectors), (sides * 2 ** torch.arange(16)).sum(-1))
    assert layer.codes(-vectors).add(layer.codes(vectors)).unique().tolist() == [2**16 - 1]


def test_sums_grow_with_the_history_and_normalised_sums_do_not():
    query, keys, values, _ = inputs()
    for normalize, factor in ((True, 1), (False, 4)):
        layer = make(normalize)
        once = layer(query, keys, values).output
        torch.testing.assert_close(layer(query, keys.repeat(1, 4, 1), values.repeat(1, 4, 1)).output, factor * once)


def test_a_bucket_whose_members_cancel_gives_0_and_finite_gradients():
    layer = make()
    keys = torch.ones(1, 2, 3).double()
    values = torch.tensor([[[2.0, -1.0], [-2.0, 1.0]]]).double().requires_grad_()
    output = layer(keys[:, :1], keys, values).output
    output.sum().backward()
    assert (output == 0).all()
    assert values.grad.isfinite().all()


def test_large_half_precision_sums_do_not_overflow():
    layer = make().half()
    keys = torch.ones(1, 1000, 3).half()
    output, weights = layer(keys[:, :1], keys, keys * 100)
    torch.testing.assert_close(output, torch.full_like(output, 3**-0.5))
    assert output.dtype == weights.dtype == torch.float16


def test_hyperplanes_are_the_same_in_every_pass_and_in_a_saved_model():
    layer, given = make(), inputs()
    assert torch.equal(layer(*given).output, layer(*given).output)
    assert list(layer.state_dict()) == ["planes"]
    before = layer(*given).output
    layer.redraw()
    assert not torch.equal(layer(*given).output, before)


def test_wrong_arguments_are_named():
    for wrong, message in (
        ({"num_bits": 17}, "num_bits must be at most 16"),
        ({"num_bits": 0}, "num_bits must be an integer >= 1, got 0"),
        ({"num_groups": 0}, "num_groups must be an integer >= 1, got 0"),
        ({"dim": 0}, "dim must be an integer >= 1, got 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            make(**wrong)
    query, keys, values, mask = inputs()
    with pytest.raises(ConfigError, match="bias must be None"):
        make()(query, keys, bias=torch.zeros(3, 5, 23), need_weights=False)
    with pytest.raises(ConfigError, match="mask must be"):
        make().summarize(keys, values, mask[:, None].expand(3, 5, 23))


def test_codes_and_sums_are_those_of_fp32_under_autocast():
    torch.manual_seed(0)
    layer, keys = BucketHashPooling(64, num_groups=16, num_bits=3), torch.randn(2, 500, 64)
    codes, sums = layer.codes(keys), layer.summarize(keys)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.codes(keys), codes)
        found = layer.summarize(keys)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, sums)
