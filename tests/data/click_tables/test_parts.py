import numpy as np
import pytest

from recattn.data.click_tables import ClickTables, read_click_table
from recattn.errors import ConfigError, DataError


@pytest.fixture
def table(rows, write):
    return read_click_table(write(rows))


def test_a_share_of_the_users_is_held_out_with_all_their_rows(table):
    tables = ClickTables.hold_out(table, 0.3)
    train, held = (set(part.of_users.tolist()) for part in (tables.train, tables.validation))
    assert len(held) == round(0.3 * 11)
    assert not train & held
    assert len(tables.train) + len(tables.validation) == len(table)
    rows = np.isin(table.of_users, list(held))
    assert tables.validation.candidates.tolist() == table.candidates[rows].tolist()
    assert tables.validation.context.tolist() == table.context[rows].tolist()
    assert f"{len(set(tables.train.owners))} histories" in tables.lines()[0]
    assert ClickTables.hold_out(table, 0.3).hash == tables.hash != ClickTables.hold_out(table, 0.4).hash


def test_met_is_what_the_rows_to_train_on_hold(rows, write):
    lone = [["1", f"x{n}", str(900 + n), "c0", "3", f"{800 + n}", "c1"] for n in range(9)]
    lone += [["0", f"x{n}", "100", "c0", "3", f"{800 + n}", "c1"] for n in range(9)]
    table = read_click_table(write([*rows, *lone]))
    whole = ClickTables(table, table)
    assert whole.met[1 : len(table.vocabulary.items) + 1].all()
    assert not whole.met[0]
    assert not whole.met[len(table.vocabulary.items) + 1 :].any()
    tables = ClickTables.hold_out(table, 0.4)
    held = set(table.vocabulary.users.decode(np.unique(tables.validation.of_users)))
    for n in range(9):
        number = table.vocabulary.items.encode([800 + n, 900 + n])
        assert tables.met[number].tolist() == [f"x{n}" not in held] * 2
    assert 0 < sum(f"x{n}" in held for n in range(9)) < 9


def test_the_longest_history_of_each_user_is_kept_and_of_equals_the_last(write):
    head = ["label", "user_id", "item_id", "item_history"]
    rows = [
        ["1", "b", "7", "5^7"],
        ["0", "b", "7", "5"],
        ["0", "a", "5", ""],
        ["1", "b", "7", "7^5"],
        ["1", "c", "5", "7"],
    ]
    table = read_click_table(write(rows, head=head))
    found = table.longest_histories()
    raw = [table.vocabulary.items.decode(found.of(user)) for user in range(3)]
    assert dict(zip(table.vocabulary.users.decode([1, 2, 3]), raw, strict=True)) == {"a": [], "b": [7, 5], "c": [7]}
    other = read_click_table(write([*rows, ["0", "z", "5", "5^5^5"]], "test.csv", head), fitted=table.vocabulary)
    assert other.longest_histories().items.tolist() == found.items.tolist(), "users of training alone"


def test_parts_that_cannot_train_are_refused(table, rows, write):
    with pytest.raises(ConfigError, match="without the training table's vocabulary"):
        ClickTables(table, read_click_table(write(rows)))
    ones = read_click_table(write([["1", *row[1:]] for row in rows], "ones.csv"), fitted=table.vocabulary)
    with pytest.raises(DataError, match=f"all {len(rows)} labels of the validation rows are 1: both are needed"):
        ClickTables(table, ones)
    with pytest.raises(DataError, match="all 3 labels of the train rows are 0"):
        ClickTables(table.take(np.flatnonzero(table.labels == 0)[:3]), table)
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(ConfigError, match=f"validation_share must be between 0 and 1, got {share}"):
            ClickTables.hold_out(table, share)
    with pytest.raises(DataError, match=r"validation_share 0\.01 of 11 users leaves a part without any"):
        ClickTables.hold_out(table, 0.01)
