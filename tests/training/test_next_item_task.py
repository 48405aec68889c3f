import math

import pytest
import torch
from torch.nn import functional as F

from recattn.batch import History, SequenceBatch
from recattn.errors import ConfigError
from recattn.models import HSTU, NARM, SASRec, SlateDecoder, TargetAttention
from recattn.training import NextItemTask, RankingTask, SlateTask, fit, next_item_task, task_for

HISTORY = History(torch.tensor([[3, 5, 7, 3, 9], [4, 6, 4, 0, 0]]), torch.tensor([5, 3]))
BATCH = SequenceBatch(
    HISTORY, torch.tensor([[1, 4, 3], [2, 0, 0]]), torch.tensor([[True, True, True], [True, False, False]])
)
TARGETS = [(0, 1, 5, {3}), (0, 4, 9, {3, 5, 7}), (0, 3, 3, {5, 7}), (1, 2, 4, {6})]
"""Row, position, target, and what is no candidate: all that the user has but the target."""


def model():
    torch.manual_seed(1)
    return SASRec(11, dim=8, max_length=5).double().eval()


def loss_of(task, seed=0):
    torch.manual_seed(seed)
    return task._sequence_loss(BATCH)


def test_the_full_softmax_is_the_formula_target_by_target():
    sasrec, losses = model(), []
    states, table = sasrec.states(HISTORY), sasrec.item_embeddings()
    for row, position, target, had in TARGETS:
        logits = table @ states[row, position - 1] / 0.5
        left = [item for item in range(1, 12) if item not in had]
        losses.append(logits[left].logsumexp(0) - logits[target])
    torch.testing.assert_close(loss_of(NextItemTask(sasrec, temperature=0.5)), torch.stack(losses).mean())


@pytest.mark.parametrize("build", [HSTU, lambda items, **more: SASRec(items, times="request", **more)])
def test_a_model_that_knows_the_request_learns_each_target_at_its_own_time(build):
    """From its own prefix alone, asked when it happened; the longest row is one event longer than the model reads."""
    torch.manual_seed(0)
    model, losses = build(11, dim=8, max_length=4).double().eval(), []
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    times = torch.tensor([[10, 11, 40, 90, 2000], [5, 700, 0, 0, 0]])
    history = History(torch.tensor([[3, 5, 7, 2, 9], [4, 6, 0, 0, 0]]), torch.tensor([5, 2]), times)
    batch = SequenceBatch(history, torch.tensor([[1, 4], [1, 0]]), torch.tensor([[True, True], [True, False]]))
    for row, position in ((0, 1), (0, 4), (1, 1)):
        prefix = History(history.items[[row], :position], torch.tensor([position]), times[[row], :position])
        state = model.states(prefix, times[[row], position])[0, -1]
        target, had = int(history.items[row, position]), history.items[row, :position].tolist()
        left = [item for item in range(1, 12) if item not in had]
        logits = model.item_embeddings() @ state
        losses.append(logits[left].logsumexp(0) - logits[target])
    torch.testing.assert_close(NextItemTask(model)._sequence_loss(batch), torch.stack(losses).mean())


@pytest.mark.parametrize(
    ("loss", "sharing", "samples"),
    [("softmax", 10, 1), ("softmax", 5, 2), ("bce", 10, 2), ("gbce", 10, 2), ("bpr-max", 10, 2)],
)
def test_sampled_losses_never_count_seen_items_or_the_target_as_negatives(monkeypatch, loss, sharing, samples):
    """The formula, target by target, over the negatives that are left of a shared sample or the sequence's own."""
    monkeypatch.setattr(next_item_task, "SHARING", sharing)
    counts = torch.zeros(12)
    counts[[3, 4, 5, 6, 7, 9]] = 1.0  # only what the users have: most of the sample is no negative of somebody
    chances = counts**0.75 / (counts**0.75).sum()
    sasrec, losses, size = model(), [], 10
    states, table = sasrec.states(HISTORY), sasrec.item_embeddings()
    got = loss_of(NextItemTask(sasrec, loss=loss, num_negatives=size, item_counts=counts))
    torch.manual_seed(0)
    drawn = torch.multinomial(chances, size * samples, replacement=True).view(-1, size)
    for row, position, target, had in TARGETS:
        state, sample = states[row, position - 1], drawn[row % len(drawn)]
        kept = sample[torch.tensor([int(item) not in had | {target} for item in sample])]
        p, n = state @ table[target], table[kept] @ state
        if loss == "softmax":
            corrected = n - (chances[kept] * size).log()
            losses.append(torch.cat([p[None], corrected]).logsumexp(0) - p)
        elif loss == "bce":
            losses.append(F.softplus(-p) + F.softplus(n).sum() / max(1, len(n)))
        elif loss == "gbce":
            beta = 1 - 0.75 * (1 - len(n) / 10)
            prior = math.log((1 - 0.75 * (1 - size / 10)) / size)
            p, n = p + prior, n + prior
            losses.append((beta * F.softplus(-p) + F.softplus(n).sum()) / (len(n) + 1))
        else:
            losses.append(-(n.softmax(0) * torch.sigmoid(p - n)).sum().log())
    assert len(kept) < size
    torch.testing.assert_close(got, torch.stack(losses).mean(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    "task",
    [
        {},
        {"num_negatives": 19},
        {"loss": "bce", "num_negatives": 19},
        {"loss": "gbce", "num_negatives": 19},
        {"loss": "bpr-max", "num_negatives": 19},
    ],
    ids=["softmax", "sampled", "bce", "gbce", "bpr-max"],
)
def test_the_successor_is_learned(cycle, tmp_path, task):
    torch.manual_seed(0)
    sasrec = SASRec(37, dim=16, num_layers=1, max_length=10, dropout=0.0)
    task = NextItemTask(sasrec, learning_rate=0.03, warmup_steps=5, **task)
    assert fit(sasrec, cycle, folder=tmp_path, task=task, max_epochs=25, progress=False).score > 0.9


@pytest.mark.parametrize(
    "arguments",
    [{}, *({"loss": loss, "num_negatives": 7} for loss in ("softmax", "bce", "gbce", "bpr-max"))],
    ids=["whole catalogue", "softmax", "bce", "gbce", "bpr-max"],
)
@pytest.mark.parametrize("times", ["none", "request"])
def test_a_batch_in_pieces_has_the_loss_and_the_gradients_of_the_whole(monkeypatch, arguments, times):
    """Five sequences at two a time, of unequal numbers of targets, one of none at all; one sample for all."""
    torch.manual_seed(3)
    if arguments.get("loss") == "softmax":
        drawn = torch.randint(1, 12, (1, 7))
        monkeypatch.setattr(NextItemTask, "_draw", lambda _task, sizes, _length: [drawn] * len(sizes))
    lengths = torch.tensor([5, 3, 2, 5, 4])
    real = torch.arange(5) < lengths[:, None]
    moments = torch.randint(1, 900, (5, 5)).cumsum(1) * real
    history = History(torch.randint(1, 12, (5, 5)) * real, lengths, moments)
    mask = real[:, 1:].clone()
    mask[2] = False
    batch = SequenceBatch(history, torch.arange(1, 5).where(mask, 0), mask)
    found, reads = [], []
    for events in (10**6, 1):
        monkeypatch.setattr(next_item_task, "EVENTS", events)
        torch.manual_seed(1)
        sasrec = SASRec(11, dim=8, max_length=5, times=times).double().eval()
        sasrec.events.register_forward_hook(lambda _module, given, _output: reads.append(len(given[0].items)))
        torch.manual_seed(2)
        loss = NextItemTask(sasrec, **arguments)._sequence_loss(batch)
        loss.backward()
        found.append([loss, *(parameter.grad for parameter in sasrec.parameters())])
    assert reads == [5, 2, 2, 1]
    torch.testing.assert_close(found[1], found[0], atol=1e-12, rtol=1e-7)  # the sample's chances are in fp32


@pytest.mark.parametrize(("loss", "samples"), [("softmax", [2, 1, 1]), ("bce", [4, 2, 1])])
def test_so_many_events_or_each_sequence_have_a_sample_of_their_own(monkeypatch, loss, samples):
    monkeypatch.setattr(next_item_task, "SHARING", 12)  # two sequences of six
    task = NextItemTask(model(), loss=loss, num_negatives=200)
    drawn = task._draw([4, 2, 1], 6)
    assert [len(sample) for sample in drawn] == samples
    rows = torch.cat(list(drawn))
    assert rows.shape[1] == 200
    assert len(rows.unique(dim=0)) == len(rows)
    assert set(rows.flatten().tolist()) == set(range(1, 12))


def test_padding_positions_and_the_padding_row_get_no_gradient():
    sasrec = model()
    loss_of(NextItemTask(sasrec)).backward()
    assert (sasrec.item_embeddings().grad[0] == 0).all()
    assert all(p.grad.isfinite().all() for p in sasrec.parameters() if p.grad is not None)


def test_each_model_has_its_task():
    assert type(task_for(SlateDecoder(11, dim=8))) is SlateTask
    assert type(task_for(NARM(11, dim=8), loss="gbce", num_negatives=3)) is NextItemTask
    assert type(task_for(TargetAttention(11, dim=8))) is RankingTask


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "hinge"}, "loss must be one of softmax, bce, gbce, bpr-max, got 'hinge'"),
        ({"loss": "gbce"}, "num_negatives must be an integer >= 1 for loss 'gbce', got None"),
        ({"loss": "gbce", "num_negatives": 11}, "num_negatives must be below the 11 items for loss 'gbce', got 11"),
        ({"temperature": 0.0}, "temperature must be a finite number > 0, got 0.0"),
        ({"calibration": 2.0}, r"calibration must be in \[0, 1\], got 2.0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        NextItemTask(model(), **arguments)


def test_other_models_are_refused():
    with pytest.raises(ConfigError, match="model must be a NextItemModel, got TargetAttention"):
        NextItemTask(TargetAttention(11, dim=8))
