import pytest
import torch

from recattn.batch import History, SequenceBatch
from recattn.errors import ConfigError
from recattn.models import NARM, BERT4Rec
from recattn.training import ClozeTask, fit, task_for
from recattn.training.cloze_task import draw_gaps

HISTORY = History(torch.tensor([[3, 5, 7, 3, 9, 2, 8], [4, 6, 4, 10, 0, 0, 0]]), torch.tensor([7, 4]))
BATCH = SequenceBatch(HISTORY, torch.tensor([[5, 6], [3, 0]]), torch.tensor([[True, True], [True, False]]))


def model(**more):
    torch.manual_seed(1)
    return BERT4Rec(11, **({"dim": 8, "max_length": 7} | more)).double().eval()


def gaps_and_loss(task, seed=0):
    """The gaps are the first thing that is drawn."""
    torch.manual_seed(seed)
    gaps = draw_gaps(HISTORY, task.mask_probability, task.last_probability)
    torch.manual_seed(seed)
    return gaps, task._sequence_loss(BATCH)


def shown_and_target(gaps):
    """Gap by gap: its row, its target, and the other items that the row shows."""
    for row, place in gaps.nonzero().tolist():
        target = int(HISTORY.items[row, place])
        shown = set(HISTORY.items[row, : HISTORY.lengths[row]][~gaps[row, : HISTORY.lengths[row]]].tolist())
        yield target, shown - {target}


def test_the_full_softmax_is_the_formula_gap_by_gap():
    bert, losses, repeated = model(), [], 0
    task = ClozeTask(bert, mask_probability=0.45, last_probability=0.0, temperature=0.5)
    for seed in range(4):
        gaps, got = gaps_and_loss(task, seed)
        states, losses = bert.masked_states(HISTORY, gaps), []
        for state, (target, shown) in zip(states, shown_and_target(gaps), strict=True):
            logits = bert.item_embeddings() @ state / 0.5
            left = [item for item in range(1, 12) if item not in shown]
            losses.append(logits[left].logsumexp(0) - logits[target])
            repeated += target in (3, 4)
        assert len(losses) == 3 + 2
        torch.testing.assert_close(got, torch.stack(losses).mean())
    assert repeated  # an item that is a target in one place and shown in another is among them


def test_what_a_sequence_shows_is_no_negative_of_a_sample():
    counts = torch.zeros(12)
    counts[[3, 4, 5, 6, 7, 9, 1]] = 1.0
    bert, losses = model(), []
    task = ClozeTask(bert, num_negatives=10, item_counts=counts, mask_probability=0.45, last_probability=0.0)
    gaps, got = gaps_and_loss(task)
    torch.manual_seed(0)
    draw_gaps(HISTORY, 0.45, 0.0)
    sample = torch.multinomial(task.chances, 10, replacement=True)
    for state, (target, shown) in zip(bert.masked_states(HISTORY, gaps), shown_and_target(gaps), strict=True):
        kept = sample[torch.tensor([int(item) not in shown | {target} for item in sample])]
        logits = bert.item_embeddings() @ state
        corrected = logits[kept] - (task.chances[kept] * 10).log()
        losses.append(torch.cat([logits[target, None], corrected]).logsumexp(0) - logits[target])
    assert len(kept) < 10
    torch.testing.assert_close(got, torch.stack(losses).mean(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("probability", "counts"), [(0.01, (1, 1)), (0.2, (1, 1)), (0.4, (3, 2)), (0.99, (6, 3))])
def test_gaps_are_a_share_of_the_events_at_least_one_and_never_all(probability, counts):
    for _ in range(7):
        gaps = draw_gaps(HISTORY, probability, 0.0)
        assert tuple(gaps.sum(1).tolist()) == counts
        assert not (gaps & ~HISTORY.mask).any()


def test_a_single_event_is_a_gap_and_nothing_none():
    gaps = draw_gaps(History(torch.tensor([[3, 0], [0, 0]]), torch.tensor([1, 0])), 0.2, 0.5)
    assert gaps.tolist() == [[True, False], [False, False]]


def test_every_event_is_a_gap_as_often():
    many = History(HISTORY.items.repeat(2000, 1), HISTORY.lengths.repeat(2000))
    often = draw_gaps(many, 0.4, 0.0).view(2000, 2, 7).double().mean(0)
    torch.testing.assert_close(often[0], torch.full((7,), 3 / 7).double(), atol=0.04, rtol=0)
    torch.testing.assert_close(often[1, :4], torch.full((4,), 2 / 4).double(), atol=0.04, rtol=0)


def test_a_share_of_the_sequences_has_a_gap_at_the_end_alone():
    many = History(HISTORY.items[:1].repeat(3000, 1), HISTORY.lengths[:1].repeat(3000))
    gaps = draw_gaps(many, 0.4, 0.25)
    alone = gaps.sum(1) == 1
    assert gaps[alone][:, :6].sum() == 0
    assert gaps[alone][:, 6].all()
    assert (gaps[~alone].sum(1) == 3).all()
    assert alone.double().mean().item() == pytest.approx(0.25, abs=0.03)


def test_the_seed_decides_about_the_gaps():
    task = ClozeTask(model())
    (first, loss), (again, same), (other, _) = (gaps_and_loss(task, seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert loss == same
    assert not torch.equal(first, other)


def test_the_successor_is_learned_the_same_twice(cycle, tmp_path):
    learned = []
    for attempt in ("once", "twice"):
        torch.manual_seed(0)
        bert = BERT4Rec(37, dim=16, num_layers=1, hidden_dim=16, max_length=10, dropout=0.1)
        task = ClozeTask(bert, learning_rate=0.02, warmup_steps=5)
        fitted = fit(bert, cycle, folder=tmp_path / attempt, task=task, batch_size=16, max_epochs=20, progress=False)
        assert fitted.score > 0.9
        learned.append(bert.state_dict())
    assert all(torch.equal(tensor, learned[1][name]) for name, tensor in learned[0].items())


def test_nothing_flows_into_the_padding_row():
    bert = model()
    ClozeTask(bert)._sequence_loss(BATCH).backward()
    assert (bert.item_table.weight.grad[0] == 0).all()
    assert bert.item_bias.grad[0] == 0
    assert all(parameter.grad.isfinite().all() for parameter in bert.parameters())


def test_it_is_the_task_of_a_bert4rec_and_of_no_other_model():
    assert type(task_for(model(), mask_probability=0.6)) is ClozeTask
    with pytest.raises(ConfigError, match="model must be a BERT4Rec, got NARM"):
        ClozeTask(NARM(11))


def test_the_settings_are_kept_as_plain_data():
    settings = ClozeTask(model(), mask_probability=0.6, last_probability=0.0, temperature=2.0).settings
    assert (settings["mask_probability"], settings["last_probability"], settings["temperature"]) == (0.6, 0.0, 2.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask_probability": 0.0}, r"mask_probability must be in \(0, 1\), got 0.0"),
        ({"mask_probability": 1.0}, r"mask_probability must be in \(0, 1\), got 1.0"),
        ({"last_probability": -0.1}, r"last_probability must be in \[0, 1\], got -0.1"),
        ({"last_probability": 1.1}, r"last_probability must be in \[0, 1\], got 1.1"),
        ({"loss": "bce"}, "num_negatives must be an integer >= 1 for loss 'bce', got None"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ClozeTask(model(), **arguments)
