"""Read a table that describes items or users: one row each, every column but the id a feature."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recattn.data import columns as check
from recattn.data.columns import Locate
from recattn.data.features import NUMBER, SEPARATOR
from recattn.data.table_files import TableFile, open_table
from recattn.errors import DataError


def read_attributes(
    path: str | Path,
    key: Literal["item", "user"],
    id_column: str,
    *,
    title_column: str | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
) -> pd.DataFrame:
    r"""Read what is known about items or users, rows in the order of the file.

    Returns a frame with ``key``, the raw ids (see ``columns.ids``); for items ``title`` (str), where there is one; and
    every other column under its own name, as `feature` makes it.

    path, delimiter, encoding: see `open_table`. id_column: the column of the ids.
    title_column: of an items' table; by default the column called "title", if there is one.

    Raises DataError naming file, line and column for a column that is not there, is named twice or not at all, an id
    that is missing, and a value that is no feature; and as `open_table` does.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "films.csv")
    ...     _ = path.write_text("film,title,genres,year\n5,Five,War|Drama,1995\n7,Seven,,\n")
    ...     read_attributes(path, "item", "film").to_dict("list")
    {'item': [5, 7], 'title': ['Five', 'Seven'], 'genres': ['War|Drama', nan], 'year': [1995.0, nan]}
    """
    file = open_table(path, delimiter=delimiter, encoding=encoding)
    names = file.names()
    if title_column is None and key == "item" and "title" in names:
        title_column = "title"
    renamed = {id_column: key} | ({} if title_column is None else {title_column: "title"})
    _check_names(file, names, renamed)
    table = file.read(names)
    if table.num_rows == 0:
        raise DataError(f"{file.path} is empty: it names columns, but has no rows")
    result: dict[str, Any] = {key: check.ids(table[id_column], id_column, file.where)}
    if title_column is not None:
        result["title"] = _titles(table[title_column], title_column, file.where)
    for name in names:
        if name not in renamed:
            result[name] = feature(table[name], name, file.where)
    return pd.DataFrame(result)


def feature(column: pa.ChunkedArray, name: str, locate: Locate) -> "pd.Series[Any]":
    """Numbers (float64) or text, NaN where there is none.

    Text is trimmed, and missing where nothing is left. It becomes numbers when all of it is written as numbers; one
    with a leading zero (``007``) is a name. Dates become seconds since 1970, true and false text. A list of text,
    numbers or truth values is its different members with "|" between them, which is how text holds several values.

    Raises DataError for another type, and for "|" inside a member of a list.

    >>> feature(pa.chunked_array([["3", "", " 2.5"]]), "price", str).tolist()
    [3.0, nan, 2.5]
    >>> feature(pa.chunked_array([[["b", "a"], [], None]]), "tags", str).tolist()
    ['b|a', nan, nan]
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return feature(column.cast(kind.value_type), name, locate)
    if _is_list(kind):
        return _joined(column, name, locate)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("s"), safe=False).cast(pa.int64())
    elif not _is_plain(kind):
        raise DataError(f"{locate(0)}, column {name!r}: features are numbers, text or lists of these, not {kind}")
    if not (pa.types.is_boolean(kind) or _is_text(kind)):
        values = pd.Series(column.cast(pa.float64(), safe=False).to_numpy())
        return values.where(np.isfinite(values))
    text = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.large_string()), text)
    if pc.all(pc.match_substring_regex(text, f"^({NUMBER})$")).as_py() and text.null_count < len(text):
        numbers = pd.Series(pd.to_numeric(text.to_pandas()), dtype="float64")
        if np.isfinite(numbers.dropna()).all():  # 1e999 is a name
            return numbers
    return pd.Series(text.to_pandas(), dtype="str")


def _check_names(file: TableFile, names: Sequence[str], renamed: dict[str, str]) -> None:
    shown = ", ".join(map(repr, names))
    for theirs, ours in renamed.items():
        if theirs not in names:
            hint = (
                ""
                if ours == "title"
                else f", whose ids stand under the name that they have in the events ({ours}_column)"
            )
            raise DataError(f"{file.top}: there is no column {theirs!r} of the {ours}{hint}; the columns are {shown}")
    ours_of = [renamed.get(name, name) for name in names]
    for name, ours in zip(names, ours_of, strict=True):
        if not name.strip():
            raise DataError(f"{file.top}: column {names.index(name) + 1} has no name: name it or take it out")
        if ours_of.count(ours) > 1:
            raise DataError(f"{file.top}: more than one column is called {ours!r}; the columns are {shown}")


def _titles(column: pa.ChunkedArray, name: str, locate: Locate) -> "pd.Series[Any]":
    if not _is_plain(column.type):
        raise DataError(f"{locate(0)}, column {name!r}: titles are text, not {column.type}")
    titles = pd.Series(column.cast(pa.large_string()).to_pandas(), dtype="str")
    return titles.where(titles != "")


def _joined(column: pa.ChunkedArray, name: str, locate: Locate) -> "pd.Series[Any]":
    """Catalogues are small beside events: one row after another."""
    if not _is_plain(column.type.value_type):
        raise DataError(
            f"{locate(0)}, column {name!r}: features are numbers, text or lists of these, not {column.type}"
        )
    texts = column.cast(pa.large_list(pa.large_string())).to_pylist()
    joined: list[str | None] = []
    for row, members in enumerate(texts):
        kept = dict.fromkeys(member.strip() for member in members or () if member is not None)
        broken = [member for member in kept if SEPARATOR in member]
        if broken:
            raise DataError(
                f"{locate(row)}, column {name!r}: {broken[0]!r} holds {SEPARATOR!r}, which stands between values"
            )
        joined.append(SEPARATOR.join(filter(None, kept)) or None)
    return pd.Series(joined, dtype="str")


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )


def _is_plain(kind: pa.DataType) -> bool:
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return bool(numeric or pa.types.is_boolean(kind) or _is_text(kind))
