"""Features of users and items as small whole numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recattn.errors import ArtefactError

SEPARATOR = "|"
"""Between the values of a field that has several: ``Action|Drama``."""
NUMBER = r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?"
"""How a number is written. One with a leading zero (``007``) is a name."""
_BINS = 8
_WHOLE = 2.0**53  # above, floats are more than 1 apart


@dataclass(frozen=True)
class Field:
    """One feature: either bins with inner ``edges``, or ``categories``; the other is None.

    A number x falls into code 1 + (how many edges are <= x), a category into its position from 1; 0 is unknown.
    width: how many values a row may have; more than 1 only for categories.
    """

    name: str
    edges: tuple[float, ...] | None = None
    categories: tuple[str, ...] | None = None
    width: int = 1

    @property
    def size(self) -> int:
        """How many codes there are, the unknown one included."""
        return 2 + len(self.edges) if self.edges is not None else 1 + len(self.categories or ())

    def codes(self, column: "pd.Series[Any]") -> NDArray[np.int32]:
        """(rows, width) codes; 0 for what is missing or was not there when the field was fitted.

        Of more known values than ``width`` the first are taken.
        """
        if self.edges is not None:
            values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
            bins = 1 + np.searchsorted(np.asarray(self.edges), values, side="right")
            return np.where(np.isnan(values), 0, bins).astype(np.int32)[:, None]
        if self.width == 1:
            return (1 + _places(self.categories or (), _as_text(column))).astype(np.int32)[:, None]
        parts = _several(column).explode()
        found = 1 + _places(self.categories or (), parts)
        row = parts.index.to_numpy()[found > 0]
        place = np.arange(len(row)) - np.searchsorted(row, row)  # rows ascend
        codes: NDArray[np.int32] = np.zeros((len(column), self.width), np.int32)
        kept = place < self.width
        codes[row[kept], place[kept]] = found[found > 0][kept]
        return codes


class FeatureEncoder:
    """Code each column of a table: numbers with more than 8 different values in quantile bins, the rest as categories.

    Text in which "|" stands somewhere holds several categories in a row. Text that is different in every row names the
    row, and is left out. What was learnt is the same as scikit-learn's KBinsDiscretizer (quantiles) and OrdinalEncoder
    learn, kept as plain data.

    fields: what was fitted. ``fit`` makes them from data, ``from_dict`` from what ``to_dict`` wrote.

    >>> users = pd.DataFrame({"user": [3, 5, 7], "gender": ["F", "M", "M"]})
    >>> encoder = FeatureEncoder.fit(users, without=["user"])
    >>> encoder.transform(pd.DataFrame({"gender": ["M", "x", None]})).tolist(), encoder.sizes
    ([[2], [0], [0]], (3,))
    >>> FeatureEncoder.fit(pd.DataFrame({"genres": ["War|Drama", "Drama", ""]})).fields[0].categories
    ('Drama', 'War')
    """

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self.fields = fields

    @classmethod
    def fit(cls, table: pd.DataFrame, *, without: Iterable[str] = ()) -> Self:
        """Learn bins and categories from every column but those ``without``."""
        left_out = set(without)
        fields = (_fit(table[name]) for name in table.columns if name not in left_out)
        return cls(tuple(field for field in fields if field is not None))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each field has, the unknown one included."""
        return tuple(field.size for field in self.fields)

    @property
    def widths(self) -> tuple[int, ...]:
        """How many values of each field a row may have."""
        return tuple(field.width for field in self.fields)

    @property
    def column_sizes(self) -> tuple[int, ...]:
        """How many codes each column of `transform` has: a field of several values is as many columns."""
        return tuple(field.size for field in self.fields for _ in range(field.width))

    def transform(self, table: pd.DataFrame) -> NDArray[np.int32]:
        """(rows, sum of the widths) codes, field by field.

        A field without a column, a missing value and an unknown category are 0.
        """
        codes = [
            field.codes(table[field.name].reset_index(drop=True))
            if field.name in table
            else np.zeros((len(table), field.width), np.int32)
            for field in self.fields
        ]
        return np.concatenate(codes, 1) if codes else np.zeros((len(table), 0), np.int32)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold."""
        return {
            "fields": [
                {"name": field.name, "edges": list(field.edges)}
                if field.edges is not None
                else {"name": field.name, "categories": list(field.categories or ()), "width": field.width}
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
            raise ArtefactError(f"the features' fields cannot be read ({error!r}): {data!r}") from error


def _fit(column: "pd.Series[Any]") -> Field | None:
    name = str(column.name)
    present = column.dropna()
    numeric = pd.api.types.is_numeric_dtype(present.dtype)
    if numeric and present.nunique() > _BINS:
        inner = np.quantile(present.to_numpy(np.float64), np.arange(1, _BINS) / _BINS)
        # an edge at the minimum would leave the bin below it empty
        return Field(name, edges=tuple(float(edge) for edge in np.unique(inner) if edge > present.min()))
    if not numeric and present.astype("str").str.contains(SEPARATOR, regex=False).any():
        values = _several(present)
        return Field(name, categories=tuple(sorted(set(values.explode()) - {""})), width=int(values.str.len().max()))
    text = _as_text(present)
    text = text[text != ""]
    if not numeric and len(text) > _BINS and text.is_unique:
        return None
    return Field(name, categories=tuple(sorted(set(text))))


def _several(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Lists of different values, in their order; rows numbered from 0."""
    text = _as_text(column.reset_index(drop=True)).where(column.notna().to_numpy(), "")
    parts = [dict.fromkeys(part.strip() for part in value.split(SEPARATOR)) for value in text]
    return pd.Series([list(some) for some in parts], dtype="object")


def _as_text(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Categories as text; a whole number is written alike whether its column is of integers or of floats."""
    text = column.astype("str")
    if pd.api.types.is_float_dtype(column.dtype):
        whole = (column % 1 == 0) & (column.abs() < _WHOLE)
        text = text.mask(whole, column.where(whole, 0).astype("int64").astype("str"))
    return text


def _places(categories: Sequence[str], text: "pd.Series[Any]") -> NDArray[np.intp]:
    """The place of each text among the categories, -1 for none.

    A number may be written otherwise than it was when the field was fitted: one cell that is no number makes text of a
    column of numbers.
    """
    known = pd.Index(list(categories), dtype="str")
    places = known.get_indexer(pd.Index(text))
    strange = (places < 0) & text.notna().to_numpy()
    if strange.any():
        alike = {value: place for place, value in reversed(list(enumerate(_one_spelling(known.to_series()))))}
        places[strange] = _one_spelling(text[strange]).map(alike).fillna(-1).to_numpy(np.intp)
    return places


def _one_spelling(text: "pd.Series[Any]") -> "pd.Series[Any]":
    """What is written as a number as `_as_text` writes it."""
    numbers = pd.to_numeric(text.where(text.str.fullmatch(NUMBER))).astype("float64")
    return text.mask(numbers.abs() < _WHOLE, _as_text(numbers))


def _restore(entry: dict[str, Any]) -> Field:
    if "edges" in entry:
        return Field(str(entry["name"]), edges=tuple(float(edge) for edge in entry["edges"]))
    categories = tuple(str(value) for value in entry["categories"])
    return Field(str(entry["name"]), categories=categories, width=int(entry.get("width", 1)))
