import pytest
import torch

from recattn.nn.attention.prefix import CHUNK, decay, prefix_sums, running_top

BATCH, HEADS, FEATURES, VALUE_DIM = 2, 3, 5, 7
LENGTHS = [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 11]


def given(length, *, spread=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.rand(BATCH, HEADS, length, FEATURES, dtype=torch.float64, generator=generator) for _ in range(2))
    scale = torch.randn(BATCH, HEADS, length, dtype=torch.float64, generator=generator) * spread
    return q, k, scale, torch.randn(BATCH, HEADS, length, VALUE_DIM, dtype=torch.float64, generator=generator)


def event_by_event(q, k, scale, v):
    """The definition, one sum over the past after the other."""
    sums = []
    for i in range(q.shape[-2]):
        top = scale[..., : i + 1].amax(-1, keepdim=True).clamp(min=torch.finfo(scale.dtype).min)
        shares = (scale[..., : i + 1] - top).exp() * (q[..., i : i + 1, :] * k[..., : i + 1, :]).sum(-1)
        sums.append((shares.unsqueeze(-1) * v[..., : i + 1, :]).sum(-2))
    return torch.stack(sums, -2)


@pytest.mark.parametrize("length", LENGTHS)
def test_sums_over_the_past_of_every_position(length):
    torch.testing.assert_close(prefix_sums(*given(length)), event_by_event(*given(length)))


@pytest.mark.parametrize("spread", [1.0, 300.0])
def test_gradients_are_those_of_the_definition(spread):
    """The scale has a gradient only where it is not the largest so far, as that is taken for a constant."""
    leaves = [x.requires_grad_() for x in given(2 * CHUNK + 3, spread=spread)]
    slope = torch.randn(BATCH, HEADS, 2 * CHUNK + 3, VALUE_DIM, dtype=torch.float64)
    q, k, scale, v = leaves
    top = running_top(scale)
    expected = (q @ k.mT * (scale.unsqueeze(-2) - top.unsqueeze(-1)).tril().exp().tril()) @ v
    got = prefix_sums(*leaves)
    torch.testing.assert_close(got, expected)
    wanted = torch.autograd.grad((expected * slope).sum(), leaves)
    for found, wish in zip(torch.autograd.grad((got * slope).sum(), leaves), wanted, strict=True):
        torch.testing.assert_close(found, wish)


def test_an_empty_sequence_has_no_sums():
    assert prefix_sums(*given(0)).shape == (BATCH, HEADS, 0, VALUE_DIM)


@pytest.mark.parametrize("first", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_no_future_event_decides_the_scale_of_the_past(first):
    """The trap: with one maximum over the whole sequence, the sums before e^400 would be 0, in every digit lost."""
    before, after = given(3 * CHUNK), given(3 * CHUNK)
    after[2][..., first:] += 400.0
    after[3][..., first:, :] -= 1e3
    for dtype in (torch.float32, torch.float64):
        past, same = (prefix_sums(*(x.to(dtype) for x in some))[..., :first, :] for some in (before, after))
        assert torch.equal(past, same)
        assert (past != 0).all()


@pytest.mark.parametrize("rising", [True, False])
def test_scales_of_any_size_are_finite_in_fp32(rising):
    q, k, _, v = (x.float().requires_grad_() for x in given(3 * CHUNK))
    scale = torch.linspace(-3e4, 3e4, 3 * CHUNK).expand(BATCH, HEADS, -1)
    sums = prefix_sums(q, k, scale if rising else scale.flip(-1), v)
    sums.square().sum().backward()
    assert all(x.grad.isfinite().all() for x in (q, k, v))
    # The largest event alone is left: the latest where they rise, the first where they fall.
    alone = v if rising else v[..., :1, :]
    shares = (q * (k if rising else k[..., :1, :])).sum(-1, keepdim=True)
    torch.testing.assert_close(sums, shares * alone)


def test_what_is_not_there_adds_nothing_wherever_it_lies():
    q, k, scale, v = given(2 * CHUNK + 5)
    real = torch.rand(BATCH, 1, 2 * CHUNK + 5, generator=torch.Generator().manual_seed(1)) < 0.5
    real[0, :, : CHUNK + 3] = False  # more than a chunk of nothing at the start
    sums = prefix_sums(q, k, scale.masked_fill(~real, -torch.inf), v)
    assert (sums[0, :, : CHUNK + 3] == 0).all()
    torch.testing.assert_close(sums, event_by_event(q, k, scale.masked_fill(~real, -torch.inf), v))
    for row in range(BATCH):
        kept = real[row, 0]
        alone = prefix_sums(
            *(x[row : row + 1, :, kept] for x in (q, k)), scale[row : row + 1, :, kept], v[row : row + 1, :, kept]
        )
        torch.testing.assert_close(sums[row : row + 1, :, kept], alone)


def test_nothing_there_at_all_is_zero_with_finite_gradients():
    q, k, scale, v = (x.requires_grad_() for x in given(CHUNK + 3))
    sums = prefix_sums(q, k, scale.masked_fill(torch.ones_like(scale, dtype=torch.bool), -torch.inf), v)
    assert (sums == 0).all()
    sums.sum().backward()
    assert all(x.grad.isfinite().all() for x in (q, k, scale, v))


def test_the_running_top_is_finite_and_a_constant():
    scale = torch.tensor([-torch.inf, -3.0, -5.0, 2.0, -torch.inf], requires_grad=True)
    top = running_top(scale)
    assert top.tolist() == [torch.finfo(torch.float32).min, -3.0, -3.0, 2.0, 2.0]
    assert not top.requires_grad


def test_decay_is_that_of_the_past_alone():
    scale = torch.tensor([0.0, 1.0, 999.0]).log()
    expected = torch.tensor([[0, 0, 0], [0, 1, 0], [0, 1 / 999, 1]])
    torch.testing.assert_close(decay(scale, running_top(scale)), expected)


def kept_for_the_backward_pass(length):
    sizes, inputs = [], [x.requires_grad_() for x in given(length)]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        prefix_sums(*inputs)
    return sum(sizes)


def test_memory_grows_with_the_length_and_not_with_its_square():
    assert kept_for_the_backward_pass(16 * CHUNK) < 2.1 * kept_for_the_backward_pass(8 * CHUNK)
