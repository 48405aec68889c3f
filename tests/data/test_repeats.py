import numpy as np
import pandas as pd
import pytest

from recattn.data.repeats import count_repeats, seen_before

RNG = np.random.default_rng(5)


@pytest.mark.parametrize(
    "columns",
    [
        {"user": RNG.integers(-3, 4, 997), "item": RNG.integers(0, 5, 997)},
        {"user": RNG.integers(0, 11, 997).astype(str), "time": RNG.integers(0, 13, 997)},
        {
            name: RNG.integers(0, 2, 997) * (2**31 - 7) for name in ("user", "item", "time")
        },  # overflows unless packed anew
        {name: RNG.integers(0, 3, 997) * 2**60 for name in ("user", "item", "time")},
        {"user": np.arange(997)[::-1], "item": RNG.integers(0, 5, 997)},
        {"user": np.zeros(0, np.int64), "item": np.zeros(0, np.int64)},
    ],
)
def test_it_says_what_pandas_says(columns):
    frame = pd.DataFrame(columns)
    assert count_repeats(frame, list(frame)) == frame.duplicated().sum()
    assert np.array_equal(seen_before(frame, list(frame)), frame.duplicated())
