"""Histories that are alike, kept once wherever their rows stand in the file."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class Shared(NamedTuple):
    """kept: (different,) which histories stay, in order of first sight. place: (histories,) each one's among those."""

    kept: NDArray[np.int64]
    place: NDArray[np.int32]


def share(users: NDArray[np.int32], events: NDArray[np.int32], offsets: NDArray[np.int64]) -> Shared:
    """Find the histories of the same user with the same events; exact, not by a checksum.

    users: (histories,). History h is ``events[offsets[h]:offsets[h + 1]]``.

    >>> events = np.array([5, 7, 5, 7, 5, 7], np.int32)
    >>> kept, place = share(np.array([1, 1, 2], np.int32), events, np.array([0, 2, 4, 6]))
    >>> kept.tolist(), place.tolist()
    ([0, 2], [0, 0, 1])
    """
    count = len(users)
    # The bytes of (user, events) of each history, one after another, as an arrow array of byte strings.
    bounds = offsets + np.arange(count + 1)
    whole = np.insert(events, offsets[:-1], users).astype(np.int32)
    sizes, data = (pa.py_buffer(np.ascontiguousarray(array)) for array in (bounds * whole.itemsize, whole))
    keys = pa.LargeBinaryArray.from_buffers(pa.large_binary(), count, [None, sizes, data])
    place = keys.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    kept = np.unique(place, return_index=True)[1]
    return Shared(kept, place.astype(np.int32))
