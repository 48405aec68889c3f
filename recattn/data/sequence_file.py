"""Files of one line a user: the user, then the items, oldest first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recattn.data.ragged import offsets_of
from recattn.data.text import read_text
from recattn.errors import DataError


@dataclass(frozen=True)
class SequenceFile:
    r"""A file of histories, as a `TableFile` with the columns user and item and an event a row.

    path: text, plain or gzipped. encoding: of the text.
    Raises DataError naming the line that is no history: a user alone, or one that an earlier line has.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "histories.txt")
    ...     _ = path.write_text("a 7 5\nb 9\n")
    ...     SequenceFile(path).read().to_pydict()
    {'user': ['a', 'a', 'b'], 'item': ['7', '5', '9']}
    """

    path: Path
    encoding: str = "utf-8"

    @property
    def top(self) -> str:
        return f"{self.path}, a line for each user"

    def names(self) -> list[str]:
        return ["user", "item"]

    def read(self, wanted: Sequence[str] | None = None) -> pa.Table:
        """The events in the order of the file."""
        words, lengths, _ = self._lines
        places = np.arange(int(lengths.sum()))
        starts = offsets_of(lengths)[:-1]
        is_item = np.ones(len(places), np.bool_)
        is_item[starts] = False
        table = pa.table(
            {
                "user": words.take(pa.array(np.repeat(starts, lengths - 1))),
                "item": words.take(pa.array(places[is_item])),
            }
        )
        return table.select(self.names() if wanted is None else list(wanted))

    def blocks(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        yield self.read(wanted)

    def where(self, row: int) -> str:
        _, lengths, numbers = self._lines
        line = int(np.searchsorted(np.cumsum(lengths - 1), row, side="right"))
        return f"{self.path}, line {numbers[line]}"

    @cached_property
    def _lines(self) -> tuple[pa.Array, NDArray[np.int64], NDArray[np.int64]]:
        """All words, how many of them each line has, and the lines' numbers; blank lines are none."""
        lines = pa.array(read_text(self.path, self.encoding).split("\n"), pa.large_string())
        found = pc.split_pattern_regex(pc.utf8_trim_whitespace(lines), r"\s+")
        filled = pc.not_equal(pc.utf8_trim_whitespace(lines), "")
        numbers = np.flatnonzero(filled.to_numpy(zero_copy_only=False)) + 1
        found = found.filter(filled)
        words, lengths = pc.list_flatten(found), pc.list_value_length(found).to_numpy().astype(np.int64)
        if not len(lengths):
            raise DataError(f"{self.path} is empty")
        if (lengths == 1).any():
            raise DataError(f"{self.path}, line {numbers[int((lengths == 1).argmax())]}: a user without an item")
        users = words.take(pa.array(offsets_of(lengths)[:-1])).to_pandas()
        again = users.duplicated().to_numpy()
        if again.any():
            line = int(again.argmax())
            raise DataError(f"{self.path}, line {numbers[line]}: user {users[line]!r} has a line already")
        return words, lengths, numbers
