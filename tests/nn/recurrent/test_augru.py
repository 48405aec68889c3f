import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from recattn.errors import ConfigError
from recattn.nn import AUGRU
from recattn.nn.recurrent.steps import RealSteps, captured_loop

BATCH, QUERIES, LENGTH, INPUT_DIM, HIDDEN_DIM = 3, 2, 7, 5, 11
FORMS = ("augru", "agru", "aigru")
MASK = torch.arange(LENGTH) < torch.tensor([4, 0, 7])[:, None]  # no two swapped: the order has an inverse of its own
HOLES = torch.tensor(
    [
        [[1, 0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0, 0]],
        [[0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0]],
        [[1, 1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0, 0]],
    ],
    dtype=torch.bool,
)
"""For each query its own, with gaps: (BATCH, QUERIES, LENGTH)."""


def make(form="augru", input_dim=INPUT_DIM, hidden_dim=HIDDEN_DIM):
    torch.manual_seed(1)
    layer = AUGRU(input_dim, hidden_dim, form=form).double()
    for layer_bias in (layer.input_gates.bias, layer.input_candidate.bias):
        nn.init.normal_(layer_bias)
    return layer


def leaves():
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(BATCH, LENGTH, INPUT_DIM, generator=generator, dtype=torch.float64)
    weights = torch.rand(BATCH, QUERIES, LENGTH, generator=generator, dtype=torch.float64)
    initial = torch.randn(BATCH, QUERIES, HIDDEN_DIM, generator=generator, dtype=torch.float64)
    return [x.requires_grad_() for x in (inputs, weights, initial)]


def step_by_formula(layer, h, x, a):
    """The paper's equations 2 to 5 and 14 to 16, for one event of one query."""
    gates = layer.input_gates.weight.split(HIDDEN_DIM), layer.state_gates.weight.split(HIDDEN_DIM)
    (w_r, *w_u), (u_r, *u_u) = gates
    b_r, *b_u = layer.input_gates.bias.split(HIDDEN_DIM)
    x = a * x if layer.form == "aigru" else x
    r = 1 / (1 + torch.exp(-(w_r @ x + u_r @ h + b_r)))
    new = torch.tanh(
        layer.input_candidate.weight @ x + r * (layer.state_candidate.weight @ h) + layer.input_candidate.bias
    )
    if layer.form == "agru":
        return (1 - a) * h + a * new
    u = 1 / (1 + torch.exp(-(w_u[0] @ x + u_u[0] @ h + b_u[0])))
    u = a * u if layer.form == "augru" else u
    return (1 - u) * h + u * new


def by_formula(layer, inputs, weights, mask, initial):
    """Row by row, query by query, over the real events alone."""
    states = torch.zeros(BATCH, QUERIES, LENGTH, HIDDEN_DIM, dtype=torch.float64)
    last = torch.zeros(BATCH, QUERIES, HIDDEN_DIM, dtype=torch.float64)
    for row in range(BATCH):
        for query in range(QUERIES):
            h = initial[row, query]
            for t in range(LENGTH):
                if mask[row, query, t]:
                    h = step_by_formula(layer, h, inputs[row, t], weights[row, query, t])
                states[row, query, t] = h
            last[row, query] = h
    return states, last


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mask", [None, MASK, HOLES], ids=["no mask", "padded", "holes"])
def test_states_and_gradients_are_those_of_the_formula(form, mask):
    layer, (inputs, weights, initial) = make(form), leaves()
    full = torch.ones_like(HOLES) if mask is None else mask.view(BATCH, -1, LENGTH).expand_as(HOLES)
    wanted = by_formula(layer, inputs, weights, full, initial)
    got = layer(inputs, weights, mask, initial=initial)
    torch.testing.assert_close(tuple(got), wanted)
    slopes = [torch.randn_like(x) for x in wanted]
    parameters = [inputs, weights, initial, *layer.parameters()]
    for some in (slice(0, 2), slice(1, 2)):  # with and without the states
        pair = [torch.autograd.grad(x[some], parameters, slopes[some], retain_graph=True) for x in (got, wanted)]
        torch.testing.assert_close(*pair)
    alone = layer(inputs, weights, mask, initial=initial, need_states=False)
    assert alone.states is None
    torch.testing.assert_close(alone.last, wanted[1])


def test_one_step_by_hand():
    layer = AUGRU(1, 1)
    with torch.no_grad():
        layer.input_gates.weight.copy_(torch.tensor([[1.0], [2.0]]))  # reset, update
        layer.state_gates.weight.copy_(torch.tensor([[3.0], [-1.0]]))
        layer.input_gates.bias.copy_(torch.tensor([0.5, 0.25]))
        layer.input_candidate.weight.fill_(-1.5)
        layer.state_candidate.weight.fill_(4.0)
        layer.input_candidate.bias.fill_(0.75)
    x, h, a = 0.3, -0.2, 0.6
    r = 1 / (1 + math.exp(-(x + 3 * h + 0.5)))
    u = 1 / (1 + math.exp(-(2 * x - h + 0.25)))
    new = math.tanh(-1.5 * x + r * (4 * h) + 0.75)
    expected = (1 - a * u) * h + a * u * new
    last = layer(torch.tensor([[[x]]]), torch.tensor([[a]]), initial=torch.tensor([[h]])).last
    assert last.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("form", ["augru", "aigru"])
def test_weights_of_one_make_it_torchs_gru(form):
    """With u = 1 - z: the sign of everything that goes into torch's z is the other one."""
    layer, gru = make(form), nn.GRU(INPUT_DIM, HIDDEN_DIM, batch_first=True).double()
    with torch.no_grad():
        sign = torch.tensor([1.0, -1.0]).repeat_interleave(HIDDEN_DIM)[:, None]
        gru.weight_ih_l0.copy_(torch.cat([sign * layer.input_gates.weight, layer.input_candidate.weight]))
        gru.weight_hh_l0.copy_(torch.cat([sign * layer.state_gates.weight, layer.state_candidate.weight]))
        gru.bias_ih_l0.copy_(torch.cat([sign[:, 0] * layer.input_gates.bias, layer.input_candidate.bias]))
        gru.bias_hh_l0.zero_()
    inputs, _, initial = leaves()
    states, last = layer(inputs, torch.ones(BATCH, LENGTH), initial=initial[:, 0])
    expected, final = gru(inputs, initial[:, 0].unsqueeze(0).contiguous())
    torch.testing.assert_close(states, expected)
    torch.testing.assert_close(last, final[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_weights_of_zero_keep_the_state(dtype):
    inputs, _, initial = (x.detach().to(dtype) for x in leaves())
    nothing = torch.zeros(BATCH, QUERIES, LENGTH, dtype=dtype)
    for form in ("augru", "agru"):
        states, last = make(form).to(dtype)(inputs, nothing, initial=initial)
        assert torch.equal(states, initial.unsqueeze(2).expand_as(states))
        assert torch.equal(last, initial)
    # AIGRU takes the event away, not the step.
    assert not torch.allclose(make("aigru").to(dtype)(inputs, nothing, initial=initial).last, initial)


@pytest.mark.parametrize("form", FORMS)
def test_masked_steps_keep_the_state_whatever_stands_there(form):
    layer, (inputs, weights, initial) = make(form), leaves()
    garbage = ~HOLES.any(1).unsqueeze(-1) * 97.0
    plain = layer(inputs, weights, HOLES, initial=initial)
    other = layer(inputs + garbage, weights + ~HOLES * 31.0, HOLES, initial=initial)
    assert torch.equal(plain.states, other.states)
    before = torch.cat([initial.unsqueeze(2), plain.states[:, :, :-1]], 2)
    assert torch.equal(plain.states[~HOLES], before[~HOLES])
    assert torch.equal(plain.states[:, :, -1], plain.last)
    assert not torch.allclose(plain.states[HOLES], before[HOLES])


@pytest.mark.parametrize("form", FORMS)
def test_a_history_can_be_read_in_pieces(form):
    layer, (inputs, weights, initial) = make(form), leaves()
    whole = layer(inputs, weights, MASK, initial=initial)
    state, states = initial, []
    for piece in (slice(0, 3), slice(3, 3), slice(3, 4), slice(4, 7)):
        found = layer(inputs[:, piece], weights[:, :, piece], MASK[:, piece], initial=state)
        state = found.last
        states.append(found.states)
    torch.testing.assert_close(state, whole.last)
    torch.testing.assert_close(torch.cat(states, 2), whole.states)


def test_queries_do_not_see_each_other():
    layer, (inputs, weights, initial) = make(), leaves()
    together = layer(inputs, weights, HOLES, initial=initial)
    for query in range(QUERIES):
        alone = layer(inputs, weights[:, query], HOLES[:, query], initial=initial[:, query])
        torch.testing.assert_close(alone.states, together.states[:, query])
        torch.testing.assert_close(alone.last, together.last[:, query])


def test_gradients_are_those_of_finite_differences():
    layer, (inputs, weights, initial) = make("aigru"), leaves()
    assert torch.autograd.gradcheck(
        lambda *x: tuple(layer(x[0], x[1], HOLES, initial=x[2])), (inputs, weights, initial), fast_mode=True
    )


def test_steps_behind_the_last_event_are_not_computed(monkeypatch):
    layer, (inputs, weights, initial), rows = make(), leaves(), []
    step = AUGRU._step
    monkeypatch.setattr(
        AUGRU, "_step", lambda self, state, *events: rows.append(len(state)) or step(self, state, *events)
    )
    layer(inputs, weights, MASK, initial=initial)
    assert rows == [3, 2, 2, 2, 1, 1, 1]  # lengths 4, 0 and 7; the first step is there for all
    rows.clear()
    layer(inputs[:2], weights[:2], MASK[:2])
    assert rows == [2, 1, 1, 1]
    rows.clear()
    layer(inputs, weights)
    assert rows == [3] * LENGTH


@pytest.mark.parametrize("form", FORMS)
def test_steps_that_need_not_be_taken_change_nothing(form, monkeypatch):
    """On a GPU all are taken."""
    layer, given = make(form), leaves()
    few = layer(*given[:2], HOLES, initial=given[2])
    of = RealSteps.of
    monkeypatch.setattr(RealSteps, "of", lambda inputs, _: of(inputs, None))
    many = layer(*given[:2], HOLES, initial=given[2])
    torch.testing.assert_close(tuple(many), tuple(few))
    parameters = [*given, *layer.parameters()]
    torch.testing.assert_close(*(torch.autograd.grad(x.states.square().sum(), parameters) for x in (many, few)))


def test_the_loop_that_is_captured_goes_through_the_same_states():
    layer, (inputs, weights, initial) = make(), leaves()
    events = inputs.transpose(0, 1), weights.permute(2, 0, 1).unsqueeze(-1)
    states, last = captured_loop(layer._step, initial, events)
    expected = layer(inputs, weights, initial=initial)
    torch.testing.assert_close(states.permute(1, 2, 0, 3), expected.states)
    torch.testing.assert_close(last, expected.last)


@pytest.mark.parametrize("form", FORMS)
def test_products_of_the_inputs_are_made_once_for_all_queries(form):
    layer, counted = make(form), []
    for queries in (1, 19):
        with FlopCounterMode(display=False) as counter:
            layer(torch.randn(2, 3, INPUT_DIM).double(), torch.rand(2, queries, 3))
        counted.append(counter.get_total_flops())
    gates = 2 if form == "agru" else 3
    assert counted[1] - counted[0] == 2 * (2 * 3 * 18 * HIDDEN_DIM * gates * HIDDEN_DIM)


def test_small_steps_add_up_in_half_precision():
    """bf16 can't add 1/500 to a state beyond 1/2."""
    layer = AUGRU(1, 1, form="agru").bfloat16()
    nn.init.zeros_(layer.input_candidate.weight)
    nn.init.zeros_(layer.state_candidate.weight)
    nn.init.constant_(layer.input_candidate.bias, 20.0)  # the new state is 1
    last = layer(torch.zeros(1, 2000, 1).bfloat16(), torch.full((1, 2000), 0.002)).last
    assert last.dtype == torch.bfloat16
    assert last.item() == pytest.approx(1 - 0.998**2000, rel=0.01)


def test_runs_under_autocast_with_inputs_of_either_type():
    layer = make().float()
    inputs, weights, _ = (x.detach().float() for x in leaves())
    expected = layer(inputs, weights, MASK).last
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(inputs, weights, MASK).last, expected)
        half = layer(inputs.bfloat16(), weights.bfloat16(), MASK).last
    torch.testing.assert_close(half.float(), expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_empty_histories_give_the_initial_state_and_gradients_of_zero(dtype):
    layer, nothing = make().to(dtype), torch.zeros(BATCH, LENGTH, dtype=torch.bool)
    inputs, weights, initial = (x.detach().to(dtype).requires_grad_() for x in leaves())
    last = layer(inputs, weights, nothing, initial=initial, need_states=False).last
    assert torch.equal(last, initial)
    last.sum().backward()
    assert (initial.grad == 1).all()
    for leaf in (inputs, weights, *layer.parameters()):
        assert (leaf.grad == 0).all()
    none = layer(inputs[:, :0], weights[..., :0], initial=initial)
    assert torch.equal(none.last, initial)
    assert none.states.shape == (BATCH, QUERIES, 0, HIDDEN_DIM)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_dim": 0}, "input_dim must be an integer >= 1, got 0"),
        ({"hidden_dim": 2.5}, "hidden_dim must be an integer >= 1, got 2.5"),
        ({"form": "gru"}, "form must be one of augru, agru, aigru, got 'gru'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        AUGRU(**{"input_dim": 3, "hidden_dim": 5, **arguments})


@pytest.mark.parametrize(
    ("weights", "mask", "initial", "message"),
    [
        ((2, 6), None, None, r"weights must cover the 7 inputs, got shape \(2, 6\)"),
        ((2, 7), torch.ones(2, 7), None, "mask must be boolean"),
        ((2, 7), torch.ones(2, 6, dtype=torch.bool), None, "mask must cover the 7 keys"),
        ((2, 7), torch.ones(2, 3, 7, dtype=torch.bool), None, "a mask for each query needs weights for each query"),
        ((2, 3, 7), None, (3, 2, 5), r"initial must be of shape \(2, 3, 5\), got \(3, 2, 5\)"),
    ],
)
def test_wrong_inputs_are_named(weights, mask, initial, message):
    initial = None if initial is None else torch.zeros(initial)
    with pytest.raises(ConfigError, match=message):
        AUGRU(3, 5)(torch.zeros(2, 7, 3), torch.zeros(weights), mask, initial=initial)
