"""Users' profile fields as small whole numbers."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recattn.errors import ArtefactError

_BINS = 8


@dataclass(frozen=True)
class Field:
    """One profile field: either bins with inner ``edges``, or ``categories``; the other is None.

    A number x falls into code 1 + (how many edges are <= x), a category into its position from 1; 0 is unknown.
    """

    name: str
    edges: tuple[float, ...] | None = None
    categories: tuple[str, ...] | None = None

    @property
    def size(self) -> int:
        """How many codes there are, the unknown one included."""
        return 2 + len(self.edges) if self.edges is not None else 1 + len(self.categories or ())

    def codes(self, column: "pd.Series[Any]") -> NDArray[np.int32]:
        """(rows,) codes; 0 for what is missing or was not there when the field was fitted."""
        if self.edges is None:
            known = pd.Index(self.categories or (), dtype="str")
            return (known.get_indexer(pd.Index(_as_text(column))) + 1).astype(np.int32)
        values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
        codes = 1 + np.searchsorted(np.asarray(self.edges), values, side="right")
        return np.where(np.isnan(values), 0, codes).astype(np.int32)


class ProfileEncoder:
    """Code each profile field: numbers with more than 8 different values in quantile bins, the rest as categories.

    fields: what was fitted. ``fit`` makes them from data, ``from_dict`` from what ``to_dict`` wrote.

    >>> users = pd.DataFrame({"user": [3, 5], "gender": ["F", "M"]})
    >>> encoder = ProfileEncoder.fit(users)
    >>> encoder.transform(pd.DataFrame({"gender": ["M", "x", None]})).tolist(), encoder.sizes
    ([[2], [0], [0]], (3,))
    """

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self.fields = fields

    @classmethod
    def fit(cls, users: pd.DataFrame) -> Self:
        """Learn bins and categories from every column but ``user``."""
        return cls(tuple(_fit(users[name]) for name in users.columns if name != "user"))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each field has, the unknown one included."""
        return tuple(field.size for field in self.fields)

    def transform(self, users: pd.DataFrame) -> NDArray[np.int32]:
        """(rows, fields) codes. A field without a column, a missing value and an unknown category are 0."""
        codes = np.zeros((len(users), len(self.fields)), np.int32)
        for place, field in enumerate(self.fields):
            if field.name in users:
                codes[:, place] = field.codes(users[field.name])
        return codes

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold."""
        return {
            "fields": [
                {"name": field.name, "edges": list(field.edges)}
                if field.edges is not None
                else {"name": field.name, "categories": list(field.categories or ())}
                for field in self.fields
            ]
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Undo `to_dict`.

        Raises ArtefactError when the data is not what ``to_dict`` writes.
        """
        try:
            return cls(tuple(_restore(entry) for entry in data["fields"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ArtefactError(f"the profile's fields cannot be read ({error!r}): {data!r}") from error


def _fit(column: "pd.Series[Any]") -> Field:
    name = str(column.name)
    present = column.dropna()
    if pd.api.types.is_numeric_dtype(present.dtype) and present.nunique() > _BINS:
        inner = np.quantile(present.to_numpy(np.float64), np.arange(1, _BINS) / _BINS)
        # an edge at the minimum would leave the bin below it empty
        return Field(name, edges=tuple(float(edge) for edge in np.unique(inner) if edge > present.min()))
    return Field(name, categories=tuple(sorted(set(_as_text(present)))))


def _as_text(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Categories as text; a whole number is written alike whether its column is of integers or, with gaps, floats."""
    if pd.api.types.is_float_dtype(column.dtype) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return column.astype("str")


def _restore(entry: dict[str, Any]) -> Field:
    if "edges" in entry:
        return Field(str(entry["name"]), edges=tuple(float(edge) for edge in entry["edges"]))
    return Field(str(entry["name"]), categories=tuple(str(value) for value in entry["categories"]))
