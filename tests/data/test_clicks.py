import numpy as np
import pytest
import torch

from recattn.data.clicks import ClickLoader
from recattn.data.histories import Histories
from recattn.errors import ConfigError

LENGTHS = np.array([17, 0, 1, 2, 71, 5])


@pytest.fixture
def histories():
    rng = np.random.default_rng(0)
    total = int(LENGTHS.sum())
    return Histories(
        items=rng.integers(1, 102, total).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(LENGTHS)]),
        num_items=101,
        times=np.arange(total) * 7,
        ratings=rng.integers(1, 6, total).astype(np.float32),
        profile=np.arange(len(LENGTHS), dtype=np.int32)[:, None],
        profile_sizes=(len(LENGTHS),),
    )


def samples(batch, context):
    """(user, time, item, label, what it sees) of each real candidate."""
    found = []
    for row, column in (batch.candidates != 0).nonzero().tolist():
        seen = batch.history.items[row, : batch.visible[row, column]][-context:]
        found.append(
            (
                int(batch.history.profile[row, 0]),
                int(batch.request_time[row, column]),
                int(batch.candidates[row, column]),
                float(batch.labels[row, column]),
                tuple(seen.tolist()),
            )
        )
    return found


def expected(histories, context, starts=None, ends=None):
    found = []
    for user in range(histories.num_users):
        offset = histories.offsets[user]
        first = 1 if starts is None else starts[user]
        last = LENGTHS[user] if ends is None else ends[user]
        for position in range(first, last):
            event = offset + position
            seen = histories.items[max(offset, event - context) : event]
            label = float(histories.ratings[event] >= 4)
            found.append((user, int(histories.times[event]), int(histories.items[event]), label, tuple(seen.tolist())))
    return found


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("batch_size", "window", "context"), [(13, 7, 5), (1, 3, 2), (500, 1, 50), (11, 1000, 11)])
def test_each_event_is_a_sample_once_and_sees_what_came_before(histories, batch_size, window, context, shuffle):
    loader = ClickLoader(histories, batch_size=batch_size, window=window, context=context, shuffle=shuffle)
    batches = list(loader)
    found = [sample for batch in batches for sample in samples(batch, context)]
    assert sorted(found) == sorted(expected(histories, context))
    assert shuffle or found == expected(histories, context)
    assert len(batches) == len(loader)
    sizes = [int((batch.candidates != 0).sum()) for batch in batches]
    assert all(size == batch_size for size in sizes[:-1])
    assert sum(sizes) == loader.num_samples == 91
    assert all(batch.candidates.shape[1] <= window for batch in batches)


def test_only_the_positions_asked_for(histories):
    starts, ends = np.array([3, 0, 0, 0, 60, 5]), np.array([9, 0, 1, 2, 71, 5])
    found = []
    for batch in ClickLoader(histories, batch_size=4, context=6, starts=starts, ends=ends):
        found += samples(batch, 6)
    assert sorted(found) == sorted(expected(histories, 6, starts, ends))


def test_padding_is_zero_and_sees_nothing(histories):
    for batch in ClickLoader(histories, batch_size=29, window=7):
        padding = batch.candidates == 0
        assert (batch.labels[padding] == 0).all()
        assert (batch.visible[padding] == 0).all()
        assert (batch.history.items[~batch.history.mask] == 0).all()


def test_seed_and_epoch_fix_the_order(histories):
    def candidates(**options):
        return torch.cat([b.candidates.flatten() for b in ClickLoader(histories, batch_size=29, window=7, **options)])

    assert torch.equal(candidates(seed=1, epoch=2), candidates(seed=1, epoch=2))
    assert not torch.equal(candidates(seed=1, epoch=2), candidates(seed=1, epoch=3))
    assert not torch.equal(candidates(seed=1, epoch=2), candidates(seed=2, epoch=2))


def test_histories_without_times_give_no_request_time(histories):
    bare = Histories(histories.items, histories.offsets, 101, ratings=histories.ratings)
    batch = next(iter(ClickLoader(bare, batch_size=5)))
    assert batch.request_time is None
    assert batch.history.times is None


@pytest.mark.parametrize("name", ["batch_size", "window", "context"])
def test_sizes_below_one_are_refused(histories, name):
    with pytest.raises(ConfigError, match=f"{name} must be an integer >= 1, got 0"):
        ClickLoader(histories, **{"batch_size": 5, name: 0})


def test_what_cannot_be_labelled_is_refused(histories):
    with pytest.raises(ConfigError, match="no ratings"):
        ClickLoader(Histories(histories.items, histories.offsets, 101), batch_size=5)
    with pytest.raises(ConfigError, match="from 0 to the length"):
        ClickLoader(histories, batch_size=5, ends=LENGTHS + 1)
    with pytest.raises(ConfigError, match="from 0 to the length"):
        ClickLoader(histories, batch_size=5, starts=np.array([-1]))
    with pytest.raises(ConfigError, match="no samples"):
        ClickLoader(histories, batch_size=5, starts=LENGTHS)
