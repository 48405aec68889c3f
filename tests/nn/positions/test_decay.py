import math

import pytest
import torch

from recattn.errors import ConfigError
from recattn.nn import AttentionPooling, DecayBias, DotScorer, Softmax

NOW, DAY = 1_700_000_000, 86400


def at_gaps(bias, gaps):
    """The bias (heads, events) of events so many seconds before NOW."""
    return bias(NOW - torch.tensor([gaps]), torch.tensor([NOW]))[0, :, 0]


def closed_form(gap, amplitude, gamma, beta, unit=DAY):
    return amplitude * gamma ** ((gap / unit) ** beta)


def inverse_softplus(beta):
    return math.log(math.expm1(beta))


@pytest.mark.parametrize("beta", [0.3, 1.0, 2.5])
def test_is_the_closed_form(beta):
    bias, gaps = DecayBias(2, unit=3600.0).double(), [0, 1, 59, 3600, 7201, 40_000]
    amplitudes, gammas = (1.5, -0.7), (0.9, 0.2)
    bias.amplitude.data = torch.tensor(amplitudes, dtype=torch.float64).view(2, 1, 1)
    bias.raw_gamma.data = torch.tensor(gammas, dtype=torch.float64).logit().view(2, 1, 1)
    bias.raw_beta.data.fill_(inverse_softplus(beta))
    expected = [[closed_form(g, a, c, beta, 3600) for g in gaps] for a, c in zip(amplitudes, gammas, strict=True)]
    torch.testing.assert_close(at_gaps(bias, gaps), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("num_heads", [1, 2, 5])
def test_heads_start_with_half_lives_from_a_day_to_months(num_heads):
    half_lives = [2 ** (8 * head / num_heads) * DAY for head in range(num_heads)]
    bias = at_gaps(DecayBias(num_heads), [0, *(round(life) for life in half_lives)])
    torch.testing.assert_close(bias[:, 0], torch.ones(num_heads))
    torch.testing.assert_close(bias[:, 1:].diagonal(), torch.full((num_heads,), 0.5))
    assert half_lives[0] == DAY


def test_it_falls_from_its_amplitude_to_nothing():
    bias = at_gaps(DecayBias(3), [0, 1, 60, DAY, 30 * DAY, 365 * DAY, 10**9, 2**40])
    assert (bias.diff() <= 0).all()
    assert (bias[:, 0] == 1).all()
    assert (bias[:, -1] == 0).all()


def test_epoch_seconds_keep_their_last_digit():
    """In fp32 these times are 128 s apart, and the four gaps would be one."""
    bias = at_gaps(DecayBias(unit=1.0), [1, 2, 3, 5])
    torch.testing.assert_close(bias[0], 0.5 ** torch.tensor([1.0, 2, 3, 5]))


def test_only_the_time_that_has_passed_counts():
    bias, times, now = DecayBias(2), torch.randint(0, 10**6, (3, 7)), torch.randint(10**6, 2 * 10**6, (3, 5))
    together = bias(times, now)
    assert together.shape == (3, 2, 5, 7)
    assert torch.equal(together, bias(times + NOW, now + NOW))
    assert torch.equal(together[:, :, 2:3], bias(times, now[:, 2]))
    assert (bias(now, times[:, 0])[:, :, 0] == 1).all()  # after the request: as if now


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("beta", [1e-3, 0.2, 1.0, 7.0, 60.0])
@pytest.mark.parametrize("raw_gamma", [-200.0, 0.0, 15.0, 60.0, 300.0])
def test_gradients_are_finite_at_every_gap(dtype, beta, raw_gamma):
    """At gap 0 and beta < 1 the slope of x^beta is infinite; (2^62 s)^60 is infinite itself."""
    bias = DecayBias(2).to(dtype)
    bias.raw_beta.data.fill_(inverse_softplus(beta))
    bias.raw_gamma.data.fill_(raw_gamma)
    got = at_gaps(bias, [0, 1, 2, DAY - 1, DAY, DAY + 1, 400 * DAY, 2**62])
    assert got.dtype == dtype
    assert ((got >= 0) & (got <= 1)).all()
    got.sum().backward()
    for parameter in bias.parameters():
        assert parameter.grad.isfinite().all()


def test_every_parameter_has_the_gradient_of_the_closed_form():
    bias = DecayBias(2).double()
    names = dict(bias.named_parameters())
    leaves = [p.detach().clone().requires_grad_() for p in names.values()]

    def run(*values):
        times, now = NOW - torch.tensor([[0, 7, DAY, 40 * DAY]]), torch.tensor([NOW])
        return torch.func.functional_call(bias, dict(zip(names, values, strict=True)), (times, now))

    assert torch.autograd.gradcheck(run, leaves)


def test_padding_neither_shifts_nor_trains_it():
    layer, bias = AttentionPooling(DotScorer(), Softmax()), DecayBias(unit=60.0).double()
    keys, mask = torch.randn(1, 3, 2, dtype=torch.float64), torch.ones(1, 3, dtype=torch.bool)
    times, found = torch.tensor([[NOW - 90, NOW - 30, NOW - 1]]), []
    for extra, garbage in ((0, 0), (4, 0), (4, NOW + 10**6)):
        more = torch.cat([keys, torch.full((1, extra, 2), 9.0, dtype=torch.float64)], 1)
        when = torch.cat([times, torch.full((1, extra), garbage)], 1)
        real = torch.cat([mask, torch.zeros(1, extra, dtype=torch.bool)], 1)
        output = layer(keys[:, 0], more, mask=real, bias=bias(when, torch.tensor([NOW])).squeeze(1)).output
        found.append((output, *torch.autograd.grad(output.square().sum(), list(bias.parameters()))))
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


def test_reset_parameters_repeats_the_start():
    bias, start = DecayBias(3), DecayBias(3).state_dict()
    for parameter in bias.parameters():
        torch.nn.init.normal_(parameter)
    bias.reset_parameters()
    assert all(torch.equal(x, start[name]) for name, x in bias.state_dict().items())


def test_wrong_arguments_are_named():
    with pytest.raises(ConfigError, match="num_heads must be an integer >= 1, got 0"):
        DecayBias(0)
    with pytest.raises(ConfigError, match="unit must be a finite number > 0, got 0"):
        DecayBias(unit=0)
    with pytest.raises(ConfigError, match="times and now must be integers"):
        DecayBias()(torch.tensor([[1.5]]), torch.tensor([2]))
