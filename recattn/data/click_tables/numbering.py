"""Text to numbers, over many blocks of a file."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray


class Numbering:
    """Different texts -> 1, 2, ... in the order in which they are met; the empty text is 0.

    known: texts that have the numbers 1 to n from the start. grow: give other texts the next numbers; else they are -1.

    >>> numbering = Numbering()
    >>> numbering(pa.array(["b", "a", "b"])).tolist(), numbering(pa.array(["c", "", "a"])).tolist()
    ([1, 2, 1], [3, 0, 2])
    >>> Numbering(["a"], grow=False)(pa.array(["b", "a", ""])).tolist()
    [-1, 1, 0]
    """

    def __init__(self, known: Sequence[str] = (), *, grow: bool = True) -> None:
        self.grow = grow
        self._numbers = {text: number for number, text in enumerate(["", *known])}

    def __call__(self, texts: pa.Array) -> NDArray[np.int32]:
        """(n,) numbers of (n,) texts."""
        encoded = texts.cast(pa.large_string()).dictionary_encode()
        different = encoded.dictionary.to_pylist()  # those of one block: few beside its rows
        if self.grow:
            for text in different:
                self._numbers.setdefault(text, len(self._numbers))
        numbers = np.array([self._numbers.get(text, -1) for text in different], np.int32)
        return np.asarray(numbers[encoded.indices.to_numpy(zero_copy_only=False)], np.int32)

    @property
    def texts(self) -> "pd.Series[str]":
        """The texts by number, the empty one first."""
        return pd.Series(list(self._numbers), dtype="str")
