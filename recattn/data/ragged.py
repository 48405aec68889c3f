"""Rows of different lengths that stand one after another in flat arrays."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]


def offsets_of(lengths: Integers) -> NDArray[np.int64]:
    """Where each row begins, and where the last one ends, (rows + 1,).

    >>> offsets_of(np.array([2, 0, 3])).tolist()
    [0, 2, 2, 5]
    """
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def steps_of(lengths: Integers) -> NDArray[np.int64]:
    """0, 1, ... in each row, (sum of lengths,).

    >>> steps_of(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)


def spans(starts: Integers, lengths: Integers) -> NDArray[np.int64]:
    """starts[r], starts[r] + 1, ... of each row r, as many as it is long, (sum of lengths,).

    >>> spans(np.array([7, 4, 0]), np.array([2, 0, 3])).tolist()
    [7, 8, 0, 1, 2]
    """
    return np.repeat(starts, lengths) + steps_of(lengths)
