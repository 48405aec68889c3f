"""JSON lines: one object a line, plain or gzipped."""

import gzip
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as pj

from recattn.data.delimited import DAMAGED
from recattn.errors import DataError

_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.large_string()}


def read_json_lines(path: Path, wanted: Sequence[str], encoding: str = "utf-8") -> pa.Table:
    r"""Read the wanted fields of every object; a field that an object lacks is null.

    A field has one type in the whole file, that of its first value; whole numbers may be followed by fractions.

    Raises DataError naming the line that is no JSON object, has a field of another type, or is not in ``encoding``.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "events.jsonl")
    ...     _ = path.write_text('{"user": "a", "item": 5}\n')
    ...     read_json_lines(path, ["user", "item"]).to_pydict()
    {'user': ['a'], 'item': [5]}
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except DAMAGED as error:
        raise DataError(f"{path} is damaged or was cut off: {error}") from error
    try:
        # checked here because arrow would take wrong bytes inside of a string
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f'{path}, line {line}: byte 0x{data[error.start]:02x} is not {encoding}; pass encoding="latin-1"'
        ) from error
    if encoding.lower() not in {"utf-8", "utf8"}:
        data = text.encode()
    if not text.strip():
        raise DataError(f"{path} is empty")
    schema = _schema(path, text, wanted)
    try:
        options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        return pj.read_json(pa.BufferReader(data), parse_options=options).select(list(wanted))
    except pa.ArrowInvalid as error:
        return _line_by_line(path, text, schema, error)


def line_of(path: Path, row: int, encoding: str = "utf-8") -> int:
    """The line, counted from 1, of a row counted from 0; blank lines are not rows."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return next(itertools.islice(_filled(data.decode(encoding)), row, None))[0]


def _schema(path: Path, text: str, wanted: Sequence[str]) -> pa.Schema:
    """The type of each field's first value. The first object names the fields, even those that are null there."""
    types: dict[str, pa.DataType] = {}
    for number, line in _filled(text):
        record = _object(path, number, line)
        missing = [name for name in wanted if name not in record]
        if not types and missing:
            raise DataError(
                f"{path}, line {number}: there is no field {missing[0]!r}; the fields are "
                f"{', '.join(map(repr, record))}. Say which one it is, as with user_column= (--user-column)"
            )
        for name in wanted:
            if types.get(name, pa.null()) == pa.null():
                types[name] = _TYPES.get(type(record.get(name)), pa.null())
        if pa.null() not in types.values():
            break
    return pa.schema([(name, types[name]) for name in wanted])


def _filled(text: str) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers."""
    for number, line in enumerate(io.StringIO(text), 1):
        if line.strip():
            yield number, line


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path}, line {number}: not JSON ({error})") from error
    if not isinstance(record, dict):
        raise DataError(f"{path}, line {number}: each line is an object like {{...}}, not {type(record).__name__}")
    return record


def _line_by_line(path: Path, text: str, schema: pa.Schema, error: Exception) -> pa.Table:
    """Name the line that arrow could not read; when it is only a fraction among whole numbers, read it here."""
    values: dict[str, list[Any]] = {name: [] for name in schema.names}
    for number, line in _filled(text):
        record = _object(path, number, line)
        for name, column in values.items():
            value, kind = record.get(name), schema.field(name).type
            found = _TYPES.get(type(value), pa.null())
            numeric = {pa.int64(), pa.float64()}
            if value is not None and found != kind and not {found, kind} <= numeric:
                raise DataError(f"{path}, line {number}, field {name!r}: {value!r} is not {kind} like the first value")
            column.append(float(value) if kind == pa.int64() and isinstance(value, float) else value)
    try:
        return pa.table({name: pa.array(_as_floats(column), from_pandas=False) for name, column in values.items()})
    except pa.ArrowInvalid:
        raise DataError(f"{path} cannot be read: {error}") from error


def _as_floats(column: list[Any]) -> list[Any]:
    if any(isinstance(value, float) for value in column):
        return [value if value is None else float(value) for value in column]
    return column
