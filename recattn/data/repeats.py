"""Find rows whose values occurred before, in tables of tens of millions of rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_ROOM = 2**64
_DENSE = 2**24  # values of a smaller range are numbered through a table of that range


def count_repeats(frame: pd.DataFrame, names: Sequence[str]) -> int:
    """How many rows have the same values in the named columns as an earlier row.

    >>> count_repeats(pd.DataFrame({"user": [3, 3, 5], "item": ["a", "a", "a"]}), ["user", "item"])
    1
    """
    return _count(_pack(frame, names))


def seen_before(frame: pd.DataFrame, names: Sequence[str]) -> NDArray[np.bool_]:
    """(rows,) True where an earlier row has the same values: ``frame.duplicated(names)``, faster where nothing has.

    >>> seen_before(pd.DataFrame({"user": [3, 3, 5], "item": ["a", "a", "a"]}), ["user", "item"]).tolist()
    [False, True, False]
    """
    key = _pack(frame, names)
    return np.asarray(pd.Series(key).duplicated()) if _count(key) else np.zeros(len(frame), bool)


def _count(key: NDArray[np.uint64]) -> int:
    # Sorting whole numbers takes a fifth of the time of a hash table that does not fit the processor's cache.
    ordered = np.sort(key)
    return int((ordered[1:] == ordered[:-1]).sum())


def _pack(frame: pd.DataFrame, names: Sequence[str]) -> NDArray[np.uint64]:
    """One number for each row, equal where all columns are."""
    key, room = np.zeros(len(frame), np.uint64), 1
    for name in names:
        codes, size = _codes(frame[name])
        if room * size > _ROOM:
            numbers, values = pd.factorize(key)
            key, room = numbers.astype(np.uint64), len(values)
        key *= np.uint64(size)
        key += codes
        room *= size
    return key


def _codes(column: "pd.Series[Any]") -> tuple[NDArray[np.uint64], int]:
    """Numbers from 0 that are equal where the values are, and how many there may be."""
    if column.dtype.kind == "i" and len(column):
        values, low = column.to_numpy(np.int64), int(column.min())
        size = int(column.max()) - low + 1
        if size <= _DENSE:
            numbers = np.cumsum(np.bincount(values - low, minlength=size) > 0, dtype=np.int64) - 1
            return numbers[values - low].astype(np.uint64), int(numbers[-1]) + 1
        if size <= 2**32:
            return (values - low).astype(np.uint64), size
    codes, different = pd.factorize(column)
    return codes.astype(np.uint64), max(len(different), 1)
