"""Raw ids and the numbers 1, 2, ... that models know them by; 0 is padding."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from recattn.errors import ConfigError, DataError, UnknownIdError

RawId: TypeAlias = int | str
_WHOLE = re.compile(r"-?[0-9]{1,19}")
_NAMED = 3  # how many unknown ids a message lists
_SEARCHED = 100_000  # how many ids are compared with a misspelt one


class Vocabulary:
    """Raw ids <-> numbers 1..n; number 0 stands for padding and for the unknown.

    ids: (n,) different raw ids, whole numbers or text; the id at position i has number i + 1.
    titles: (n,) what to show for them, or None to show the ids.

    Raises DataError for an id that occurs twice, and for ids that are neither all whole numbers nor all text.

    >>> vocabulary = Vocabulary.build([30, 4, 30, 100])
    >>> vocabulary.encode([100, 4]).tolist(), vocabulary.decode([1, 3])
    ([3, 1], [4, 100])
    """

    def __init__(self, ids: ArrayLike, titles: Sequence[str] | None = None) -> None:
        values = pd.Series(ids)
        if values.empty and values.dtype.kind not in "iu":
            values = values.astype("str")
        if values.dtype.kind in "iu":
            values = values.astype("int64")
        elif pd.api.types.infer_dtype(values) == "string" and not values.isna().any():
            values = values.astype("str")
        else:
            raise DataError(f"ids must be all whole numbers or all text and none missing, but they are {values.dtype}")
        self.index = pd.Index(values)
        if not self.index.is_unique:
            twice = self.index[self.index.duplicated()].tolist()[0]
            raise DataError(f"the id {twice!r} occurs twice in the vocabulary")
        if titles is not None and len(titles) != len(self.index):
            raise DataError(f"{len(self.index)} ids, but {len(titles)} titles")
        self.titles = None if titles is None else pd.Series(list(titles), dtype="str")

    @classmethod
    def build(cls, ids: ArrayLike, titles: Mapping[Any, str] | None = None) -> Self:
        """Number the different ids in sorted order (whole numbers by value, text by character).

        So the numbers do not depend on the order of the rows. titles: raw id -> title; the id itself where missing.
        """
        unique = pd.Series(ids).drop_duplicates().sort_values()
        return cls(unique, None if titles is None else [str(titles.get(raw, raw)) for raw in unique.tolist()])

    def __len__(self) -> int:
        """How many ids there are, padding not counted."""
        return len(self.index)

    def __contains__(self, raw: object) -> bool:
        return not isinstance(raw, bool) and raw in self.index

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        titles = [self.title(n) for n in range(1, len(self) + 1)]
        return self.index.equals(other.index) and titles == [other.title(n) for n in range(1, len(other) + 1)]

    __hash__ = None  # type: ignore[assignment]  # compared by content, which may be large

    def __repr__(self) -> str:
        return f"Vocabulary of {len(self)} {'whole numbers' if self.is_numeric else 'strings'}"

    @property
    def is_numeric(self) -> bool:
        """Whether the raw ids are whole numbers (else they are text)."""
        return self.index.dtype.kind == "i"

    def encode(self, ids: ArrayLike, *, unknown: Literal["error", "zero"] = "error") -> NDArray[np.int32]:
        """(n,) numbers of raw ids.

        unknown: what becomes of ids that are not here, "error" or the number "zero".

        Raises UnknownIdError naming the first of the unknown ids; ConfigError for another ``unknown``.

        >>> Vocabulary.build(["b", "a"]).encode(["b", "x"], unknown="zero").tolist()
        [2, 0]
        """
        if unknown not in {"error", "zero"}:
            raise ConfigError(f"unknown={unknown!r} is not allowed; choose 'error' or 'zero'")
        values = pd.Series(ids)
        numbers = (self.index.get_indexer(pd.Index(values)) + 1).astype(np.int32)
        if unknown == "error" and (numbers == 0).any():
            raise UnknownIdError(self._unknown(values[numbers == 0].drop_duplicates().tolist()))
        return numbers

    def decode(self, numbers: ArrayLike) -> list[RawId]:
        """Raw ids of numbers 1..n, as Python ints or strings.

        Raises UnknownIdError for a number outside of 1..n, which padding is.
        """
        wanted = np.asarray(numbers, np.int64).reshape(-1)
        wrong = wanted[(wanted < 1) | (wanted > len(self))]
        if len(wrong):
            raise UnknownIdError(f"{wrong[0]} is no item or user number; they run from 1 to {len(self)}")
        decoded: list[Any] = self.index.take(wanted - 1).tolist()
        return decoded

    def title(self, number: int) -> str:
        """What to show for a number: its title, or the raw id where there are none."""
        raw = self.decode([number])[0]
        return str(raw) if self.titles is None else str(self.titles.iloc[number - 1])

    def parse(self, text: str) -> RawId:
        """The raw id that somebody typed: "196" finds the whole number 196.

        Raises UnknownIdError when there is no such id.

        >>> Vocabulary.build([196, 22]).parse("196")
        196
        """
        raw: RawId = text.strip()
        if self.is_numeric:
            try:
                raw = int(text)
            except ValueError:
                raise UnknownIdError(self._unknown([text])) from None
        if raw not in self:
            raise UnknownIdError(self._unknown([raw]))
        return raw

    def read(self, ids: Iterable[RawId]) -> list[RawId]:
        """Ids of the kind that there is here: text of a whole number becomes it, or a number its text.

        What is no such id stays as it is, for `encode` to miss.

        >>> Vocabulary.build([196, 22]).read(["196", "x"])
        [196, 'x']
        """
        if not self.is_numeric:
            return [str(raw) for raw in ids]
        return [int(raw) if isinstance(raw, str) and _is_int64(raw) else raw for raw in ids]

    def to_frame(self) -> pd.DataFrame:
        """Columns id and, where there are titles, title; row i has number i + 1."""
        frame = pd.DataFrame({"id": self.index})
        return frame if self.titles is None else frame.assign(title=self.titles)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Self:
        """Undo `to_frame`.

        >>> old = Vocabulary([7, 5], ["Seven", "Five"])
        >>> Vocabulary.from_frame(old.to_frame()) == old
        True
        """
        if "id" not in frame:
            raise DataError(f"a vocabulary has a column 'id'; there are {list(frame.columns)}")
        return cls(frame["id"], frame["title"].tolist() if "title" in frame else None)

    def _unknown(self, ids: list[Any]) -> str:
        named = ", ".join(map(repr, ids[:_NAMED])) + (f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else "")
        if not len(self):
            return f"unknown id {named}: the vocabulary is empty"
        if self.is_numeric:
            text = any(isinstance(raw, str) for raw in ids)
            low, high = self.index.to_numpy().min(), self.index.to_numpy().max()
            hint = f"the {len(self)} known ids are whole numbers from {low} to {high}"
            return f"unknown id {named}: {hint}" + (", not text" if text else "")
        known: list[Any] = self.index[:_SEARCHED].tolist()
        close: list[str] = difflib.get_close_matches(str(ids[0]), known, n=_NAMED)
        hint = "close to it are" if close else f"the {len(self)} known ids are text, such as"
        return f"unknown id {named}: {hint} {', '.join(map(repr, close or known[:_NAMED]))}"


def _is_int64(text: str) -> bool:
    return _WHOLE.fullmatch(text) is not None and -(2**63) <= int(text) < 2**63
