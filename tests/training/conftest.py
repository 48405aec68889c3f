"""Data with a planted rule, small enough to be learned in seconds."""

import numpy as np
import pytest

from recattn.data.histories import Histories
from recattn.data.split import Targets, make_split
from recattn.data.splits import leave_one_out


def histories_of(rows, num_items):
    """Event number t of each user happens at second 100 + t."""
    lengths = [len(row) for row in rows]
    times = np.concatenate([100 + np.arange(length) for length in lengths])
    items = np.concatenate(rows).astype(np.int32)
    return Histories(items, np.r_[0, np.cumsum(lengths)].astype(np.int64), num_items, times)


@pytest.fixture(scope="session")
def cycle():
    """89 users on a circle of 37 items: next = previous + 1, from random starts."""
    rng = np.random.default_rng(7)
    return leave_one_out(
        histories_of([(rng.integers(37) + np.arange(rng.integers(5, 14))) % 37 + 1 for _ in range(89)], 37)
    )


@pytest.fixture(scope="session")
def needle():
    """Among noise (items 11 to 30) stands one of ten markers, anywhere; the last item is marker + 30.

    Other users train than those who are asked, so nothing can be known about them but their history.
    """
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(293):
        marker, noise = rng.integers(1, 11), rng.permutation(np.arange(11, 31))[:5]
        rows.append(np.concatenate([np.insert(noise, rng.integers(6), marker), [marker + 30]]))
    histories = histories_of(rows, 40)
    asked = np.arange(223, 293)
    users, last = np.arange(293), np.full(70, 6)
    return make_split(
        histories,
        np.where(users < asked[0], 7, 0),
        np.where(users < asked[53], 7, 6),
        Targets(asked[:53], last[:53]),
        Targets(asked[53:], last[53:]),
        "needle",
        {},
    )
