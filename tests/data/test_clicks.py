import numpy as np
import pytest
import torch

from recattn.data.click_samples import ClickSamples, label_by_rating, label_by_sampling
from recattn.data.clicks import ClickLoader
from recattn.data.histories import Histories
from recattn.data.split import events_between
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


@pytest.fixture(params=["ratings", "negatives", "gaps"])
def table(request, histories):
    """One candidate a moment, three a moment, and moments with gaps between them, the first of all among them."""
    targets = events_between(np.zeros_like(LENGTHS), LENGTHS)
    if request.param == "negatives":
        return label_by_sampling(histories, targets, negatives=2)
    samples = label_by_rating(histories, targets)
    if request.param == "ratings":
        return samples
    kept = np.random.default_rng(1).random(len(samples)) < 0.4
    columns = {name: column[kept] for name, column in samples.columns().items()}
    return ClickSamples(**columns | {"visible": columns["visible"] - (columns["visible"] % 5 == 0)})


def asked(batch, context):
    """(user, visible, time, item, label, what it sees) of each real candidate, where the row shows all of it."""
    found = []
    for row, column in (batch.candidates != 0).nonzero().tolist():
        seen = batch.history.items[row, : batch.visible[row, column]][-context:]
        found.append(
            (
                int(batch.users[row]),
                int(batch.request_time[row, column]),
                int(batch.candidates[row, column]),
                float(batch.labels[row, column]),
                tuple(seen.tolist()),
            )
        )
    return found


def expected(histories, samples, context):
    columns = (samples.users, samples.visible, samples.items, samples.labels, samples.times)
    return [
        (user, time, item, float(label), tuple(histories.of(user)[max(0, visible - context) : visible].tolist()))
        for user, visible, item, label, time in zip(*(column.tolist() for column in columns), strict=True)
    ]


@pytest.mark.parametrize("hold_next", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("batch_size", "window", "context"), [(13, 7, 5), (1, 3, 2), (500, 1, 50), (11, 1000, 11)])
def test_each_sample_is_asked_once_and_sees_what_came_before(
    histories, table, batch_size, window, context, shuffle, hold_next
):
    loader = ClickLoader(
        histories, table, batch_size=batch_size, window=window, context=context, shuffle=shuffle, hold_next=hold_next
    )
    batches = list(loader)
    found = [sample for batch in batches for sample in asked(batch, context)]
    assert sorted(found) == sorted(expected(histories, table, context))
    assert shuffle or found == expected(histories, table, context)
    assert len(batches) == len(loader)
    sizes = [int((batch.candidates != 0).sum()) for batch in batches]
    assert all(size == batch_size for size in sizes[:-1])
    assert sum(sizes) == len(table)
    rows = [
        row[real].unique() for batch in batches for row, real in zip(batch.visible, batch.candidates != 0, strict=True)
    ]
    assert max(map(len, rows)) <= window


def test_a_row_ends_where_its_last_sample_stands_or_with_the_event_it_is_about(histories, table):
    for hold_next in (False, True):
        for batch in ClickLoader(histories, table, batch_size=17, window=3, hold_next=hold_next):
            last = batch.visible.max(1).values
            before = batch.history.items.gather(1, last[:, None].clamp(max=batch.history.items.shape[1] - 1))[:, 0]
            if not hold_next:
                assert torch.equal(batch.history.lengths, last)
                continue
            assert torch.equal(batch.history.lengths, last + 1)  # every sample here is about an event that there is
            if len(table) == 91:  # one sample a moment: the event is the candidate
                assert torch.equal(before, batch.candidates.gather(1, (batch.candidates != 0).sum(1, True) - 1)[:, 0])


def test_what_is_asked_at_one_moment_stays_together(histories):
    samples = label_by_sampling(histories, events_between(np.ones_like(LENGTHS), LENGTHS), negatives=2)
    for batch in ClickLoader(histories, samples, batch_size=10_000, window=3, context=5):
        for visible, real in zip(batch.visible, batch.candidates != 0, strict=True):
            assert set(visible[real].bincount().tolist()) <= {0, 3}


def test_padding_is_zero_and_sees_nothing(histories, table):
    for batch in ClickLoader(histories, table, batch_size=29, window=7):
        padding = batch.candidates == 0
        for tensor in (batch.labels, batch.visible, batch.request_time):
            assert (tensor[padding] == 0).all()
        assert (batch.history.items[~batch.history.mask] == 0).all()


def test_seed_and_epoch_fix_the_order(histories, table):
    def candidates(**options):
        loader = ClickLoader(histories, table, batch_size=29, window=7, **options)
        return [tuple(row) for batch in loader for row in batch.candidates.tolist()]

    assert candidates(seed=1, epoch=2) == candidates(seed=1, epoch=2)
    assert candidates(seed=1, epoch=2) != candidates(seed=1, epoch=3)
    assert candidates(seed=1, epoch=2) != candidates(seed=2, epoch=2)


def test_samples_without_times_give_no_request_time(histories, table):
    bare = ClickSamples(table.users, table.visible, table.items, table.labels)
    assert next(iter(ClickLoader(histories, bare, batch_size=5))).request_time is None


@pytest.mark.parametrize("name", ["batch_size", "window", "context"])
def test_sizes_below_one_are_refused(histories, table, name):
    with pytest.raises(ConfigError, match=f"{name} must be an integer >= 1, got 0"):
        ClickLoader(histories, table, **{"batch_size": 5, name: 0})


def test_samples_that_the_histories_do_not_have_are_refused(histories):
    def load(user, visible, item, rows=1):
        columns = (np.full(rows, value) for value in (user, visible, item))
        return ClickLoader(histories, ClickSamples(*columns, np.ones(rows, bool)), batch_size=5)

    load(4, 71, 101)
    with pytest.raises(ConfigError, match="users or events that the histories do not have"):
        load(6, 0, 1)
    with pytest.raises(ConfigError, match="users or events that the histories do not have"):
        load(4, 72, 1)
    with pytest.raises(ConfigError, match="samples hold item 102, the histories have 101"):
        load(4, 71, 102)
    with pytest.raises(ConfigError, match="samples is empty"):
        load(4, 71, 1, rows=0)
