"""Delimited text (CSV, TSV), plain or gzipped: read fast, and explained line by line when it is wrong."""

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv as pc

from recattn.data.text import DAMAGED, codec
from recattn.errors import ConfigError, DataError

_OTHER_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", ":": "colons"}


@dataclass(frozen=True)
class Delimited:
    r"""A delimited text file.

    delimiter: one character. encoding: a codec's name.
    names: the columns' names where the file has no header line, else None.
    quotes: whether double quotes enclose fields.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "events.csv")
    ...     _ = path.write_text("user,item\n3,5\n")
    ...     Delimited(path).read(["item"]).to_pydict()
    {'item': ['5']}
    """

    path: Path
    delimiter: str = ","
    encoding: str = "utf-8"
    names: tuple[str, ...] | None = None
    quotes: bool = True

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or not self.delimiter.isascii():
            raise ConfigError(
                f"delimiter={self.delimiter!r} is not allowed; it is one ASCII character, as ',' or '\\t'"
            )
        try:
            "".encode(self.encoding)
        except LookupError:
            raise ConfigError(f"encoding={self.encoding!r} is unknown; try 'utf-8' or 'latin-1'") from None

    def header(self) -> list[str]:
        """The columns' names. Raises DataError when the file is empty or was written with another delimiter."""
        if self.names is not None:
            return list(self.names)
        with self._open(errors="replace") as file:
            try:
                _, names = next(self._rows(file), (0, []))
            except (*DAMAGED, csv.Error) as error:
                raise self._damaged(error) from error
        if not names:
            raise DataError(f"{self.path} is empty")
        others = [(char, word) for char, word in _OTHER_DELIMITERS.items() if len(names) == 1 and char in names[0]]
        if others:
            char, word = max(others, key=lambda other: names[0].count(other[0]))
            raise DataError(
                f"{self.path}, line 1: delimiter={self.delimiter!r} gives one column, {names[0]!r}, but it "
                f"contains {word}: pass delimiter={char!r}"
            )
        return names

    def read(self, wanted: Sequence[str] | None = None, types: dict[str, pa.DataType] | None = None) -> pa.Table:
        """The wanted columns, by default all, as text unless ``types`` says otherwise, in the order of the file.

        Raises DataError naming the line that has too many or too few fields or is not in ``encoding``, and for a
        gzip file that was cut off; ArrowInvalid when ``types`` does not fit (see the checks in ``columns``).
        """
        try:
            return pc.read_csv(self.path, **self._options(self.header() if wanted is None else wanted, types))
        except (pa.ArrowInvalid, UnicodeDecodeError, OSError, *DAMAGED) as error:
            if types is not None and isinstance(error, pa.ArrowInvalid):
                raise  # the caller reads again as text, and the checks of ``columns`` then name the value
            raise self._explain(error) from error

    def blocks(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        """What `read` gives as text, some megabytes at a time, so that a large file need not fit into memory."""
        try:
            with pc.open_csv(self.path, **self._options(wanted)) as reader:
                for batch in reader:
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowInvalid, UnicodeDecodeError, OSError, *DAMAGED) as error:
            raise self._explain(error) from error

    def line(self, row: int) -> int:
        """The line of the file, counted from 1, on which a row (counted from 0, header aside) ends."""
        skip = 0 if self.names is not None else 1
        with self._open(errors="replace") as file:
            for number, (line, _) in enumerate(self._rows(file)):
                if number == row + skip:
                    return line
        return row + skip + 1

    def _options(self, wanted: Sequence[str], types: dict[str, pa.DataType] | None = None) -> dict[str, Any]:
        return {
            "read_options": pc.ReadOptions(encoding=self.encoding, column_names=self.names, block_size=8 << 20),
            "parse_options": pc.ParseOptions(
                delimiter=self.delimiter, quote_char='"' if self.quotes else False, newlines_in_values=self.quotes
            ),
            "convert_options": pc.ConvertOptions(
                include_columns=list(wanted),
                column_types={name: (types or {}).get(name, pa.large_string()) for name in wanted},
                null_values=[],
                strings_can_be_null=False,
            ),
        }

    def _open(self, errors: str = "strict") -> IO[str]:
        opener = gzip.open if self.path.suffix == ".gz" else open
        binary = opener(self.path, "rb")
        return io.TextIOWrapper(binary, encoding=codec(self.encoding), errors=errors, newline="")

    def _rows(self, file: IO[str]) -> Iterator[tuple[int, list[str]]]:
        quoting: int = csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE
        reader = csv.reader(file, delimiter=self.delimiter, quoting=quoting)  # type: ignore[arg-type]
        limit = csv.field_size_limit(2**31 - 1)  # a history of many events is one long cell
        try:
            for row in reader:
                if row:  # blank lines are not rows, here and for arrow
                    yield reader.line_num, row
        finally:
            csv.field_size_limit(limit)

    def _damaged(self, error: Exception) -> DataError:
        return DataError(f"{self.path} is damaged or was cut off: {error}")

    def _explain(self, error: Exception) -> DataError:
        try:
            with self._open() as file:
                width = len(self.names or ())
                for line, row in self._rows(file):
                    width = width or len(row)
                    if len(row) != width:
                        return DataError(
                            f"{self.path}, line {line}: {len(row)} fields split at {self.delimiter!r}, not {width}"
                        )
        except UnicodeDecodeError:
            return self._undecodable(error)
        except (*DAMAGED, csv.Error) as damage:
            return self._damaged(damage)
        return DataError(f"{self.path} cannot be read: {error}")

    def _undecodable(self, error: Exception) -> DataError:
        data = gzip.decompress(self.path.read_bytes()) if self.path.suffix == ".gz" else self.path.read_bytes()
        try:
            data.decode(self.encoding)
        except UnicodeDecodeError as found:
            line, byte = data.count(b"\n", 0, found.start) + 1, data[found.start]
            return DataError(
                f"{self.path}, line {line}: byte 0x{byte:02x} is not {self.encoding}; pass the file's encoding, for "
                'older files often encoding="latin-1"'
            )
        return DataError(f"{self.path} cannot be read: {error}")
