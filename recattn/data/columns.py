"""Check one column of a table and bring it into the form that the package works with.

Each function takes the column, its name and ``locate``, which says where a row (counted from 0) stands for the user
("ratings.csv, line 17"); it is called only when something is wrong, because finding a line means reading the file
once more.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recattn.errors import ConfigError, DataError

Locate = Callable[[int], str]
TimeUnit: TypeAlias = Literal["s", "ms", "us", "ns"]
_PER_SECOND: dict[TimeUnit, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_LATEST_SECOND = 10**11  # the year 5138: what is above was not meant as seconds
_WHOLE_FLOAT = 2**53  # above, neighbouring floats are more than 1 apart
_INTEGER = r"^(0|-?[1-9][0-9]{0,17})(\.0+)?$"


def ids(column: pa.ChunkedArray, name: str, locate: Locate) -> "pd.Series[Any]":
    """Raw ids: int32 or int64 when every one is a whole number, else strings.

    Text is trimmed. It becomes numbers only when all of it is written as whole numbers without leading zeros (``12``;
    also ``12.0``, which is what a missing value once made of an integer column), so that ``007`` stays itself. The
    word NA is an id like any other.

    Raises DataError for a missing, empty, boolean or fractional id.

    >>> ids(pa.chunked_array([["7", "12"]]), "user", str).tolist()
    [7, 12]
    >>> ids(pa.chunked_array([["007", "NA"]]), "user", str).tolist()
    ['007', 'NA']
    """
    column = _plain(column)
    missing = "the id is missing; every row needs one"
    _refuse(_absent(column), missing, name, locate)
    if _is_text(column.type):
        column = pc.utf8_trim_whitespace(column)
        _refuse(pc.equal(column, ""), missing, name, locate)
        if not pc.all(pc.match_substring_regex(column, _INTEGER)).as_py():
            return pd.Series(column.to_pandas(), dtype="str")
        if pc.any(pc.match_substring(column, ".")).as_py():
            column = pc.replace_substring_regex(column, r"\.0+$", "")
    elif pa.types.is_floating(column.type):
        column = column.cast(pa.float64())
        values = column.to_numpy()
        broken = (values != np.floor(values)) | (np.abs(values) > _WHOLE_FLOAT)
        _refuse(pa.array(broken), "the id {value} is neither a whole number nor text", name, locate, column)
    elif not pa.types.is_integer(column.type):
        raise DataError(f"{locate(0)}, column {name!r}: ids are whole numbers or text, not {column.type}")
    try:
        numbers = column.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise DataError(f"{locate(0)}, column {name!r}: an id does not fit into 64 bits ({error})") from error
    small = np.iinfo(np.int32).min <= numbers.min(initial=0) and numbers.max(initial=0) <= np.iinfo(np.int32).max
    return pd.Series(numbers.astype(np.int32 if small else np.int64))


def names(column: pa.ChunkedArray, name: str, locate: Locate) -> "pd.Series[str]":
    """Text in every row, trimmed; numbers and true or false as text.

    Raises DataError for what is missing or empty, and as `as_text` does.

    >>> names(pa.chunked_array([[" view", "cart"]]), "action", str).tolist()
    ['view', 'cart']
    """
    column = _plain(column)
    _refuse(_absent(column), "the value is missing; every row needs one", name, locate)
    column = pc.utf8_trim_whitespace(as_text(column, name, locate))
    _refuse(pc.equal(column, ""), "the value is missing; every row needs one", name, locate)
    return pd.Series(column.to_pandas(), dtype="str")


def as_text(column: Any, name: str, locate: Locate) -> Any:  # noqa: ANN401 (an arrow array, chunked or not)
    """The column as text, what is missing still missing. Raises DataError for lists and the like.

    >>> as_text(pa.array([1, None]), "shop", str).to_pylist()
    ['1', None]
    """
    try:
        return column.cast(pa.large_string())
    except pa.ArrowNotImplementedError as error:
        raise DataError(f"{locate(0)}, column {name!r}: {column.type} is neither text nor a number") from error


def ratings(column: pa.ChunkedArray, name: str, locate: Locate) -> NDArray[np.float32]:
    """Finite numbers.

    >>> ratings(pa.chunked_array([["4", "3.5"]]), "rating", str).tolist()
    [4.0, 3.5]
    """
    column = _plain(column)
    _refuse(_absent(column), "the rating is missing", name, locate)
    if pa.types.is_boolean(column.type) or not (_is_text(column.type) or _is_number(column.type)):
        raise DataError(f"{locate(0)}, column {name!r}: ratings are numbers, not {column.type}")
    values = _numbers(column, "the rating {value} is not a number", name, locate)
    _refuse(pa.array(~np.isfinite(values)), "the rating {value} is not finite", name, locate, column)
    return values.astype(np.float32)


def times(column: pa.ChunkedArray, name: str, locate: Locate, unit: TimeUnit = "s") -> NDArray[np.int64]:
    """Whole seconds since 1970 (UTC), rounded down.

    Numbers are read in ``unit``. Dates are datetimes or ISO text; those without a time zone are taken as UTC.

    Raises DataError for a time that is missing, not a time or negative, and for numbers that would lie after the year
    5138 (they are not in ``unit``); ConfigError for an unknown unit.

    >>> times(pa.chunked_array([["1970-01-02", "1970-01-01T01:00:00+01:00"]]), "time", str).tolist()
    [86400, 0]
    >>> times(pa.chunked_array([[1700000000999]]), "time", str, "ms").tolist()
    [1700000000]
    """
    if unit not in _PER_SECOND:
        raise ConfigError(f"time_unit={unit!r} is not allowed; choose one of {', '.join(map(repr, _PER_SECOND))}")
    column = _plain(column)
    _refuse(_absent(column), "the time is missing", name, locate)
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"))
    if pa.types.is_timestamp(column.type):
        seconds = column.cast(pa.int64()).to_numpy() // _PER_SECOND[column.type.unit]
    elif _is_text(column.type) and not _looks_numeric(column):
        seconds = _dates(column, name, locate)
    elif _is_text(column.type) or _is_number(column.type):
        raw = _numbers(column, "the time {value} is neither a number nor an ISO date", name, locate)
        if raw.dtype.kind == "f":
            _refuse(pa.array(~np.isfinite(raw)), "the time {value} is not finite", name, locate, column)
        _refuse_other_unit(raw, unit, name, locate)
        seconds = np.floor_divide(raw, _PER_SECOND[unit]).astype(np.int64)
    else:
        raise DataError(f"{locate(0)}, column {name!r}: times are numbers or dates, not {column.type}")
    _refuse(pa.array(seconds < 0), "the time {value} is negative (before 1970)", name, locate, column)
    return np.asarray(seconds, np.int64)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _absent(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))


def _refuse(
    bad: Any,  # noqa: ANN401 (an arrow array, chunked or not)
    problem: str,
    name: str,
    locate: Locate,
    column: pa.ChunkedArray | None = None,
) -> None:
    """Raise for the first row where ``bad`` is True."""
    row = pc.index(bad, pa.scalar(value=True)).as_py()
    if row >= 0:
        value = None if column is None else column[row].as_py()
        raise DataError(f"{locate(row)}, column {name!r}: " + problem.format(value=repr(value)))


def _numbers(column: pa.ChunkedArray, problem: str, name: str, locate: Locate) -> NDArray[Any]:
    """int64 where all are whole, else float64: seconds in nanoseconds do not fit a float."""
    if _is_text(column.type):
        column = pc.utf8_trim_whitespace(column)
    for kind in (pa.int64(), pa.float64()):
        try:
            return np.asarray(column.cast(kind).to_numpy())
        except pa.ArrowInvalid:
            continue
    text = column.to_pandas()
    _refuse(pa.array(pd.to_numeric(text, errors="coerce").isna().to_numpy()), problem, name, locate, column)
    return np.asarray(pd.to_numeric(text), np.float64)  # what pandas reads and arrow does not, such as "+5"


def _looks_numeric(column: pa.ChunkedArray) -> bool:
    """Judge by the first value, so that one odd row among numbers is named as such."""
    try:
        float(column[0].as_py())
    except ValueError:
        return False
    return True


def _dates(column: pa.ChunkedArray, name: str, locate: Locate) -> NDArray[np.int64]:
    stamps = pd.to_datetime(column.to_pandas(), format="ISO8601", utc=True, errors="coerce")
    problem = "the time {value} is neither a number nor an ISO date"
    _refuse(pa.array(stamps.isna().to_numpy()), problem, name, locate, column)
    micro = np.asarray(stamps.dt.as_unit("us").to_numpy("datetime64[us]"))
    return micro.astype(np.int64) // _PER_SECOND["us"]


def other_unit(value: float, unit: TimeUnit) -> TimeUnit | None:
    """The likely unit of a time that would lie after the year 5138 in ``unit``; None where it may be in ``unit``.

    >>> other_unit(1_700_000_000_000, "s"), other_unit(1_700_000_000, "s")
    ('ms', None)
    """
    if value / _PER_SECOND[unit] <= _LATEST_SECOND:
        return None
    return next((other for other, per in _PER_SECOND.items() if value / per <= _LATEST_SECOND), "ns")


def _refuse_other_unit(raw: NDArray[Any], unit: TimeUnit, name: str, locate: Locate) -> None:
    middle = float(np.median(raw)) if len(raw) else 0.0
    likely = other_unit(middle, unit)
    if likely is None:
        return
    spelled = {"ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}[likely]
    raise DataError(
        f"{locate(0)}, column {name!r}: the times look like {spelled} (their median is {middle:.0f}), but were to be "
        f"read with time_unit={unit!r}; pass time_unit={likely!r}, or times in {unit!r}"
    )
