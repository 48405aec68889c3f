import csv

import numpy as np
import pytest

HEAD = ["label", "user_id", "item_id", "cate_id", "hour", "item_history", "cate_history"]


def category(item: int) -> str:
    return f"c{item % 5}"


def make_rows(num_users=11, num_items=23, seed=0):
    """Pairs of a click and another item after each prefix of a history, as the public tables have them."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(num_users):
        items = (100 + rng.integers(0, num_items, 1 + user % 7)).tolist()
        for place, clicked in enumerate(items):
            seen = items[:place]
            for label, item in ((1, clicked), (0, 100 + int(rng.integers(0, num_items)))):
                lists = ("^".join(map(str, seen)), "^".join(map(category, seen)))
                rows.append([str(label), f"u{user}", str(item), category(item), str(rng.integers(24)), *lists])
    return rows


@pytest.fixture
def rows():
    return make_rows()


@pytest.fixture
def write(tmp_path):
    def write_rows(rows, name="train.csv", head=HEAD):
        path = tmp_path / name
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([head, *rows])
        return path

    return write_rows
