import torch

from recattn.data.windows import SequenceLoader
from recattn.training import SequenceData


class Trainer:
    def __init__(self, epoch):
        self.current_epoch = epoch


def test_each_epoch_has_the_batches_of_its_number(cycle):
    data = SequenceData(cycle, batch_size=5, positions=3, context=4, seed=11)
    for epoch in (0, 2):
        data.trainer = Trainer(epoch)
        expected = SequenceLoader(cycle.train, batch_size=5, positions=3, context=4, seed=11, epoch=epoch)
        for got, batch in zip(data.train_dataloader(), expected, strict=True):
            assert torch.equal(got.history.items, batch.history.items)
            assert torch.equal(got.positions, batch.positions)


def test_validation_asks_for_every_validation_target_once_and_for_no_test_target(cycle):
    data = SequenceData(cycle, time_aware=True)
    loader = data.val_dataloader()
    batches = list(loader)
    assert len(batches) == len(loader)
    expected = cycle.validation.items(cycle.histories)
    assert sorted(torch.cat([batch.targets for batch in batches]).tolist()) == sorted(expected.tolist())
    for batch in batches:
        last = batch.history.items.gather(1, batch.history.lengths[:, None] - 1)[:, 0]
        assert torch.equal(batch.targets, last % 37 + 1)
        assert torch.equal(batch.request_time, 100 + batch.history.lengths)
    assert all(batch.request_time is None for batch in SequenceData(cycle).val_dataloader())
