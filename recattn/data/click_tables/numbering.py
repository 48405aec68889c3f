"""Text to numbers, over many blocks of a file."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


class Numbering:
    """Different texts -> 1, 2, ... in the order in which they are met; the empty text is 0.

    known: texts that have the numbers 1 to n from the start; other texts are then -1. None: every text gets a number.

    >>> numbering = Numbering()
    >>> numbering(pa.array(["b", "a", "b"])).tolist(), numbering(pa.array(["c", "", "a"])).tolist()
    ([1, 2, 1], [3, 0, 2])
    >>> Numbering(["a"])(pa.array(["b", "a", ""])).tolist()
    [-1, 1, 0]
    """

    def __init__(self, known: Sequence[str] | None = None) -> None:
        self.grow = known is None
        self._texts = pa.array(["", *(known or ())], pa.large_string())

    def __call__(self, texts: pa.Array) -> NDArray[np.int32]:
        """(n,) numbers of (n,) texts."""
        encoded = texts.cast(pa.large_string()).dictionary_encode()
        found = pc.index_in(encoded.dictionary, self._texts)
        if self.grow and found.null_count:
            self._texts = pa.concat_arrays([self._texts, encoded.dictionary.filter(pc.is_null(found))])
            found = pc.index_in(encoded.dictionary, self._texts)
        numbers = pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int32)
        return np.asarray(numbers[encoded.indices.to_numpy(zero_copy_only=False)], np.int32)

    @property
    def texts(self) -> "pd.Series[str]":
        """The texts by number, the empty one first."""
        return pd.Series(self._texts.to_pandas(), dtype="str")
