import numpy as np
import pytest
import torch

from recattn.data.click_tables import ClickTableLoader, read_click_table
from recattn.errors import ConfigError
from recattn.models import DIN


@pytest.fixture
def table(rows, write):
    return read_click_table(write(rows))


def samples(batch):
    """(user, item, label, context, what it sees) of each real candidate."""
    assert torch.equal(batch.users, batch.history.profile[:, 0])
    return [
        (
            int(batch.users[line]),
            int(batch.candidates[line, column]),
            float(batch.labels[line, column]),
            tuple(batch.context[line, column].tolist()),
            tuple(batch.history.items[line, : batch.history.lengths[line]].tolist()),
        )
        for line, column in (batch.candidates != 0).nonzero().tolist()
    ]


def expected(table, max_length):
    return [
        (int(table.users[owner]), int(item), float(label), tuple(code), tuple(table.histories.of(owner)[-max_length:]))
        for owner, item, label, code in zip(table.owners, table.candidates, table.labels, table.context, strict=True)
    ]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(
    ("batch_size", "max_candidates", "max_length"), [(13, 32, 5), (1, 1, 2), (997, 1, 50), (7, 2, 1)]
)
def test_each_row_comes_once_with_its_own_history(table, batch_size, max_candidates, max_length, shuffle):
    loader = ClickTableLoader(
        table,
        batch_size=batch_size,
        max_candidates=max_candidates,
        max_length=max_length,
        user_as_profile=True,
        shuffle=shuffle,
    )
    batches = list(loader)
    found = [sample for batch in batches for sample in samples(batch)]
    assert sorted(found) == sorted(expected(table, max_length))
    assert shuffle or found == expected(table, max_length)
    assert len(batches) == len(loader)
    sizes = [int((batch.candidates != 0).sum()) for batch in batches]
    assert sorted(sizes, reverse=True)[:-1] == [batch_size] * (len(sizes) - 1)
    assert all(batch.candidates.shape[1] <= max_candidates for batch in batches)
    for values in ("labels", "context"):
        assert all((getattr(batch, values)[batch.candidates == 0] == 0).all() for batch in batches)


def test_rows_of_one_history_stand_side_by_side(table):
    whole = list(ClickTableLoader(table, batch_size=8, seed=3))
    assert sum(len(batch.candidates) for batch in whole) == len(table.users)
    assert all(batch.candidates.shape[1] == 2 for batch in whole)


def test_rows_of_one_history_find_each_other_in_a_shuffled_file(rows, write):
    places = np.random.default_rng(5).permutation(len(rows))
    ordered, shuffled = (
        read_click_table(write(rows)),
        read_click_table(write([rows[place] for place in places], "x.csv")),
    )
    assert len(shuffled.users) == len(ordered.users)
    assert len(shuffled.histories.items) == len(ordered.histories.items)
    assert expected(shuffled, 50) == [expected(ordered, 50)[place] for place in places]
    batches = list(ClickTableLoader(shuffled, batch_size=8, seed=3))
    assert sum(len(batch.candidates) for batch in batches) == len(ordered.users)


def test_seed_and_epoch_fix_the_order(table):
    def candidates(**options):
        return torch.cat([batch.candidates.flatten() for batch in ClickTableLoader(table, batch_size=8, **options)])

    assert torch.equal(candidates(seed=1, epoch=2), candidates(seed=1, epoch=2))
    assert not torch.equal(candidates(seed=1, epoch=2), candidates(seed=1, epoch=3))
    assert not torch.equal(candidates(seed=1, epoch=2), candidates(seed=2, epoch=2))


def test_batches_are_of_histories_of_like_length(table):
    loader = ClickTableLoader(table, batch_size=4, seed=0)
    slots = sum(batch.history.items.numel() for batch in loader)
    assert slots < 1.1 * int(np.maximum(table.histories.lengths, 1).sum())


def test_without_columns_of_context_there_is_none(rows, write):
    head = ["label", "user_id", "item_id", "item_history"]
    table = read_click_table(write([[row[0], row[1], row[2], row[5]] for row in rows], head=head))
    assert next(iter(ClickTableLoader(table, batch_size=8))).context is None


def test_users_that_training_did_not_have_are_told_apart_and_have_no_profile(table, rows, write):
    new = [[row[0], f"new-{row[1]}", *row[2:]] for row in rows]
    test = read_click_table(write(new, "test.csv"), fitted=table.vocabulary)
    (batch,) = ClickTableLoader(test, batch_size=997, user_as_profile=True, shuffle=False)
    assert (batch.history.profile == 0).all()
    assert len(batch.users.unique()) == 11
    assert batch.users.min() == len(table.vocabulary.users) + 1


def test_the_profile_is_the_user_on_request(table):
    loader = ClickTableLoader(table, batch_size=8, user_as_profile=True)
    assert loader.profile_sizes == (12,)
    assert next(iter(ClickTableLoader(table, batch_size=8))).history.profile is None


@pytest.mark.parametrize("name", ["batch_size", "max_length", "max_candidates"])
def test_sizes_below_one_are_refused(table, name):
    with pytest.raises(ConfigError, match=f"{name} must be an integer >= 1, got 0"):
        ClickTableLoader(table, **{"batch_size": 8, name: 0})


def test_a_din_learns_from_a_click_table(write):
    """The click is of the category of the last event; items and their order in the catalogue tell nothing."""
    rng = np.random.default_rng(0)
    head = ["label", "user_id", "item_id", "cate_id", "item_history", "cate_history"]
    rows = []
    for user in range(300):
        seen = rng.integers(0, 41, rng.integers(1, 6))
        for item in rng.integers(0, 41, 2):
            label = int((seen % 2 == item % 2).mean() > 0.5)
            lists = ["^".join(map(str, values)) for values in (seen, seen % 2)]
            rows.append([label, user, item, item % 2, *lists])
    table = read_click_table(write(rows, head=head))
    vocabulary, histories = table.vocabulary, table.histories
    model = DIN(
        vocabulary.num_items,
        dim=8,
        feature_sizes=histories.feature_sizes,
        feature_widths=histories.feature_widths,
        profile_sizes=ClickTableLoader(table, batch_size=1, user_as_profile=True).profile_sizes,
    )
    model.value_table.set_features(torch.from_numpy(histories.features), torch.from_numpy(vocabulary.met))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for epoch in range(6):
        total = 0.0
        for batch in ClickTableLoader(table, batch_size=64, user_as_profile=True, epoch=epoch):
            real = batch.candidates != 0
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(batch)[real], batch.labels[real])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * int(real.sum())
        losses.append(total / len(table))
    assert losses[0] > 0.5
    assert losses[-1] < 0.35
