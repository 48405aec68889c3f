"""A table that is handed over for an answer, in memory or in a file: its columns, and where a row stands."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import pandas as pd
import pyarrow as pa

from recattn.data.columns import Locate
from recattn.data.table_files import open_table
from recattn.data.tables import to_arrow
from recattn.errors import ConfigError, DataError

Table: TypeAlias = pd.DataFrame | Path
"""In memory, or a file that `open_table` reads."""


def read_raw(
    source: Table, name: str, needed: Sequence[str], others: Sequence[str] | None = None
) -> tuple[pa.Table, Locate]:
    """All columns, and what says where a row stands: "x.csv, line 17" or "row 16 of history".

    name: what the table is called in messages. needed: columns that it must have. others: those that it may have, None
    for any; a column of another name is refused, as it may be a misspelt one of these.
    Raises ConfigError for what is neither a DataFrame nor a path; DataError for columns that are missing, twice there
    or none of these, and as `open_table` does.

    >>> read_raw(pd.DataFrame({"item": [5, 7]}), "history", ["item"])[1](0)
    'row 1 of history'
    """
    if isinstance(source, pd.DataFrame):
        place, names = name, [str(column) for column in source.columns]
    elif not isinstance(source, Path | str):
        raise ConfigError(f"{name} must be a table, a DataFrame or the Path of a file, got a {type(source).__name__}")
    else:
        file = open_table(source)
        place, names = file.top, file.names()
    missing = [column for column in needed if column not in names]
    if missing:
        raise DataError(f"{place}: there is no column {missing[0]!r}; the columns are {', '.join(map(repr, names))}")
    for column in names:
        if names.count(column) > 1:
            raise DataError(f"{place}: more than one column is called {column!r}")
        if others is not None and column not in {*needed, *others}:
            allowed = ", ".join((*needed, *others))
            raise DataError(f"{place}: {column!r} is none of the columns {allowed}; rename it or take it out")
    if isinstance(source, pd.DataFrame):
        source = source.set_axis(names, axis=1)
        arrays = {column: to_arrow(source, column) for column in names}
        return pa.table(arrays), lambda row: f"row {row + 1} of {name}"
    return file.read(), file.where
