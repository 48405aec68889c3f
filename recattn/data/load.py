"""From a name or a path to interactions: what ``--data`` means."""

from pathlib import Path

from recattn.data.columns import TimeUnit
from recattn.data.download import Progress
from recattn.data.fetch import Say, fetch
from recattn.data.interactions import Duplicates, Interactions
from recattn.data.sources import SOURCES
from recattn.data.tables import Layout
from recattn.errors import ConfigError, DataError


def load_interactions(
    data: str | Path,
    *,
    data_dir: str | Path | None = None,
    source: str | Path | None = None,
    verify: bool = True,
    user_column: str | None = None,
    item_column: str | None = None,
    rating_column: str | None = None,
    time_column: str | None = None,
    title_column: str | None = None,
    action_column: str | None = None,
    item_table: str | Path | None = None,
    user_table: str | Path | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    time_unit: TimeUnit | None = None,
    layout: Layout | None = None,
    duplicates: Duplicates = "first",
    say: Say | None = None,
    progress: Progress | None = None,
) -> Interactions:
    """Load a data set by its name, or a table by its path.

    data: a name of ``SOURCES``, or the path of a table: CSV, TSV, Parquet, JSON lines or sequences. A name is never a
        path: write ``./ml-100k`` for a file that is called so.
    data_dir, source, verify, say, progress: where to look for a named data set, see `fetch`. What ``say`` is told about
        files that are not the published ones is also in the summary.
    user_column and the other columns, item_table, user_table, delimiter, encoding, time_unit, layout: how to read a
        table, see `Interactions.from_table`; None is its default, which finds columns called time, rating or action,
        and "" leaves these out. Not allowed with a name.

    Raises DataError when ``data`` is neither a name nor a file, and as `fetch` and `Interactions.from_table` do;
    ConfigError when an argument does not belong to this kind of data.

    >>> load_interactions("ml-100m")
    Traceback (most recent call last):
    recattn.errors.DataError: 'ml-100m' is neither a data set (ml-100k, ml-1m, ml-10m, ...) nor a file that exists
    """
    asked = {
        "user_column": user_column,
        "item_column": item_column,
        "rating_column": rating_column,
        "time_column": time_column,
        "title_column": title_column,
        "action_column": action_column,
        "item_table": item_table,
        "user_table": user_table,
        "delimiter": delimiter,
        "encoding": encoding,
        "time_unit": time_unit,
        "layout": layout,
    }
    table = {name: value for name, value in asked.items() if value is not None}
    if str(data) in SOURCES:
        if table:
            names = ", ".join(f"{name}={value!r}" for name, value in table.items())
            raise ConfigError(f"{names}: a named data set ({data}) has its own columns and tables; leave this out")
        return _load_named(str(data), data_dir, source, duplicates, say, progress, verify=verify)
    for name, value in (("source", source), ("data_dir", data_dir), ("verify", None if verify else verify)):
        if value is not None:
            shown = str(value) if isinstance(value, Path) else value
            raise ConfigError(f"{name}={shown!r} is for named data sets ({', '.join(SOURCES)}); {data} is a path")
    if not Path(data).exists():
        raise DataError(f"{str(data)!r} is neither a data set ({', '.join(SOURCES)}) nor a file that exists")
    return Interactions.from_table(data, duplicates=duplicates, **table)  # type: ignore[arg-type]


def _load_named(
    name: str,
    data_dir: str | Path | None,
    source: str | Path | None,
    duplicates: Duplicates,
    say: Say | None,
    progress: Progress | None,
    *,
    verify: bool,
) -> Interactions:
    notes: list[str] = []

    def hear(line: str) -> None:
        notes.append(line)
        if say is not None:
            say(line)

    folder = fetch(name, data_dir=data_dir, source=source, verify=verify, say=hear, progress=progress)
    wanted = SOURCES[name]
    kept = tuple(note for note in notes if wanted.citation not in note)
    interactions = Interactions.from_movielens(folder, name=name, duplicates=duplicates, notes=kept)
    if verify and interactions.summary.read != wanted.rows:
        raise DataError(
            f"{folder}: {interactions.summary.read} ratings, published are {wanted.rows}: the file is damaged or "
            "another edition; accept it with verify=False (--no-verify)"
        )
    return interactions
