"""Features as functions of the item: the same value wherever an item stands."""

import numpy as np
from numpy.typing import NDArray


class FeatureOf:
    """What is known of one feature, item by item: ``known[item]`` is its value's number, 0 where none was met.

    known: (items + 1,) values from the start. grow: learn those of other items too; else only compare.

    >>> feature = FeatureOf()
    >>> feature.add(np.array([1, 2, 1]), np.array([5, 7, 5]))
    >>> feature.add(np.array([2, 3]), np.array([3, 3]))
    (0, 7, 3)
    """

    def __init__(self, known: NDArray[np.int32] | None = None, *, grow: bool = True) -> None:
        self.known = np.zeros(1, np.int32) if known is None else known
        self.grow = grow

    def add(self, items: NDArray[np.int32], values: NDArray[np.int32]) -> tuple[int, int, int] | None:
        """Compare the values of items with what is known, and learn what is not.

        items: from 1; others are unknown and passed over. values: 0 is missing and passed over, -1 a value that has no
        number, which is none of the known ones.
        Returns the place of the first conflict, the value known and the one met; None where there is none.
        """
        place = np.flatnonzero((items > 0) & (values != 0))
        items, values = items[place], values[place]
        if self.grow:
            more = int(items.max(initial=0)) + 1 - len(self.known)
            self.known = np.append(self.known, np.zeros(max(0, more), np.int32))
            fresh = self.known[items] == 0
            # Backwards, so that of several values of one item the first is kept.
            self.known[items[fresh][::-1]] = values[fresh][::-1]
        before = self.known[items]
        wrong = (before != values) & (before != 0)
        if not wrong.any():
            return None
        first = int(wrong.argmax())
        return int(place[first]), int(before[first]), int(values[first])
