"""Small data with known answers, and MovieLens where it is at hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recattn.data.histories import Histories
from recattn.data.splits import Split, leave_one_out


def histories_of(*rows: list[int], num_items: int) -> Histories:
    """One user a row; event number t of each user happens at second 100 + t."""
    lengths = [len(row) for row in rows]
    times = np.concatenate([100 + np.arange(length) for length in lengths])
    items = np.concatenate([np.asarray(row) for row in rows]).astype(np.int32)
    return Histories(items, np.concatenate([[0], np.cumsum(lengths)]), num_items, times)


@pytest.fixture(scope="session")
def random_split() -> Split:
    """53 users, 31 items, 3 to 19 distinct items each: no structure, all lengths."""
    rng = np.random.default_rng(5)
    rows = [list(rng.permutation(np.arange(1, 32))[: rng.integers(3, 20)]) for _ in range(53)]
    return leave_one_out(histories_of(*rows, num_items=31))


@pytest.fixture(scope="session")
def successor_split() -> Split:
    """47 users on a circle of 23 items: next = previous + 1, from random starts."""
    rng = np.random.default_rng(7)
    rows = [list((rng.integers(23) + np.arange(rng.integers(5, 20))) % 23 + 1) for _ in range(47)]
    return leave_one_out(histories_of(*rows, num_items=23))


@pytest.fixture(scope="session")
def checkerboard_split() -> Split:
    """61 users who take only even or only odd of 34 items, in random order."""
    rng = np.random.default_rng(11)
    rows = [list(rng.permutation(np.arange(1 + user % 2, 35, 2))[:11]) for user in range(61)]
    return leave_one_out(histories_of(*rows, num_items=34))


@pytest.fixture
def movielens_100k(shared_data: Callable[[str], Path]) -> Split:
    """u.data in stable order by (user, time, file row), each user's last event held out."""
    path = shared_data("ml-100k") / "u.data"
    table = pd.read_csv(path, sep="\t", header=None, names=["user", "item", "rating", "time"])
    table = table.sort_values(["user", "time"], kind="stable")
    items = np.unique(table["item"], return_inverse=True)[1] + 1
    offsets = np.concatenate([[0], np.cumsum(table.groupby("user").size())])
    return leave_one_out(Histories(items.astype(np.int32), offsets, int(items.max()), table["time"].to_numpy()))
