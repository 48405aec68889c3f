"""What the training file of a click table teaches: ids, categories, and numbers for items that it does not have."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recattn.data.click_tables.columns import ClickColumns
from recattn.data.features import FeatureEncoder, Field
from recattn.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class ClickVocabulary:
    """What was learnt from the training file, and from nothing else.

    columns: what its columns were called.
    users, items: raw ids. Items are numbered 1 to ``len(items)``. The numbers after these stand for items that the
        training file does not have (0 is padding, in a history too): the first for those of which nothing is known, the
        others for each combination of features that some item has. What such an item is like can so be known although
        it has never been met; a combination that no item has counts as nothing.
    features: the categories of each feature of items.
    codes: (num_items + 1, features) int32 codes of each number's features, 0 for unknown and for padding; see
        `and_unmet`.
    context: how what is known of a row alone was coded; context_columns: its columns, those too that hold nothing to
        code (text that differs in every row).
    """

    columns: ClickColumns
    users: Vocabulary
    items: Vocabulary
    features: tuple[Field, ...]
    codes: NDArray[np.int32]
    context: FeatureEncoder
    context_columns: tuple[str, ...]

    @property
    def num_items(self) -> int:
        """The size of a model's catalogue, numbers of unmet items included."""
        return len(self.codes) - 1

    @property
    def met(self) -> NDArray[np.bool_]:
        """(num_items + 1,) which numbers are items of the training file, as `ItemEmbedding.set_features` asks."""
        return np.arange(self.num_items + 1) <= len(self.items)

    def unmet(self, codes: NDArray[np.int32]) -> NDArray[np.int32]:
        """(n,) numbers of items that the training file does not have, of their features' (n, features) codes."""
        known = self.codes[len(self.items) + 1 :]
        _, place = np.unique(np.concatenate([known, np.maximum(codes, 0)]), axis=0, return_inverse=True)
        number = np.zeros(place.max() + 1, np.int32)  # what is not found is the first: nothing is known
        number[place[: len(known)]] = np.arange(len(known))
        return np.asarray(number[place[len(known) :]] + len(self.items) + 1, np.int32)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold: all but users, items and what is known of these."""
        context = {"encoder": self.context.to_dict(), "columns": list(self.context_columns)}
        return {"columns": asdict(self.columns), "context": context}

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, Any],
        users: Vocabulary,
        items: Vocabulary,
        features: tuple[Field, ...],
        codes: NDArray[np.int32],
    ) -> Self:
        """Undo `to_dict`. codes: (items + 1, features), without those of unmet items."""
        context = data["context"]
        encoder = FeatureEncoder.from_dict(context["encoder"])
        columns = ClickColumns(**data["columns"])
        return cls(columns, users, items, features, and_unmet(codes), encoder, tuple(context["columns"]))


def and_unmet(codes: NDArray[np.int32]) -> NDArray[np.int32]:
    """The codes of padding and items, (items + 1, features), and after them each combination once, nothing first.

    >>> and_unmet(np.array([[0], [5], [2], [5]], np.int32)).T.tolist()
    [[0, 5, 2, 5, 0, 2, 5]]
    """
    return np.concatenate([codes, np.unique(codes, axis=0)])


def as_ids(texts: "pd.Series[str]") -> "pd.Series[Any]":
    """Whole numbers where all texts are written as such, else the texts.

    >>> as_ids(pd.Series(["12", "-3"])).tolist(), as_ids(pd.Series(["12", "007"])).tolist()
    ([12, -3], ['12', '007'])
    """
    return texts.astype("int64") if texts.str.fullmatch(r"0|-?[1-9][0-9]{0,17}").all() else texts
