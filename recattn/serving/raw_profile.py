"""Profiles, and the context of a request, in raw values -> the codes that a saved model reads."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recattn.data import FeatureEncoder
from recattn.data import columns as check
from recattn.data.attributes import feature
from recattn.data.columns import Locate
from recattn.data.tables import to_arrow
from recattn.errors import ConfigError, DataError
from recattn.serving.raw_table import Table, read_raw

_NAMED = 3  # how many unknown values a note lists


def read_profile(
    encoder: FeatureEncoder, profile: Mapping[str, Any], saved: NDArray[np.int32] | None = None
) -> tuple[NDArray[np.int32], list[str]]:
    """(1, columns) codes of one person's profile, and notes on values that the encoder does not know: their code is 0.

    profile: field -> raw value, as in the table that the encoder was fitted on; None or "" is unknown.
    saved: (1, columns) codes to be kept of fields that are not named; None: these are unknown.
    Raises ConfigError for what is no mapping and a field that the encoder does not have; DataError for a value that is
    no feature.

    >>> encoder = FeatureEncoder.fit(pd.DataFrame({"gender": ["F", "M"], "age": [18, 25]}))
    >>> read_profile(encoder, {"age": "25"})[0].tolist(), read_profile(encoder, {"gender": "X"})[1]
    ([[0, 2]], ["unknown to the model and left out of the profile: gender 'X'"])
    """
    columns = _one_row("profile", profile)
    codes, notes = _codes(encoder, columns, 1, lambda _: "profile")
    if saved is not None:
        given = np.repeat([name in columns for name in encoder.names], encoder.widths)
        codes = np.where(given, codes, saved)
    return codes, notes


def read_context(encoder: FeatureEncoder, context: Mapping[str, Any]) -> tuple[NDArray[np.int32], list[str]]:
    """(1, columns) codes of what is known of one request, and notes on unknown values, as `read_profile` does."""
    return _codes(encoder, _one_row("context", context), 1, lambda _: "context", "context")


def read_profiles(encoder: FeatureEncoder, profiles: Table) -> tuple["pd.Series[Any]", NDArray[np.int32], list[str]]:
    """The column user of a table of profiles, raw ids; (rows, columns) codes of the other columns; and notes.

    Raises DataError for a user with two rows, and as `read_profile` does.
    """
    table, locate = read_raw(profiles, "profiles", ["user"])
    users = check.ids(table["user"], "user", locate)
    again = users.duplicated().to_numpy()
    if again.any():
        row = int(again.argmax())
        raise DataError(
            f"{locate(row)}, column 'user': {users.tolist()[row]!r} has a profile already; each user has one row"
        )
    columns = {name: table[name] for name in table.column_names if name != "user"}
    return users, *_codes(encoder, columns, len(users), locate)


def _one_row(what: str, fields: Mapping[str, Any]) -> dict[str, pa.ChunkedArray]:
    if not isinstance(fields, Mapping | pd.Series):
        raise ConfigError(f"{what} must be a mapping, field -> value, got {fields!r}")
    frame = pd.DataFrame({str(name): pd.Series([value], dtype="object") for name, value in fields.items()}, index=[0])
    return {name: to_arrow(frame, name) for name in map(str, frame)}


def _codes(
    encoder: FeatureEncoder,
    columns: Mapping[str, pa.ChunkedArray],
    rows: int,
    locate: Locate,
    what: str = "profile",
) -> tuple[NDArray[np.int32], list[str]]:
    foreign = [name for name in columns if name not in encoder.names]
    if foreign:
        raise ConfigError(f"the {what} has no field {foreign[0]!r}; its fields are {', '.join(encoder.names)}")
    values = pd.DataFrame({name: feature(column, name, locate) for name, column in columns.items()}, index=range(rows))
    codes = encoder.transform(values)
    unknown: list[str] = []
    for name, part in zip(encoder.names, np.split(codes, np.cumsum(encoder.widths)[:-1], axis=1), strict=True):
        if name in values:
            strange = values[name][values[name].notna() & (part == 0).all(1)].unique().tolist()
            more = f" and {len(strange) - _NAMED} more" * (len(strange) > _NAMED)
            unknown += [f"{name} {', '.join(map(repr, strange[:_NAMED]))}{more}"] * bool(strange)
    return codes, [f"unknown to the model and left out of the {what}: {'; '.join(unknown)}"] * bool(unknown)
