"""Read a table of events from CSV, TSV, Parquet or JSON lines: named columns in, checked columns out."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import pandas as pd
import pyarrow as pa

from recattn.data import columns as check
from recattn.data.columns import Locate, TimeUnit
from recattn.data.sequence_file import SequenceFile
from recattn.data.table_files import TableFile, open_table
from recattn.errors import ConfigError, DataError

Layout: TypeAlias = Literal["events", "sequences"]
FOUND = ("time", "rating", "action")
"""Columns that need not be named: those that are called so are found by `Columns.found`."""


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are called; None where there is none.

    Raises ConfigError for a rating and an action, and for a column that is named twice.

    >>> Columns(time="timestamp").named()
    {'user': 'user', 'item': 'item', 'time': 'timestamp'}
    """

    user: str | None = "user"
    item: str = "item"
    rating: str | None = None
    time: str | None = None
    title: str | None = None
    action: str | None = None

    def __post_init__(self) -> None:
        if self.rating and self.action:
            raise ConfigError(
                f"rating_column={self.rating!r} and action_column={self.action!r}: a model reads one number an event, "
                "its rating or its action; name one of them"
            )
        ours_of: dict[str, str] = {}
        for ours, theirs in self.named().items():
            if theirs and ours_of.setdefault(theirs, ours) != ours:
                raise ConfigError(
                    f"{ours_of[theirs]}_column and {ours}_column are both {theirs!r}: a column holds one thing"
                )

    def found(self, names: Sequence[str]) -> "Columns":
        """These, and a time, rating and action that are not named where a column is called so.

        "" means that there is none, whatever the columns are called. Of a rating and an action the rating is taken.

        >>> Columns(time="").found(["user", "item", "time", "action", "rating"]).named()
        {'user': 'user', 'item': 'item', 'rating': 'rating'}
        """
        given = asdict(self)
        taken = [*self.named().values()]
        found = {ours: ours for ours in FOUND if given[ours] is None and ours in names and ours not in taken}
        if given["rating"] or "rating" in found:
            found.pop("action", None)
        if given["action"]:
            found.pop("rating", None)
        none: dict[str, Any] = {ours: None for ours in FOUND if given[ours] == ""}
        return replace(self, **found, **none)

    def named(self) -> dict[str, str]:
        """Our name of each column that there is -> its name in the table."""
        return {ours: theirs for ours, theirs in asdict(self).items() if theirs is not None}


class Events(NamedTuple):
    """Checked events, and the names of the columns that were not read."""

    frame: pd.DataFrame
    unread: list[str]


def read_table(
    path: str | Path,
    columns: Columns | None = None,
    *,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    time_unit: TimeUnit | None = None,
    layout: Layout = "events",
) -> Events:
    r"""Read events, one a row, in the order of the file.

    Returns a frame with user and item (int32, int64 or str), and where named or found: rating (float32), time (int64
    seconds), title (str), action (str). See ``columns.ids`` and ``columns.times`` for how values are understood.

    path, delimiter, encoding: see `open_table`. columns: completed by `Columns.found`.
    time_unit: what numeric times count: "s" (default), "ms", "us" or "ns".
    layout: "events", one a row, or "sequences": a line for each user, who stands before the items, see `SequenceFile`.

    Raises DataError naming file, line and column for whatever cannot be read as such a table; ConfigError for a
    ``delimiter``, ``encoding``, ``time_unit`` or ``layout`` that does not exist, for columns of sequences, and for a
    ``time_unit`` without times.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "events.csv")
    ...     _ = path.write_text("user,item,when,shop\na,5,2001-01-01,x\n")
    ...     events = read_table(path, Columns(time="when"))
    >>> events.frame.to_dict("records"), events.unread
    ([{'user': 'a', 'item': 5, 'time': 978307200}], ['shop'])
    """
    asked = columns or Columns()
    file = _open(Path(path), asked, layout, delimiter, encoding)
    names = file.names()
    columns = asked.found(names)
    _require(columns, names, file.top)
    _check_unit(columns, time_unit)
    with _leaving_out(asked, columns):
        table = file.read(list(columns.named().values()))
        if table.num_rows == 0:
            raise DataError(f"{file.path} is empty: it names columns, but has no rows")
        return Events(checked(table, columns, file.where, time_unit or "s"), _unread(columns, names))


def _open(path: Path, columns: Columns, layout: Layout, delimiter: str | None, encoding: str) -> TableFile:
    if layout == "events":
        return open_table(path, delimiter=delimiter, encoding=encoding)
    if layout != "sequences":
        raise ConfigError(f"layout={layout!r} is not allowed; choose 'events' or 'sequences'")
    if columns != Columns() or delimiter is not None:
        raise ConfigError("layout='sequences': a line is a user and items, without columns; leave out what names them")
    return SequenceFile(path, encoding)


def checked(table: pa.Table, columns: Columns, locate: Locate, time_unit: TimeUnit = "s") -> pd.DataFrame:
    """Turn the named columns of an arrow table into a checked frame; see `read_table`.

    >>> checked(pa.table({"user": [3], "item": [5]}), Columns(), str).to_dict("records")
    [{'user': 3, 'item': 5}]
    """
    named = columns.named()
    frame = {ours: check.ids(table[named[ours]], named[ours], locate) for ours in ("user", "item") if ours in named}
    result = pd.DataFrame(frame)
    if columns.rating is not None:
        result["rating"] = check.ratings(table[columns.rating], columns.rating, locate)
    if columns.time is not None:
        result["time"] = check.times(table[columns.time], columns.time, locate, time_unit)
    if columns.title is not None:
        titles = check.as_text(table[columns.title], columns.title, locate)
        result["title"] = titles.to_pandas().fillna("").astype("str")
    if columns.action is not None:
        result["action"] = check.names(table[columns.action], columns.action, locate)
    return result


def from_pandas(frame: pd.DataFrame, columns: Columns, time_unit: TimeUnit | None = None) -> Events:
    """`read_table` for a frame in memory; messages count its rows from 1.

    Raises DataError for a missing column, one that mixes numbers and text, and for what `read_table` refuses.

    >>> from_pandas(pd.DataFrame({"user": [3], "item": [5]}), Columns()).frame.shape
    (1, 2)
    """
    names = [str(name) for name in frame.columns]
    frame = frame.set_axis(names, axis=1)
    asked, columns = columns, columns.found(names)
    _require(columns, names, "the frame")
    _check_unit(columns, time_unit)
    if len(frame) == 0:
        raise DataError("the frame is empty: it names columns, but has no rows")
    with _leaving_out(asked, columns):
        arrays: Mapping[str, pa.ChunkedArray] = {name: to_arrow(frame, name) for name in columns.named().values()}
        read = checked(pa.table(arrays), columns, lambda row: f"row {row + 1} of the frame", time_unit or "s")
    return Events(read, _unread(columns, names))


def to_arrow(frame: pd.DataFrame, name: str) -> pa.ChunkedArray:
    """One column. Raises DataError where it mixes kinds of values.

    >>> to_arrow(pd.DataFrame({"user": [3]}), "user").to_pylist()
    [3]
    """
    try:
        return pa.chunked_array([pa.Array.from_pandas(frame[name])])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"the frame's column {name!r} mixes kinds of values: {error}") from error


def _require(columns: Columns, names: list[str], place: str) -> None:
    for ours, theirs in columns.named().items():
        if names.count(theirs) != 1:
            problem = "there is no column" if theirs not in names else "more than one column is called"
            raise DataError(
                f"{place}: {problem} {theirs!r}; the columns are {', '.join(map(repr, names))}. Say which one holds "
                f"the {ours} with {ours}_column= (--{ours}-column)"
            )


def _unread(columns: Columns, names: Sequence[str]) -> list[str]:
    read = columns.named().values()
    return [name for name in names if name not in read]


def _check_unit(columns: Columns, time_unit: TimeUnit | None) -> None:
    if time_unit is not None and columns.time is None:
        raise ConfigError(
            f"time_unit={time_unit!r}, but no column of times is read: name one with time_column= (--time-column), or "
            "leave time_unit out"
        )


@contextmanager
def _leaving_out(asked: Columns, found: Columns) -> Iterator[None]:
    """Say of a column that was found by its name, and cannot be read, how to do without it."""
    try:
        yield
    except DataError as error:
        for ours in FOUND:
            guessed = getattr(asked, ours) is None and getattr(found, ours) is not None
            if guessed and re.search(rf"(column|field) {ours!r}", str(error)):
                raise DataError(
                    f"{error}. The column was found by its name; {ours}_column='' (--{ours}-column '') leaves it out"
                ) from error
        raise
