import math

import pytest
import torch
from torch import nn

from recattn.errors import ConfigError
from recattn.models import build, describe
from recattn.nn import AUGRU, InterestEvolution, InterestExtractor

BATCH, LENGTH, DIM, SAMPLES, QUERIES = 3, 7, 5, 2, 4
LENGTHS = (7, 2, 4)
MASK = torch.arange(LENGTH) < torch.tensor(LENGTHS)[:, None]
HALF = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


def draw(*shape, seed=1, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_extractor_is_torchs_gru_on_the_real_events_of_each_row():
    extractor, history = InterestExtractor(DIM, 11).double(), draw(BATCH, LENGTH, DIM)
    states = extractor(history, MASK)
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(states[row, :length], extractor.gru(history[row : row + 1, :length])[0][0])
        assert (states[row, length:] == 0).all()
    states.sum().backward()
    expected = {name: x.grad for name, x in extractor.named_parameters()}
    extractor.zero_grad()
    garbage = extractor(history.masked_fill(~MASK.unsqueeze(-1), torch.nan), MASK)
    garbage.sum().backward()
    assert torch.equal(garbage, states)
    torch.testing.assert_close({name: x.grad for name, x in extractor.named_parameters()}, expected)
    torch.testing.assert_close(extractor(history)[0], states[0])


def test_a_state_has_seen_no_later_event():
    extractor, history = InterestExtractor(DIM, 11).double(), draw(BATCH, LENGTH, DIM).requires_grad_()
    for t in range(LENGTH):
        (gradient,) = torch.autograd.grad(extractor(history, MASK)[:, t].sum(), history)
        assert (gradient[:, t + 1 :] == 0).all()
        assert (gradient[0, : t + 1] != 0).all()


@HALF
def test_extractor_with_empty_histories(dtype):
    extractor = InterestExtractor(DIM, DIM).to(dtype)
    history = draw(BATCH, LENGTH, DIM, dtype=dtype).requires_grad_()
    for lengths in ((7, 0, 4), (0, 0, 0)):
        mask = torch.arange(LENGTH) < torch.tensor(lengths)[:, None]
        extractor.zero_grad()
        states = extractor(history, mask)
        assert states.dtype == dtype
        loss = extractor.auxiliary_loss(states, history, history.flip(1), mask) + states.sum()
        loss.backward()
        assert loss.isfinite()
        assert all(x.grad.isfinite().all() for x in (history, *extractor.parameters()))
    assert extractor(history[:, :0]).shape == (BATCH, 0, DIM)


def test_auxiliary_loss_by_hand():
    """One history of three events, one of one, one of none: two pairs in all."""
    states, keys, negatives = (draw(BATCH, LENGTH, DIM, seed=seed) for seed in (1, 2, 3))
    mask = torch.arange(LENGTH) < torch.tensor([3, 1, 0])[:, None]
    expected = 0.0
    for t in (0, 1):
        liked, other = (float(states[0, t] @ x[0, t + 1]) for x in (keys, negatives))
        expected -= (math.log(1 / (1 + math.exp(-liked))) + math.log(1 - 1 / (1 + math.exp(-other)))) / 2
    loss = InterestExtractor.auxiliary_loss(states, keys, negatives, mask)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_several_negatives_count_as_one_on_average():
    states, keys, negatives = draw(BATCH, LENGTH, DIM), draw(BATCH, LENGTH, DIM, seed=2), draw(2, BATCH, LENGTH, DIM)
    together = InterestExtractor.auxiliary_loss(states, keys, negatives.movedim(0, 2), MASK)
    alone = [InterestExtractor.auxiliary_loss(states, keys, some, MASK) for some in negatives]
    torch.testing.assert_close(together, sum(alone) / 2)


def test_auxiliary_loss_looks_at_pairs_of_real_events_alone():
    """Of the states the last one, of events and negatives the first ones are not used; no padding is."""
    given = [draw(BATCH, LENGTH, DIM, seed=seed).requires_grad_() for seed in (1, 2, 3)]
    gradients = torch.autograd.grad(InterestExtractor.auxiliary_loss(*given, MASK), given)
    first, last = torch.arange(LENGTH) == 0, torch.arange(LENGTH) == torch.tensor(LENGTHS)[:, None] - 1
    for gradient, used in zip(gradients, (MASK & ~last, MASK & ~first, MASK & ~first), strict=True):
        assert (gradient[~used] == 0).all()
        assert (gradient[used] != 0).all()


def test_padding_does_not_dilute_the_auxiliary_loss():
    given = [draw(BATCH, LENGTH, DIM, seed=seed) for seed in (1, 2, 3)]
    longer = [torch.cat([x, torch.full((BATCH, 6, DIM), torch.nan)], 1) for x in given]
    mask = torch.cat([MASK, torch.zeros(BATCH, 6, dtype=torch.bool)], 1)
    expected = InterestExtractor.auxiliary_loss(*given, MASK)
    torch.testing.assert_close(InterestExtractor.auxiliary_loss(*longer, mask), expected)
    rows = [InterestExtractor.auxiliary_loss(*(x[row : row + 1, :n] for x in given)) for row, n in enumerate(LENGTHS)]
    weighed = sum((n - 1) * loss for n, loss in zip(LENGTHS, rows, strict=True)) / sum(n - 1 for n in LENGTHS)
    torch.testing.assert_close(expected, weighed)


def test_the_loss_can_be_driven_down_by_what_is_known_and_by_nothing_else():
    """Next = previous + 1 is learned; with the next event drawn by chance the loss stays at 2 log 2."""
    losses = []
    for known in (True, False):
        torch.manual_seed(0)
        items = nn.functional.one_hot(torch.arange(11)).float() * 3
        extractor = InterestExtractor(11, 11)
        optimiser = torch.optim.Adam(extractor.parameters(), lr=0.02)
        for _ in range(60):
            start = torch.randint(11, (64, 1))
            steps = torch.arange(5) if known else torch.randint(11, (64, 5))
            history, negatives = items[(start + steps) % 11], items[torch.randint(11, (64, 5))]
            loss = extractor.auxiliary_loss(extractor(history), history, negatives)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        losses.append(loss.item())
    assert losses[0] < 0.8
    assert losses[1] == pytest.approx(2 * math.log(2), abs=0.1)


def test_large_scores_do_not_saturate():
    """A sigmoid first, then a logarithm, would give infinity and gradients of 0."""
    states = torch.full((1, 2, 1), 200.0, requires_grad=True)
    loss = InterestExtractor.auxiliary_loss(states, torch.full((1, 2, 1), -1.0), torch.ones(1, 2, 1))
    assert loss.item() == pytest.approx(400)
    loss.backward()
    assert states.grad[0, 0].item() == pytest.approx(2)


def test_auxiliary_loss_is_zero_where_no_history_has_two_events():
    states = draw(BATCH, LENGTH, DIM).requires_grad_()
    for mask in (torch.arange(LENGTH) < torch.tensor([1, 0, 1])[:, None], torch.zeros_like(MASK)):
        states.grad = None
        loss = InterestExtractor.auxiliary_loss(states, states.detach(), states.detach(), mask)
        loss.backward()
        assert loss == 0
        assert (states.grad == 0).all()


def test_auxiliary_loss_keeps_its_digits_under_autocast():
    given = [draw(BATCH, LENGTH, DIM, seed=seed, dtype=torch.float32) for seed in (1, 2, 3)]
    expected = InterestExtractor.auxiliary_loss(*given, MASK)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(InterestExtractor.auxiliary_loss(*given, MASK), expected)


@torch.no_grad()
@pytest.mark.parametrize("form", ["augru", "agru", "aigru"])
def test_evolution_is_softmax_then_augru(form):
    layer = InterestEvolution(DIM, 11, hidden_dim=13, value_dim=17, form=form).double()
    query, keys, values = draw(BATCH, QUERIES, DIM), draw(BATCH, LENGTH, 11), draw(BATCH, LENGTH, 17)
    bias = draw(BATCH, QUERIES, LENGTH, seed=5)
    output, weights = layer(query, keys, values, MASK, bias=bias)
    for row, length in enumerate(LENGTHS):
        for i in range(QUERIES):
            scores = [query[row, i] @ layer.scorer.weight @ keys[row, t] + bias[row, i, t] for t in range(length)]
            total = sum(math.exp(score) for score in scores)
            expected = torch.tensor([[math.exp(score) / total for score in scores]], dtype=torch.float64)
            torch.testing.assert_close(weights[row, i, :length], expected[0])
            last = layer.evolution(values[row : row + 1, :length], expected).last
            torch.testing.assert_close(output[row, i], last[0])


def test_evolution_reads_the_keys_where_there_are_no_values():
    layer = InterestEvolution(DIM, 11, hidden_dim=13)
    query, keys = draw(BATCH, DIM, dtype=torch.float32), draw(BATCH, LENGTH, 11, dtype=torch.float32)
    assert torch.equal(layer(query, keys, mask=MASK).output, layer(query, keys, keys, MASK).output)


def test_candidates_do_not_see_each_other():
    layer = InterestEvolution(DIM, 11, hidden_dim=13).double()
    query, keys = draw(BATCH, QUERIES, DIM), draw(BATCH, LENGTH, 11)
    before = layer(query, keys, mask=MASK)
    query[:, 2] += 3
    after = layer(query, keys, mask=MASK)
    same = torch.tensor([0, 1, 3])
    torch.testing.assert_close(after.output[:, same], before.output[:, same])
    assert not torch.allclose(after.output[:, 2], before.output[:, 2])


def test_weights_are_there_on_request():
    layer = InterestEvolution(DIM, DIM, hidden_dim=3)
    assert layer(torch.ones(2, DIM), torch.ones(2, 3, DIM), need_weights=False).weights is None
    assert layer.weights_kind == "probability"


def test_evolution_can_be_written_down_and_built_again():
    layer = InterestEvolution(DIM, 11, hidden_dim=13, value_dim=17, form="agru")
    twin = build(describe(layer))
    twin.load_state_dict(layer.state_dict())
    assert isinstance(twin.evolution, AUGRU)
    assert twin.form == twin.evolution.form == "agru"
    given = (draw(*shape, dtype=torch.float32) for shape in ((BATCH, DIM), (BATCH, LENGTH, 11), (BATCH, LENGTH, 17)))
    query, keys, values = given
    assert torch.equal(twin(query, keys, values, MASK).output, layer(query, keys, values, MASK).output)


def test_reset_draws_every_part_anew():
    for layer in (InterestEvolution(DIM, 11, hidden_dim=13), InterestExtractor(DIM, 11)):
        before = {name: x.clone() for name, x in layer.state_dict().items()}
        layer.reset_parameters()
        assert all(name.endswith("bias") or not torch.equal(x, before[name]) for name, x in layer.state_dict().items())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InterestExtractor(0, 3), "input_dim must be an integer >= 1, got 0"),
        (lambda: InterestExtractor(3, -1), "hidden_dim must be an integer >= 1, got -1"),
        (lambda: InterestEvolution(0, 3, hidden_dim=2), "query_dim must be an integer >= 1, got 0"),
        (lambda: InterestEvolution(3, 0, hidden_dim=2), "key_dim must be an integer >= 1, got 0"),
        (lambda: InterestEvolution(3, 3, hidden_dim=2, form="x"), "form must be one of augru, agru, aigru, got 'x'"),
        (lambda: InterestExtractor(3, 3)(torch.ones(2, 5, 3), torch.ones(2, 5)), "mask must be boolean"),
        (lambda: InterestExtractor(3, 3)(torch.ones(2, 5, 3), torch.ones(2, 4).bool()), "mask must cover the 5 keys"),
        (lambda: InterestExtractor(3, 3)(torch.ones(2, 5, 3), torch.ones(2, 1, 5).bool()), r"mask must be \(batch, l"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("keys", "negatives", "mask", "message"),
    [
        ((2, 5, 4), (2, 5, 3), None, r"keys must go with states \(2, 5, 3\), got \(2, 5, 4\)"),
        ((2, 6, 3), (2, 5, 3), None, "keys must go with states"),
        ((2, 5, 3), (2, 4, 7, 3), None, r"negatives must go with states \(2, 5, 3\), got \(2, 4, 7, 3\)"),
        ((2, 5, 3), (2, 5, 3), torch.ones(2, 5, dtype=torch.long), "mask must be boolean"),
        ((2, 5, 3), (2, 5, 3), torch.ones(1, 5, dtype=torch.bool), r"mask must be \(batch, length\) = \(2, 5\)"),
    ],
)
def test_wrong_inputs_of_the_auxiliary_loss_are_named(keys, negatives, mask, message):
    with pytest.raises(ConfigError, match=message):
        InterestExtractor.auxiliary_loss(torch.zeros(2, 5, 3), torch.zeros(keys), torch.zeros(negatives), mask)
