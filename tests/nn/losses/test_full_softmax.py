import pytest
import torch
from torch.nn import functional as F

from recattn.errors import ConfigError
from recattn.nn import full_softmax_loss
from recattn.nn.losses import full_softmax

TARGETS, ITEMS, DIM = 23, 37, 5


@pytest.fixture
def data():
    states = torch.randn(TARGETS, DIM, dtype=torch.float64, requires_grad=True)
    embeddings = torch.randn(ITEMS, DIM, dtype=torch.float64, requires_grad=True)
    return states, embeddings, torch.randint(ITEMS, (TARGETS,))


def some_ignored(targets):
    ignored = torch.rand(TARGETS, ITEMS) < 0.3
    ignored[torch.arange(TARGETS), targets] = False
    return ignored


def gradients(loss, *leaves):
    return torch.autograd.grad(3.0 * loss, leaves)


@pytest.mark.parametrize("size", [1, 5 * ITEMS, 10**6], ids=["piece of 1", "of 5", "of all"])
@pytest.mark.parametrize("with_ignored", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.05])
def test_is_the_cross_entropy_with_its_gradients(data, size, with_ignored, temperature, monkeypatch):
    monkeypatch.setattr(full_softmax, "LOGITS", size)
    states, embeddings, targets = data
    logits, pairs = states @ embeddings.T / temperature, None
    if with_ignored:
        ignored = some_ignored(targets)
        logits, pairs = logits.masked_fill(ignored, -torch.inf), tuple(ignored.nonzero().T)
    expected = F.cross_entropy(logits, targets)
    got = full_softmax_loss(states, embeddings, targets, pairs, temperature=temperature)
    torch.testing.assert_close(got, expected)
    for ours, theirs in zip(gradients(got, states, embeddings), gradients(expected, states, embeddings), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_finite_differences_agree(data):
    states, embeddings, targets = data
    assert torch.autograd.gradcheck(lambda s, e: full_softmax_loss(s, e, targets), (states, embeddings), fast_mode=True)


def test_agrees_with_torchs_own_in_chunks(data):
    states, embeddings, targets = data
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=7)
    expected = F.linear_cross_entropy(states.float(), embeddings.float(), targets, options=options)
    torch.testing.assert_close(full_softmax_loss(states.float(), embeddings.float(), targets), expected)


def test_large_logits_do_not_overflow(data):
    states, embeddings, targets = data
    loss = full_softmax_loss(states * 1e4, embeddings, targets)
    torch.testing.assert_close(loss, F.cross_entropy(states * 1e4 @ embeddings.T, targets))
    assert all(grad.isfinite().all() for grad in gradients(loss, states, embeddings))


def test_under_autocast_products_are_bf16_and_the_loss_is_close(data):
    states, embeddings, targets = (x.float() if x.is_floating_point() else x for x in data)
    exact = full_softmax_loss(states, embeddings, targets)
    with torch.autocast("cpu", torch.bfloat16):
        near = full_softmax_loss(states, embeddings, targets)
    assert near.dtype == torch.float32
    assert near.item() == pytest.approx(exact.item(), abs=0.02)
    assert near.item() != exact.item()


def test_gradients_only_where_they_are_asked_for(data):
    states, embeddings, targets = data
    (grad,) = torch.autograd.grad(full_softmax_loss(states.detach(), embeddings, targets), embeddings)
    torch.testing.assert_close(
        grad, torch.autograd.grad(F.cross_entropy(states @ embeddings.T, targets), embeddings)[0]
    )
    with torch.no_grad():
        assert not full_softmax_loss(states, embeddings, targets).requires_grad


def test_no_targets_give_zero(data):
    states, embeddings, targets = data
    loss = full_softmax_loss(states[:0], embeddings, targets[:0])
    assert loss.item() == 0
    loss.backward()
    assert (states.grad == 0).all()


def test_padding_left_out_of_the_table_gets_no_gradient(data):
    states, table, targets = data
    full_softmax_loss(states, table[1:], targets.clamp(max=ITEMS - 2)).backward()
    assert (table.grad[0] == 0).all()
    assert (table.grad[1:] != 0).any(1).all()


@pytest.mark.parametrize(
    ("states", "embeddings", "targets", "temperature", "message"),
    [
        (torch.zeros(3, 4), torch.zeros(5, 2), torch.zeros(3).long(), 1.0, r"\(targets, dim\) and \(items, dim\)"),
        (torch.zeros(3, 4), torch.zeros(5, 4), torch.zeros(2).long(), 1.0, r"targets must be \(3,\)"),
        (torch.zeros(3, 4), torch.zeros(5, 4), torch.zeros(3).long(), 0.0, "temperature must be > 0, got 0.0"),
    ],
)
def test_what_does_not_fit_is_named(states, embeddings, targets, temperature, message):
    with pytest.raises(ConfigError, match=message):
        full_softmax_loss(states, embeddings, targets, temperature=temperature)
