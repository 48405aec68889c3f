"""JSON lines: one object a line, plain or gzipped."""

import io
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as pj

from recattn.data.text import read_text
from recattn.errors import DataError

_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.large_string()}
_NUMBERS = {pa.int64(), pa.float64()}


@dataclass(frozen=True)
class JsonLines:
    r"""A file of JSON lines.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "events.jsonl")
    ...     _ = path.write_text('{"user": "a", "item": 5, "tags": ["x", "y"]}\n')
    ...     JsonLines(path).read(["user", "tags"]).to_pydict()
    {'user': ['a'], 'tags': [['x', 'y']]}
    """

    path: Path
    encoding: str = "utf-8"

    def header(self) -> list[str]:
        """The fields of all objects. Raises DataError for an empty file and a line that is no object."""
        try:
            return list(pj.read_json(pa.BufferReader(self._text.encode())).column_names)
        except pa.ArrowInvalid:  # values of two types, which are no matter here, or a line that the next one names
            return list(dict.fromkeys(name for _, record in self._records() for name in record))

    def read(self, wanted: Sequence[str] | None = None) -> pa.Table:
        """The wanted fields of every object, by default all that any object has; a field that one lacks is null.

        A field has one type in the whole file, that of its first value; whole numbers may be followed by fractions.
        A list has the type of its first member.

        Raises DataError naming the line that is no JSON object, has a field of another type, or is not in ``encoding``.
        """
        schema = self._schema(wanted)
        text = self._text
        try:
            options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
            source = pa.BufferReader(text.encode())
            return pj.read_json(source, parse_options=options).select(schema.names)
        except pa.ArrowInvalid as error:
            return self._line_by_line(schema, error)

    def blocks(self, wanted: Sequence[str]) -> Iterator[pa.Table]:
        """What `read` gives, at once."""
        yield self.read(wanted)

    def line(self, row: int) -> int:
        """The line, counted from 1, of a row counted from 0; blank lines are not rows."""
        return next(itertools.islice(self._filled(), row, None))[0]

    @cached_property
    def _text(self) -> str:
        text = read_text(self.path, self.encoding)  # checked here: arrow would take wrong bytes inside of a string
        if not text.strip():
            raise DataError(f"{self.path} is empty")
        return text

    def _filled(self) -> Iterator[tuple[int, str]]:
        """Lines that are not blank, with their numbers."""
        for number, line in enumerate(io.StringIO(self._text), 1):
            if line.strip():
                yield number, line

    def _records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in self._filled():
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DataError(f"{self.path}, line {number}: not JSON ({error})") from error
            if not isinstance(record, dict):
                kind = type(record).__name__
                raise DataError(f"{self.path}, line {number}: each line is an object like {{...}}, not {kind}")
            yield number, record

    def _schema(self, wanted: Sequence[str] | None) -> pa.Schema:
        """The type of each field's first value."""
        types: dict[str, pa.DataType] = dict.fromkeys(wanted or (), pa.null())
        for _, record in self._records():
            for name in record if wanted is None else wanted:
                if not _is_settled(types.get(name, pa.null())):
                    types[name] = _kind(record.get(name))
            if wanted is not None and all(map(_is_settled, types.values())):
                break
        return pa.schema(list(types.items()))

    def _line_by_line(self, schema: pa.Schema, error: Exception) -> pa.Table:
        """Name the line that arrow could not read; when it is only a fraction among whole numbers, read it here."""
        values: dict[str, list[Any]] = {name: [] for name in schema.names}
        for number, record in self._records():
            for name, column in values.items():
                value, kind = record.get(name), schema.field(name).type
                if not _fits(value, kind):
                    raise DataError(
                        f"{self.path}, line {number}, field {name!r}: {value!r} is not {kind} like the first value"
                    )
                column.append(value)
        try:
            return pa.table({name: pa.array(_as_floats(column), from_pandas=False) for name, column in values.items()})
        except pa.ArrowInvalid:
            raise DataError(f"{self.path} cannot be read: {error}") from error


def _kind(value: object) -> pa.DataType:
    if isinstance(value, list):
        return pa.list_(next((kind for kind in map(_kind, value) if kind != pa.null()), pa.null()))
    return _TYPES.get(type(value), pa.null())


def _is_settled(kind: pa.DataType) -> bool:
    return bool(kind != pa.null() and kind != pa.list_(pa.null()))


def _fits(value: object, kind: pa.DataType) -> bool:
    if isinstance(value, list):
        return pa.types.is_list(kind) and all(_fits(member, kind.value_type) for member in value)
    found = _TYPES.get(type(value))
    if kind == pa.int64() and isinstance(value, int) and not -(2**63) <= value < 2**63:
        return False
    return value is None or found == kind or (found is not None and {found, kind} <= _NUMBERS)


def _as_floats(column: list[Any]) -> list[Any]:
    if any(isinstance(value, float) for value in column):
        return [value if value is None else float(value) for value in column]
    return column
