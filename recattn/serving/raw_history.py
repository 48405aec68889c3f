"""Events of people that a saved model does not know, in raw ids, times and ratings -> the histories that it reads."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recattn.data import FeatureEncoder, Histories, Vocabulary
from recattn.data.ragged import offsets_of
from recattn.data.tables import Columns, checked
from recattn.data.vocabulary import RawId
from recattn.errors import ConfigError, DataError
from recattn.serving.artefact import Artefact
from recattn.serving.raw_ids import read_ids
from recattn.serving.raw_profile import read_profiles
from recattn.serving.raw_table import Table, read_raw

_READ = ("time", "rating", "action")


def read_history(artefact: Artefact, history: Sequence[RawId] | Table) -> tuple[Histories, list[str]]:
    """One person's events, the only user of the Histories, and notes on what is left out of them.

    history: raw item ids, oldest first, see `read_ids`; or a table with a column item and perhaps time (dates, or
        numbers in the unit of the table that was trained on, seconds by default, see `columns.times`), rating or action
        (a name), sorted by time where there are times, rows that tie as they stand. A column user may say whose they
        all are.
    Raises ConfigError for what is neither, events of several users, and a rating or action that the model's data does
    not have; DataError naming row and value for what `checked` refuses and an action that the model does not know.
    """
    if isinstance(history, Table):
        events = _events(artefact, history, "history", ["item"], ["user", *_READ])
        if "user" in events and len(events["user"].unique()) > 1:
            raise ConfigError("history has events of several users: recommend_many(histories=...) answers them all")
    else:
        told = read_ids(artefact.items, "history", history, form="a sequence of ids or a table")
        events = pd.DataFrame({"item": pd.Series(told, dtype="object")})
    return _histories(artefact, events, np.zeros(len(events), np.int64), 1)


def read_histories(
    artefact: Artefact, histories: Table, profiles: Table | None = None, encoder: FeatureEncoder | None = None
) -> tuple[Vocabulary, Histories, list[str]]:
    """People and their events, user u of the Histories being number u + 1; and notes as in `read_history`.

    The people come in the order of their first rows, those who have a profile alone at the end.

    histories: a table as in `read_history`, with a column user. profiles: a column user, others are fields of the
        profile that ``encoder`` codes; those who have no row are unknown.
    """
    events = _events(artefact, histories, "histories", ["user", "item"], _READ)
    if profiles is None or encoder is None:
        people = Vocabulary(events["user"].drop_duplicates())
        return people, *_histories(artefact, events, people.encode(events["user"]) - 1, len(people))
    described, codes, strange = read_profiles(encoder, profiles)
    people = Vocabulary(pd.concat([events["user"], described]).drop_duplicates())
    found, notes = _histories(artefact, events, people.encode(events["user"]) - 1, len(people))
    profile = np.zeros((len(people), codes.shape[1]), np.int32)
    profile[people.encode(described) - 1] = codes
    return people, replace(found, profile=profile, profile_sizes=encoder.column_sizes), notes + strange


def _events(artefact: Artefact, source: Table, name: str, needed: Sequence[str], others: Sequence[str]) -> pd.DataFrame:
    """The table checked, an action as the number that stands in place of a rating."""
    table, locate = read_raw(source, name, needed, others)
    if table.num_rows == 0:
        return pd.DataFrame({column: np.empty(0, np.int32) for column in table.column_names})
    there = {column: column for column in table.column_names}
    columns = Columns(there.get("user"), "item", there.get("rating"), there.get("time"), action=there.get("action"))
    known = artefact.encoders.actions
    if columns.rating and known:
        raise ConfigError(f"{name} has ratings, but the model was trained on actions: {', '.join(known)}")
    if columns.action and not known:
        raise ConfigError(f"{name} has actions, but the model was trained without")
    events = checked(table, columns, locate, artefact.manifest.get("time_unit", "s"))
    if columns.action:
        codes = pd.Index(known).get_indexer(pd.Index(events["action"])) + 1
        if not codes.all():
            row = int((codes == 0).argmax())
            value = events["action"][row]
            raise DataError(f"{locate(row)}, column 'action': {value!r} is none of the model's: {', '.join(known)}")
        events["rating"] = codes
    return events


def _histories(
    artefact: Artefact, events: pd.DataFrame, users: NDArray[np.integer], count: int
) -> tuple[Histories, list[str]]:
    """users: (events,) whose each event is, 0 to count - 1."""
    items, raw = artefact.items, events["item"]
    # One id that is no number makes text of a table's column, and one without letters is a number where all are. Ids of
    # a list, objects, are read already.
    alike = raw.dtype == object or items.is_numeric == (raw.dtype.kind == "i")
    numbers = items.encode(raw if alike else items.read(raw), unknown="zero")
    strange = raw[numbers == 0].drop_duplicates().tolist()
    notes = []
    if strange:
        notes.append(f"left out of the history, as the model does not know them: {', '.join(map(str, strange))}")
    keys = (events["time"], users) if "time" in events else (users,)
    order = np.lexsort(keys)
    order = order[numbers[order] > 0]

    def kept(name: str, before: object, dtype: type[np.generic]) -> NDArray[Any] | None:
        if name not in events:
            return None
        if before is None:
            notes.append(f"{name} is not used: the model was trained without")
            return None
        return events[name].to_numpy(dtype)[order]

    known = artefact.histories
    return Histories(
        items=numbers[order],
        offsets=offsets_of(np.bincount(users[order], minlength=count)),
        num_items=len(items),
        times=kept("time", known.times, np.int64),
        ratings=kept("rating", known.ratings, np.float32),
    ), notes
