import pytest
import torch

from recattn.batch import History, SequenceBatch
from recattn.errors import ConfigError
from recattn.models import NARM, SlateDecoder
from recattn.training import SlateTask, fit


def test_the_loss_is_the_cross_entropy_of_every_step_by_the_formula():
    model = SlateDecoder(11, dim=8, slate_length=3).eval()
    history = History(torch.tensor([[3, 5, 7, 2, 9], [4, 6, 4, 0, 0]]), torch.tensor([5, 3]))
    positions, mask = torch.tensor([[1, 3], [2, 0]]), torch.tensor([[True, True], [True, False]])
    got = SlateTask(model).training_step.__self__._sequence_loss(SequenceBatch(history, positions, mask))
    losses = []
    for row, column in mask.nonzero().tolist():
        start = int(positions[row, column])
        events = history.items[row, : history.lengths[row]].tolist()
        slate = events[start : start + 3]
        padded = torch.tensor(slate + [0] * (3 - len(slate)))[None, None]
        states = model.slate_states(
            History(*(x[row : row + 1] for x in history[:2])), positions[row : row + 1, column : column + 1], padded
        )[0, 0]
        for step, target in enumerate(slate):
            logits = model.item_embeddings()[1:] @ states[step]
            had = {item for item in events[: start + step] if item != target}
            left = [item for item in range(1, 12) if item not in had]
            losses.append(torch.logsumexp(logits[[item - 1 for item in left]], 0) - logits[target - 1])
    assert len(losses) == 3 + 2 + 1
    torch.testing.assert_close(got, torch.stack(losses).mean())


def test_learns_what_follows_what_follows(cycle, tmp_path):
    """Items on a circle: the slate after 5 is 6, 7, 8, 9, which no ranking of the next item alone would give."""
    torch.manual_seed(0)
    model = SlateDecoder(37, dim=24, slate_length=4, max_length=20, dropout=0.1)
    task = SlateTask(model, learning_rate=1e-2, warmup_steps=5)
    fit(model, cycle, folder=tmp_path, task=task, max_epochs=30, patience=30, progress=False)
    last = torch.tensor([5, 20, 36])
    history = History((last[:, None] + torch.arange(-4, 1) - 1) % 37 + 1, torch.tensor([5, 5, 5]))
    expected = (last[:, None] + torch.arange(1, 5) - 1) % 37 + 1
    assert model.decode(history).items.tolist() == expected.tolist()


def test_other_losses_and_models_are_refused():
    with pytest.raises(ConfigError, match="model must be a SlateDecoder, got NARM"):
        SlateTask(NARM(11))
    for wrong in ({"loss": "bce"}, {"num_negatives": 5}):
        with pytest.raises(ConfigError, match="slates are trained with loss 'softmax'"):
            SlateTask(SlateDecoder(11), **wrong)
