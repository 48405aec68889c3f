"""Files that hold a table, each by its suffix: CSV, TSV, Parquet, JSON lines."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recattn.data.delimited import Delimited
from recattn.data.jsonlines import JsonLines
from recattn.data.whole_file import whole_file
from recattn.errors import ConfigError, DataError

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_JSON = {".jsonl", ".ndjson", ".json"}
_PARQUET = {".parquet", ".pq"}
_KNOWN = ", ".join(sorted({*_DELIMITERS, *_JSON, *_PARQUET}))


class TableFile(Protocol):
    """A table as a file."""

    @property
    def path(self) -> Path: ...

    @property
    def top(self) -> str:
        """Where the columns are named, for a message: "x.csv, line 1"."""
        ...

    def names(self) -> list[str]:
        """The columns' names."""
        ...

    def read(self, wanted: Sequence[str] | None = None) -> pa.Table:
        """The wanted columns, by default all, in the order of the file; those of delimited text are text."""
        ...

    def blocks(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        """What `read` gives, in pieces of some megabytes; a column has the same type in all."""
        ...

    def where(self, row: int) -> str:
        """The place of a row, counted from 0, for a message: "x.csv, line 17"."""
        ...


def open_table(path: str | Path, *, delimiter: str | None = None, encoding: str = "utf-8") -> TableFile:
    r"""The file, by its suffix: .csv, .tsv, .jsonl or .ndjson, each also with .gz, or .parquet.

    delimiter: of text, one character; by default a comma, in .tsv a tab. With it, unknown suffixes are text as well.

    Raises DataError where there is no such file, it is empty or its suffix is unknown, and whatever method is called
    where the file is not what its suffix says; ConfigError for a ``delimiter`` or ``encoding`` that does not exist.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "items.tsv")
    ...     _ = path.write_text("item\tmaker\n5\tx\n")
    ...     open_table(path).names()
    ['item', 'maker']
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: there is no such file")
    if path.is_dir():
        raise DataError(f"{path} is a folder; name the file inside of it")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    suffix = _suffix(path)
    if suffix in _JSON:
        return _TextFile(path, JsonLines(path, encoding))
    if suffix in _PARQUET:
        return _ParquetFile(path)
    if delimiter is None and suffix not in _DELIMITERS:
        raise DataError(f"{path}: the suffix {suffix!r} is not one of {_KNOWN} (or pass delimiter= for delimited text)")
    return _TextFile(path, Delimited(path, _DELIMITERS[suffix] if delimiter is None else delimiter, encoding))


def table_writer(path: str | Path) -> Callable[[pd.DataFrame], None]:
    r"""What writes a frame to this file, by its suffix as in `open_table`, text and JSON with .gz packed.

    The file is written under another name and renamed, so that it is there whole or not at all.
    Raises ConfigError for a suffix that is unknown, before there is anything to write; the writer OSError.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     table_writer(Path(folder, "best.csv"))(pd.DataFrame({"user": [3], "item": [5]}))
    ...     Path(folder, "best.csv").read_text()
    'user,item\n3,5\n'
    """
    path, suffix = Path(path), _suffix(Path(path))
    if suffix not in {*_DELIMITERS, *_JSON, *_PARQUET} or (suffix in _PARQUET and path.suffix == ".gz"):
        raise ConfigError(f"{path}: the suffix of a table is one of {_KNOWN}, got {path.suffix!r}")

    def write(frame: pd.DataFrame) -> None:
        with whole_file(path) as fresh:
            if suffix in _PARQUET:
                frame.to_parquet(fresh, index=False)
            elif suffix in _JSON:
                frame.to_json(fresh, orient="records", lines=True, force_ascii=False)
            else:
                frame.to_csv(fresh, sep=_DELIMITERS[suffix], index=False)

    return write


def _suffix(path: Path) -> str:
    return (Path(path.stem).suffix if path.suffix == ".gz" else path.suffix).lower()


@dataclass(frozen=True)
class _TextFile:
    path: Path
    file: Delimited | JsonLines

    @property
    def top(self) -> str:
        return f"{self.path}, line 1"

    def names(self) -> list[str]:
        return self.file.header()

    def read(self, wanted: Sequence[str] | None = None) -> pa.Table:
        return self.file.read(wanted)

    def blocks(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        return self.file.blocks(wanted)

    def where(self, row: int) -> str:
        return f"{self.path}, line {self.file.line(row)}"


@dataclass(frozen=True)
class _ParquetFile:
    path: Path

    @property
    def top(self) -> str:
        return str(self.path)

    def names(self) -> list[str]:
        try:
            # A pandas index without a name is no column of the user's.
            return [name for name in pq.read_schema(self.path).names if not name.startswith("__index_level_")]
        except (pa.ArrowInvalid, OSError) as error:
            raise self._damaged(error) from error

    def read(self, wanted: Sequence[str] | None = None) -> pa.Table:
        return pa.concat_tables(self.blocks(self.names() if wanted is None else wanted))

    def blocks(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        try:
            with pq.ParquetFile(self.path) as file:
                yield file.schema_arrow.empty_table().select(list(wanted))
                for batch in file.iter_batches(columns=list(wanted)):
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowInvalid, OSError) as error:
            raise self._damaged(error) from error

    def where(self, row: int) -> str:
        return f"{self.path}, row {row + 1}"

    def _damaged(self, error: Exception) -> DataError:
        return DataError(f"{self.path} is not a Parquet file, is damaged or was cut off: {error}")
