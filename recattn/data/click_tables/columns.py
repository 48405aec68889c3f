"""Which column of a click table holds what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from recattn.errors import DataError

_SUFFIX = "_history"


class Roles(NamedTuple):
    """Every column of one table by its role. features: the candidate's column -> the history's."""

    label: str
    user: str
    item: str
    history: str
    features: Mapping[str, str]
    context: Sequence[str]

    @property
    def columns(self) -> list[str]:
        """All that are read."""
        named = (self.label, self.user, self.item, self.history)
        return [*named, *self.features, *self.features.values(), *self.context]


@dataclass(frozen=True)
class ClickColumns:
    """What the columns of a click table are called.

    label, user, item, history: the click (0 or 1), the user, the candidate and the items of the history.
    features: of items, the candidate's column -> the history's; None: each ``X_history`` belongs to ``X_id``, or to
        ``X``.
    context: columns that are known of a row alone; None: all that have no other role.
    ignored: columns that are not read. A feature that is not the same wherever an item stands is named as context, and
        its history's column ignored.
    separator: between the members of a list in text.

    >>> roles = ClickColumns().roles("x.csv", "label,user_id,item_id,cate_id,item_history,cate_history,hour".split(","))
    >>> roles.features, roles.context
    ({'cate_id': 'cate_history'}, ['hour'])
    """

    label: str = "label"
    user: str = "user_id"
    item: str = "item_id"
    history: str = "item_history"
    features: Mapping[str, str] | None = None
    context: Sequence[str] | None = None
    ignored: Sequence[str] = ()
    separator: str = "^"

    def check_ignored(self, place: str, names: Sequence[str]) -> None:
        """Raise DataError naming ``place`` for an ignored column that is not there."""
        for number, name in enumerate(self.ignored):
            if name not in names:
                shown = ", ".join(map(repr, names))
                raise DataError(
                    f"{place}: there is no column {name!r}, which ignored[{number}] names; the columns are {shown}"
                )

    def roles(self, place: str, names: Sequence[str]) -> Roles:
        """The roles of the columns ``names``.

        Raises DataError naming ``place`` for a column that is not there, is there twice or would have two roles, and
        for an ``X_history`` that belongs to no column.
        """
        shown = ", ".join(map(repr, names))
        main = {"label": self.label, "user": self.user, "item": self.item, "history": self.history}
        given = {f"features[{theirs!r}]": of_history for theirs, of_history in (self.features or {}).items()}
        given |= {f"features of {of_history!r}": theirs for theirs, of_history in (self.features or {}).items()}
        given |= {f"context[{number}]": name for number, name in enumerate(self.context or ())}
        for argument, name in (main | given).items():
            if list(names).count(name) != 1:
                problem = "there is no column" if name not in names else "more than one column is called"
                raise DataError(f"{place}: {problem} {name!r}, which {argument} names; the columns are {shown}")
        taken = [*main.values(), *given.values()]
        twice = next((name for name in taken if taken.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{place}: the column {twice!r} is named for two roles")
        rest = [name for name in names if name not in taken and name not in self.ignored]
        features = dict(self.features or {})
        if self.features is None:
            features = {_owner(place, name, rest): name for name in rest if name.endswith(_SUFFIX)}
        left = [name for name in rest if name not in features and name not in features.values()]
        context = left if self.context is None else list(self.context)
        return Roles(self.label, self.user, self.item, self.history, features, context)


def _owner(place: str, of_history: str, names: Sequence[str]) -> str:
    stem = of_history.removesuffix(_SUFFIX)
    for owner in (f"{stem}_id", stem):
        if owner in names:
            return owner
    raise DataError(
        f"{place}: {of_history!r} belongs to no column: there is neither {stem + '_id'!r} nor {stem!r} without another "
        f"role. Name the feature's column with features={{...: {of_history!r}}}, or leave it out with ignored="
    )
