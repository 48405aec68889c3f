from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recattn.data.histories import Histories
from recattn.data.splits import leave_one_out
from recattn.data.windows import SequenceLoader
from recattn.errors import ConfigError


def numbered(lengths, **more):
    """Every event is an item of its own, so that a batch tells which event it holds; times are 1000 + number."""
    total = sum(lengths)
    items = np.arange(1, total + 1, dtype=np.int32)
    return Histories(items, np.r_[0, np.cumsum(lengths)].astype(np.int64), total, times=1000 + items.astype(np.int64))


def targets_of(batches):
    """The item of every target, with the items it sees."""
    for batch in batches:
        for row in range(len(batch.mask)):
            items = batch.history.items[row].tolist()
            for position in batch.positions[row][batch.mask[row]].tolist():
                assert 0 < position < batch.history.lengths[row]
                yield items[position], items[:position]


@given(
    lengths=st.lists(st.integers(0, 23), min_size=1, max_size=13).filter(lambda x: max(x) >= 2),
    batch_size=st.integers(1, 7),
    positions=st.integers(1, 11),
    context=st.integers(1, 11),
    epoch=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_every_event_but_the_first_is_a_target_once_with_its_context(lengths, batch_size, positions, context, epoch):
    histories = numbered(lengths)
    loader = SequenceLoader(histories, batch_size=batch_size, positions=positions, context=context, epoch=epoch)
    batches = list(loader)
    seen = Counter()
    first = {int(histories.offsets[u]): int(length) for u, length in enumerate(lengths)}
    for item, before in targets_of(batches):
        seen[item] += 1
        start = max(begin for begin in first if begin < item)  # the last user to begin before this event
        place = item - 1 - start
        assert len(before) >= min(context, place)
        assert before == list(range(item - len(before), item))
        assert item - len(before) > start
    expected = {int(o) + 1 + k for o, n in zip(histories.offsets, lengths, strict=False) for k in range(1, n)}
    assert seen == Counter(expected)
    assert len(loader) == len(batches)
    for batch in batches:
        assert len(batch.mask) <= batch_size
        assert batch.positions.shape == batch.mask.shape
        assert batch.mask.shape[1] <= positions
        assert batch.mask.any(0).all()  # no column of padding alone
        assert batch.history.items.shape[1] <= positions + context
        assert (batch.positions[~batch.mask] == 0).all()
        assert (batch.history.items[~batch.history.mask] == 0).all()
        real = batch.history.mask
        assert torch.equal(batch.history.times[real], batch.history.items[real] + 1000)


def same(left, right):
    return len(left) == len(right) and all(
        torch.equal(a.history.items, b.history.items) and torch.equal(a.positions, b.positions)
        for a, b in zip(left, right, strict=True)
    )


def test_seed_and_epoch_fix_the_batches():
    histories = numbered([29, 31, 0, 17, 1, 41])

    def batches(**more):
        return list(SequenceLoader(histories, batch_size=2, positions=5, context=7, **more))

    assert same(batches(seed=3, epoch=2), batches(seed=3, epoch=2))
    assert not same(batches(seed=3, epoch=2), batches(seed=3, epoch=1))
    assert not same(batches(seed=3, epoch=2), batches(seed=2, epoch=3))
    loader = SequenceLoader(histories, batch_size=2, positions=5, context=7)
    assert same(list(loader), list(loader))


def test_each_epoch_cuts_elsewhere():
    histories = numbered([41])
    cuts = {
        tuple(sorted(min(item for item, _ in targets_of([batch])) for batch in batches))
        for batches in (
            list(SequenceLoader(histories, batch_size=1, positions=11, context=3, epoch=epoch)) for epoch in range(40)
        )
    }
    assert {starts[1] for starts in cuts} == set(range(3, 14))  # the first sequence has 1 to 11 targets


def test_order_is_random_but_batches_hold_similar_lengths():
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 41, 257).tolist()
    batches = list(SequenceLoader(numbered(lengths), batch_size=8, positions=40, context=40))
    widths = [batch.history.items.shape[1] for batch in batches]
    assert widths != sorted(widths)
    assert widths != sorted(widths, reverse=True)
    real = sum(int(batch.history.lengths.sum()) for batch in batches)
    assert real / sum(batch.history.items.numel() for batch in batches) > 0.8


def test_users_with_no_or_one_event_bring_no_sequence():
    batches = list(SequenceLoader(numbered([0, 1, 2, 1, 0]), batch_size=3))
    assert list(targets_of(batches)) == [(3, [2])]
    assert sum(len(batch.mask) for batch in batches) == 1


def test_nothing_beyond_the_training_part_is_read():
    split = leave_one_out(numbered([5, 2, 7, 4]))
    held_out = {int(x) for part in (split.validation, split.test) for x in part.items(split.histories)}
    assert len(held_out) == 6
    shown = {
        item for batch in SequenceLoader(split.train, batch_size=2) for item in batch.history.items.flatten().tolist()
    }
    assert shown == set(split.histories.items.tolist()) - held_out | {0}


def test_profile_and_ratings_come_along():
    histories = Histories(
        np.array([3, 1, 2, 2], np.int32),
        np.array([0, 2, 4]),
        num_items=3,
        ratings=np.array([1.0, 2.0, 3.0, 4.0], np.float32),
        profile=np.array([[5], [7]], np.int32),
        profile_sizes=(11,),
    )
    (batch,) = SequenceLoader(histories, batch_size=2)
    order = batch.history.profile[:, 0].argsort()
    assert batch.history.profile[order].tolist() == [[5], [7]]
    assert batch.history.ratings[order].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert batch.history.times is None


def test_wrong_sizes_are_named():
    histories = numbered([5])
    for name in ("batch_size", "positions", "context"):
        with pytest.raises(ConfigError, match=f"{name} must be an integer >= 1, got 0"):
            SequenceLoader(histories, **{"batch_size": 3, name: 0})


def test_data_without_a_pair_of_events_is_refused():
    with pytest.raises(ConfigError, match="no user has two events"):
        SequenceLoader(numbered([1, 0, 1]), batch_size=3)
