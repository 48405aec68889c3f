import math

import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from recattn.batch import History, RankingBatch, SequenceBatch
from recattn.errors import ConfigError
from recattn.models import DIEN, DIN, TargetAttention
from recattn.training import RankingTask, SequenceData

NUM_ITEMS = 13
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # a Trainer of the user's own, not `fit`'s


def model_of(**more):
    torch.manual_seed(0)
    return TargetAttention(NUM_ITEMS, **{"dim": 14, "transitions": 0, "dropout": 0.0, "use_times": False} | more)


def sequences():
    items = torch.tensor([[3, 5, 3, 7, 2], [4, 6, 0, 0, 0]])
    positions = torch.tensor([[1, 2, 4], [1, 0, 0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    return SequenceBatch(History(items, torch.tensor([5, 2])), positions, mask)


def silent(task):
    """Outside of a Trainer there is nothing to log to."""
    task.log = lambda *_, **__: None
    return task


def trainer(folder, **more):
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        **more,
    )


def logits_by_hand(model, batch):
    """For each real target: its logits over the items that are candidates, and the place of the target among them."""
    for row in range(len(batch.mask)):
        for place in batch.positions[row][batch.mask[row]].tolist():
            before = batch.history.items[row, :place]
            target = batch.history.items[row, place].item()
            candidates = [c for c in range(1, NUM_ITEMS + 1) if c == target or c not in before.tolist()]
            history = History(before[None], torch.tensor([place]))
            yield model(RankingBatch(history, torch.tensor([candidates])))[0], candidates.index(target)


def test_softmax_is_the_cross_entropy_with_what_is_still_to_be_had():
    """Items the user has already are no candidates; the target always is, even where it is taken again."""
    model, batch = model_of(), sequences()
    with torch.no_grad():
        model.item_bias.weight[1:].normal_()
        model.value_table.weight[1:].normal_()
    expected = torch.stack([F.cross_entropy(x, torch.tensor(y)) for x, y in logits_by_hand(model, batch)]).mean()
    loss = silent(RankingTask(model)).training_step(batch, 0)
    torch.testing.assert_close(loss, expected)


def test_binary_loss_over_the_catalogue_by_hand():
    model, batch = model_of(), sequences()
    expected = []
    for logits, target in logits_by_hand(model, batch):
        others = torch.cat([logits[:target], logits[target + 1 :]])
        expected.append(F.softplus(-logits[target]) + F.softplus(others).mean())
    loss = silent(RankingTask(model, loss="bce")).training_step(batch, 0)
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_the_sampled_softmax_estimates_the_full_one():
    model, batch = model_of(), sequences()
    full = silent(RankingTask(model)).training_step(batch, 0)
    counts = torch.arange(NUM_ITEMS + 1.0) + 1
    task = silent(RankingTask(model, num_negatives=5000, item_counts=counts))
    assert task.training_step(batch, 0).item() == pytest.approx(full.item(), abs=0.03)


def test_negatives_are_drawn_by_popularity_to_the_three_quarters_and_never_padding():
    counts = torch.tensor([50.0, 16.0, 81.0, 0.0] + [1.0] * 10)
    chances = RankingTask(model_of(), num_negatives=3, item_counts=counts).chances
    expected = torch.tensor([0.0, 8.0, 27.0, 0.0] + [1.0] * 10) / 45
    torch.testing.assert_close(chances, expected)
    uniform = RankingTask(model_of(), num_negatives=3).chances
    torch.testing.assert_close(uniform, torch.tensor([0.0] + [1 / 13] * 13))
    assert counts[0] == 50  # the caller's tensor is left alone


@pytest.mark.parametrize("task", [{}, {"loss": "bce"}, {"num_negatives": 17}, {"num_negatives": 13, "loss": "bce"}])
def test_padding_positions_have_no_part_in_the_loss(task):
    """Neither in the loss nor in its gradients nor, with Dice, in what the activations learn."""
    results = []
    for wide in (False, True):
        batch = sequences()
        if wide:
            more = torch.zeros(2, 4, dtype=torch.int64)
            batch = batch._replace(
                positions=torch.cat([batch.positions, more], 1), mask=torch.cat([batch.mask, more > 0], 1)
            )
        torch.manual_seed(0)
        model = DIN(NUM_ITEMS, dim=14, hidden_dims=(5,), readout_dims=(7,))
        torch.manual_seed(1)
        loss = silent(RankingTask(model, **task)).training_step(batch, 0)
        loss.backward()
        results.append((loss, [p.grad for p in model.parameters()], list(model.buffers())))
    torch.testing.assert_close(*results)


def test_a_sample_as_large_as_the_catalogue_is_not_taken_for_the_catalogue():
    """Drawn with replacement, it holds other items in another order: counted keys must be looked up for those."""
    model = model_of(transitions=3)
    pairs = torch.arange(1, NUM_ITEMS + 1)[:, None] * (NUM_ITEMS + 1) + torch.arange(1, NUM_ITEMS + 1)
    model.transition_head.set_counts(pairs.flatten(), torch.rand(pairs.numel()) + 0.1)
    history, positions = sequences().history, sequences().positions
    sample = torch.randint(1, NUM_ITEMS + 1, (NUM_ITEMS,))
    found = model.eval().at_positions(history, positions, sample)
    torch.testing.assert_close(
        found, model.at_positions(history, positions, torch.arange(1, NUM_ITEMS + 1))[..., sample - 1]
    )


def test_which_negatives_a_user_has_takes_no_memory_of_the_size_of_the_catalogue():
    """Nor does it matter that the sample holds an item twice, lacks most of a history, or what padding is."""
    task = RankingTask(model_of(), num_negatives=3)
    task.model.num_items = 10**15
    items = torch.tensor([[10**14, 5, 10**14, 7, 0]])
    positions, sample = torch.tensor([[1, 2, 3]]), torch.tensor([5, 10**14, 6, 5, 10**15])
    found = task._no_candidates(items, positions, items.gather(1, positions), sample)
    assert found.int().tolist() == [[[0, 1, 0, 0, 0], [1, 0, 0, 1, 0], [1, 1, 0, 1, 0]]]


def clicks(rows=29):
    """Labelled candidates: a click where the candidate is the last event plus one."""
    last = torch.randint(1, NUM_ITEMS, (rows, 1))
    history = History(torch.cat([torch.randint(1, NUM_ITEMS + 1, (rows, 3)), last], 1), torch.full((rows,), 4))
    candidates = torch.randint(1, NUM_ITEMS + 1, (rows, 5))
    candidates[:, 0] = last[:, 0] + 1
    candidates[::2, 4] = 0
    return RankingBatch(history, candidates, (candidates == last + 1).float())


def test_a_table_of_clicks_is_cross_entropy_with_its_labels():
    model, batch = model_of(), clicks()
    logits = model(batch)
    losses = -(batch.labels * logits.sigmoid().log() + (1 - batch.labels) * (1 - logits.sigmoid()).log())
    loss = silent(RankingTask(model, loss="bce")).training_step(batch, 0)
    torch.testing.assert_close(loss, losses[batch.candidates != 0].mean())


def test_clicks_without_labels_are_refused():
    with pytest.raises(ConfigError, match="a RankingBatch to train on needs labels"):
        silent(RankingTask(model_of())).training_step(clicks()._replace(labels=None), 0)


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*have no `val_dataloader`.*")
def test_clicks_train(tmp_path):
    model, batch = model_of(recency=True), clicks(211)
    task = RankingTask(model, loss="bce", learning_rate=0.05, warmup_steps=5)
    before = silent(RankingTask(model)).training_step(batch, 0).item()

    def collate(rows):
        history = History(batch.history.items[rows], batch.history.lengths[rows])
        return RankingBatch(history, batch.candidates[rows], batch.labels[rows])

    trainer(tmp_path, max_epochs=6).fit(task, DataLoader(range(211), batch_size=32, collate_fn=collate))
    after = silent(RankingTask(model)).training_step(batch, 0).item()
    assert after < 0.5 * before
    found = model.eval()(batch).sigmoid()
    assert found[batch.labels == 1].mean() > found[(batch.labels == 0) & (batch.candidates != 0)].mean() + 0.5


def test_the_loss_falls(cycle, tmp_path):
    model = TargetAttention(37, dim=14, transitions=0)
    task = RankingTask(model, learning_rate=0.02, warmup_steps=5)
    losses = []

    class Record(pl.Callback):
        def on_train_epoch_end(self, trainer, module):
            losses.append(float(trainer.callback_metrics["loss"]))

    trainer(tmp_path, max_epochs=4, callbacks=[Record()]).fit(task, SequenceData(cycle))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.7 * losses[0]


def test_any_trainer_takes_the_task(cycle, tmp_path):
    model = TargetAttention(37, dim=14, transitions=0)
    by_hand = trainer(tmp_path, fast_dev_run=True)
    by_hand.fit(RankingTask(model), SequenceData(cycle))
    assert {"loss", "hr@10", "ndcg@10"} <= by_hand.callback_metrics.keys()


@pytest.mark.filterwarnings("ignore:.*early stopping conditions.*", "ignore:.*`max_epochs` was not set.*")
@pytest.mark.parametrize("limits", [{"max_steps": 3}, {"max_time": "00:00:00:01", "max_epochs": -1}])
def test_trainers_bound_by_steps_or_time_take_it_too(cycle, tmp_path, limits):
    model = TargetAttention(37, dim=14, transitions=0)
    trainer(tmp_path, limit_val_batches=1, **limits).fit(RankingTask(model), SequenceData(cycle))


def test_the_schedule_warms_up_and_falls_to_zero(cycle, tmp_path):
    task = RankingTask(TargetAttention(37, dim=14, transitions=0), learning_rate=0.02, warmup_steps=5)
    rates = []

    class Record(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, index):
            rates.append(module.optimizers().param_groups[0]["lr"])

    trainer(tmp_path, max_epochs=2, callbacks=[Record()], limit_val_batches=0).fit(task, SequenceData(cycle))
    total = 2 * len(SequenceData(cycle).train_dataloader())
    cosine = [0.5 * (1 + math.cos(math.pi * min(1.0, step / total))) for step in range(len(rates))]
    warmed = [0.2, 0.4, 0.6, 0.8] + [1.0] * (len(rates) - 4)
    assert rates == pytest.approx([0.02 * a * b for a, b in zip(cosine, warmed, strict=True)])
    assert rates[-1] < 0.1 * 0.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "hinge"}, "loss must be one of softmax, bce, got 'hinge'"),
        ({"num_negatives": 0}, "num_negatives must be an integer >= 1"),
        ({"learning_rate": 0.0}, "learning_rate must be .*> 0, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be .*> 0, got nan"),
        ({"warmup_steps": 0}, "warmup_steps must be an integer >= 1, got 0"),
        ({"weight_decay": -1.0}, "weight_decay must be >= 0, got -1.0"),
        ({"num_negatives": 3, "item_counts": torch.ones(NUM_ITEMS)}, r"item_counts must have 14 entries, got 13"),
        ({"num_negatives": 3, "item_counts": torch.zeros(NUM_ITEMS + 1)}, "item_counts"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        RankingTask(model_of(), **arguments)


@pytest.mark.parametrize("kind", ["sequences", "clicks"])
def test_a_models_own_loss_is_added_with_its_weight(kind):
    torch.manual_seed(0)
    model, batch = DIEN(NUM_ITEMS, dim=6, readout_dims=(5,), readout_activation="relu"), sequences()
    if kind == "clicks":
        candidates = torch.tensor([[3, 9], [4, 0]])
        batch = RankingBatch(batch.history, candidates, labels=torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    losses = {}
    for weight in (0.0, 1.0, 0.25):
        torch.manual_seed(1)
        losses[weight] = silent(RankingTask(model, auxiliary_weight=weight)).training_step(batch, 0)
    torch.manual_seed(1)
    own = model.auxiliary_loss(batch.history)
    assert own > 0
    torch.testing.assert_close(losses[1.0], losses[0.0] + own)
    torch.testing.assert_close(losses[0.25], losses[0.0] + 0.25 * own)
    model.zero_grad()
    own.backward()
    assert (model.extractor.gru.weight_ih_l0.grad != 0).any()


def test_a_model_without_a_loss_of_its_own_has_none_added():
    model, batch = model_of(), sequences()
    assert model.auxiliary_loss(batch.history) is None
    with_it, without = (silent(RankingTask(model, auxiliary_weight=w)).training_step(batch, 0) for w in (3.0, 0.0))
    torch.testing.assert_close(with_it, without, atol=0, rtol=0)


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_an_auxiliary_weight_must_be_a_number_from_0(weight):
    with pytest.raises(ConfigError, match="auxiliary_weight"):
        RankingTask(model_of(), auxiliary_weight=weight)
