"""Interactions: who took what, when; the table from which everything else is made."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import pooch

from recattn.data import columns as check
from recattn.data.attributes import feature, read_attributes
from recattn.data.columns import TimeUnit
from recattn.data.movielens import read_movielens
from recattn.data.repeats import count_repeats, seen_before
from recattn.data.summary import Summary, content_hash
from recattn.data.tables import Columns, Events, Layout, from_pandas, read_table, to_arrow
from recattn.errors import ConfigError, DataError
from recattn.nn.checks import check_count

Duplicates = Literal["first", "keep"]
MOST_ACTIONS = 20
"""More than so many different ones are no kinds of action: the wrong column was named."""
_SHORTEST = 3  # events that leave-one-out needs: one to train on, one to validate, one to test


@dataclass(frozen=True)
class Interactions:
    """A table of events with what is known about its items and users.

    frame: user, item (int32, int64 or str), where known rating (float32) and time (int64 seconds); in the order of the
        file, rows numbered from 0. Where events have an action (view, cart, purchase) in place of a rating, its number.
    items: item, title and what else is known (genres "Action|Drama", year): one row for each item of the frame, sorted
        by item.
    users: user and profile columns, one row for each user of the frame, sorted by user; None where nothing is known.
    name: of the data set, or the file's name.
    summary: what was read, kept and left out.
    actions: the names of actions 1, 2, ..., sorted; empty where the events have none.

    Duplicates are rows of the same (user, item, time) and, where there are actions, the same action.
    ``duplicates="first"`` keeps the first and counts the others as left out, ``"keep"`` keeps all. The same
    (user, item) at another time is a repeat, kept and counted; so is every such row of a table without times, where
    nothing tells a repeat from a duplicate and the row order is the order.

    >>> import pandas as pd
    >>> events = pd.DataFrame({"user": ["a", "a", "b"], "item": [7, 5, 7]})
    >>> Interactions.from_frame(events).items["title"].tolist()
    ['5', '7']
    """

    frame: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame | None
    name: str
    summary: Summary
    actions: tuple[str, ...] = ()

    @classmethod
    def from_table(
        cls,
        path: str | Path,
        *,
        user_column: str = "user",
        item_column: str = "item",
        rating_column: str | None = None,
        time_column: str | None = None,
        title_column: str | None = None,
        action_column: str | None = None,
        item_table: str | Path | None = None,
        user_table: str | Path | None = None,
        delimiter: str | None = None,
        encoding: str = "utf-8",
        time_unit: TimeUnit | None = None,
        layout: Layout = "events",
        duplicates: Duplicates = "first",
    ) -> Self:
        """Read a CSV, TSV, Parquet or JSON-lines file, or one of sequences; see `tables.read_table`.

        time_column, rating_column, action_column: by default the column that is called time, rating or action, where
            there is one, and of a rating and an action the rating; "" for none. What is not read is in the summary.
        item_table, user_table: files that describe items and users, one row each, see `read_attributes`; their id
            columns are called as in the events.
        title_column: of the item_table where there is one (by default its "title"), else of the events.
        """
        _check_duplicates(duplicates)
        path = Path(path)
        event_title = title_column if item_table is None else None
        columns = Columns(user_column, item_column, rating_column, time_column, event_title, action_column)
        events = read_table(path, columns, delimiter=delimiter, encoding=encoding, time_unit=time_unit, layout=layout)
        items = users = None
        if item_table is not None:
            items = read_attributes(
                item_table, "item", item_column, title_column=title_column, delimiter=delimiter, encoding=encoding
            )
        if user_table is not None:
            users = read_attributes(user_table, "user", user_column, delimiter=delimiter, encoding=encoding)
        files = tuple(Path(file) for file in (path, item_table, user_table) if file is not None)
        return cls._from_columns(events, path.name, duplicates, files, items, users)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        user_column: str = "user",
        item_column: str = "item",
        rating_column: str | None = None,
        time_column: str | None = None,
        title_column: str | None = None,
        action_column: str | None = None,
        time_unit: TimeUnit | None = None,
        duplicates: Duplicates = "first",
        items: pd.DataFrame | None = None,
        users: pd.DataFrame | None = None,
        name: str = "frame",
    ) -> Self:
        """Take a table in memory; its columns are found and checked like a file's, and it is left as it is.

        items, users: what is known about them, one row each, with a column called ``item`` or ``user``.
        """
        _check_duplicates(duplicates)
        columns = Columns(user_column, item_column, rating_column, time_column, title_column, action_column)
        described = (_described(items, "item"), _described(users, "user"))
        return cls._from_columns(from_pandas(frame, columns, time_unit), name, duplicates, (), *described)

    @classmethod
    def from_movielens(
        cls, folder: str | Path, *, name: str, duplicates: Duplicates = "first", notes: tuple[str, ...] = ()
    ) -> Self:
        """Read a folder in one of MovieLens' layouts; see `movielens.read_movielens`.

        A film's year, which stands at the end of its title, becomes a column of ``items``.
        """
        _check_duplicates(duplicates)
        tables = read_movielens(Path(folder))
        items = tables.items
        if items is not None:
            items = items.assign(year=pd.to_numeric(items["title"].str.extract(r"\((\d{4})\)\s*$", expand=False)))
        return cls._build(tables.ratings, items, tables.users, name, duplicates, tables.files, notes)

    def without_rare_items(self, min_item_events: int) -> Self:
        """Only the events of items that have at least so many; users left without an event go as well.

        One pass, as in the protocols that keep the items of five or more events: what goes may leave a user short.
        Raises ConfigError for min_item_events < 1, DataError where no item has so many events.

        >>> import pandas as pd
        >>> events = pd.DataFrame({"user": ["a", "a", "b"], "item": [7, 5, 7]})
        >>> Interactions.from_frame(events).without_rare_items(2).frame["item"].tolist()
        [7, 7]
        """
        check_count("min_item_events", min_item_events)
        counts = self.frame["item"].value_counts()
        frequent = counts.index[counts >= min_item_events]
        if not len(frequent):
            raise DataError(
                f"no item of {self.name} has {min_item_events} events; the most frequent has {counts.max()}"
            )
        frame = self.frame[self.frame["item"].isin(frequent)].reset_index(drop=True)
        items = self.items[self.items["item"].isin(frequent)].reset_index(drop=True)
        users = self.users
        if users is not None:
            users = users[users["user"].isin(frame["user"])].reset_index(drop=True)
        before = self.summary
        reason = f"of items with fewer than {min_item_events} events"
        left_out = dict(before.left_out)
        left_out[reason] = left_out.get(reason, 0) + before.kept - len(frame)
        summary = _summarise(frame, self.name, before.read, left_out, before.files, before.notes)
        return replace(self, frame=frame, items=items, users=users, summary=summary)

    @classmethod
    def _from_columns(
        cls,
        events: Events,
        name: str,
        duplicates: Duplicates,
        files: tuple[Path, ...],
        items: pd.DataFrame | None = None,
        users: pd.DataFrame | None = None,
    ) -> Self:
        frame, unread = events
        titles = None
        if "title" in frame:
            titles = frame.loc[frame["title"] != "", ["item", "title"]].drop_duplicates("item")
            frame = frame.drop(columns="title")
        actions: tuple[str, ...] = ()
        if "action" in frame:
            kinds = frame["action"].astype("category")
            actions = tuple(map(str, kinds.cat.categories))
            if len(actions) > MOST_ACTIONS:
                some = ", ".join(map(repr, actions[:3]))
                raise DataError(
                    f"{name}: {len(actions)} different actions ({some}, ...); {MOST_ACTIONS} at most. "
                    "Name another action_column, or none: action_column='' (--action-column '')"
                )
            frame = frame.drop(columns="action").assign(rating=(kinds.cat.codes + 1).astype("float32"))
        notes = (f"columns not read: {', '.join(unread)}",) if unread else ()
        return cls._build(frame, items, users, name, duplicates, files, notes, titles, actions)

    @classmethod
    def _build(
        cls,
        frame: pd.DataFrame,
        items: pd.DataFrame | None,
        users: pd.DataFrame | None,
        name: str,
        duplicates: Duplicates,
        files: tuple[Path, ...],
        notes: tuple[str, ...],
        titles: pd.DataFrame | None = None,
        actions: tuple[str, ...] = (),
    ) -> Self:
        read = len(frame)
        left_out = {}
        if "time" in frame and duplicates == "first":
            same = ["user", "time", "item", *["rating"] * bool(actions)]  # a view and a purchase are two events
            again = seen_before(frame, same)
            named = "(user, item, time, action)" if actions else "(user, item, time)"
            left_out[f"duplicates of an earlier {named}"] = int(again.sum())
            if again.any():
                frame = frame[~again].reset_index(drop=True)
        catalogue, item_notes = _attributes(frame["item"], items, "item")
        if titles is not None:
            catalogue["title"] = catalogue["item"].map(titles.set_index("item")["title"])
        catalogue["title"] = _titles(catalogue)
        profiles, user_notes = (None, ()) if users is None else _attributes(frame["user"], users, "user")
        names = [path.name for path in files]
        hashes = {
            path.name if names.count(path.name) == 1 else str(path): str(pooch.file_hash(str(path), alg="sha256"))
            for path in files
        }
        numbered = ", ".join(f"{action} {number}" for number, action in enumerate(actions, 1))
        action_notes = (f"actions are told apart as {numbered}",) if actions else ()
        summary = _summarise(frame, name, read, left_out, hashes, (*notes, *item_notes, *user_notes, *action_notes))
        return cls(frame, catalogue, profiles, name, summary, actions)


def _check_duplicates(duplicates: str) -> None:
    if duplicates not in {"first", "keep"}:
        raise ConfigError(f"duplicates={duplicates!r} is not allowed; choose 'first' or 'keep'")


def _described(table: pd.DataFrame | None, key: str) -> pd.DataFrame | None:
    """A table of attributes in memory, its ids and features as a file's would be; see `read_attributes`."""
    if table is None:
        return None
    if key not in table:
        raise DataError(f"the table of {key}s has no column {key!r}; it has {list(table.columns)}")

    def locate(row: int) -> str:
        return f"row {row + 1} of the table of {key}s"

    names = [str(name) for name in table.columns]
    table = table.set_axis(names, axis=1).reset_index(drop=True)
    told = {name: feature(to_arrow(table, name), name, locate) for name in names if name not in (key, "title")}
    return table.assign(**{key: check.ids(to_arrow(table, key), key, locate)}, **told)


def _attributes(ids: "pd.Series[Any]", known: pd.DataFrame | None, key: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """One row for each id that occurs, sorted, with what is known about it; and notes on what did not fit."""
    rows = pd.DataFrame({key: np.sort(ids.unique())}).astype({key: ids.dtype})
    if known is None:
        return rows, ()
    unique = known.drop_duplicates(key)
    events, described = pd.Index(rows[key]), pd.Index(unique[key])
    if (events.dtype.kind == "i") != (described.dtype.kind == "i"):  # one has an id among its numbers that is none
        events, described = events.astype("str"), described.astype("str")
    place = described.get_indexer(events)
    told = unique.drop(columns=key).reset_index(drop=True).reindex(place).reset_index(drop=True)  # -1 is no row
    joined = pd.concat([rows, told], axis=1)
    counts = {
        f"{key}s that no event has are left out": len(described) - int((place >= 0).sum()),
        f"{key}s have events, but no row that describes them": int((place < 0).sum()),
        f"rows describe {key}s again and are left out": len(known) - len(unique),
    }
    return joined, tuple(f"{count} {what}" for what, count in counts.items() if count)


def _titles(catalogue: pd.DataFrame) -> "pd.Series[str]":
    names = catalogue["item"].astype("str")
    return names if "title" not in catalogue else catalogue["title"].fillna(names).astype("str")


def _summarise(
    frame: pd.DataFrame,
    name: str,
    read: int,
    left_out: Mapping[str, int],
    files: Mapping[str, str],
    notes: tuple[str, ...],
) -> Summary:
    timed = "time" in frame
    events_per_user = frame["user"].value_counts(sort=False)
    return Summary(
        name=name,
        read=read,
        kept=len(frame),
        left_out=left_out,
        users=len(events_per_user),
        items=int(frame["item"].nunique()),
        first_time=int(frame["time"].min()) if timed else None,
        last_time=int(frame["time"].max()) if timed else None,
        repeats=count_repeats(frame, ["user", "item"]),
        tied=count_repeats(frame, ["user", "time"]) / len(frame) if timed else None,
        short_users=int((events_per_user < _SHORTEST).sum()),
        notes=notes,
        hash=content_hash(frame),
        files=files,
    )
