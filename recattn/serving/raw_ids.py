"""Raw ids as somebody hands them over, in the kind that a saved model has."""

from collections.abc import Iterable, Mapping
from numbers import Real

from recattn.data import Vocabulary
from recattn.data.vocabulary import RawId
from recattn.errors import ConfigError


def read_ids(
    vocabulary: Vocabulary, name: str, ids: Iterable[RawId], *, form: str = "a sequence of ids"
) -> list[RawId]:
    """The ids as `Vocabulary.read` reads those of a table: "196" finds the whole number 196.

    name, form: what the argument is called in messages, and what it has to be.
    Raises ConfigError for another form, and for a member that is neither a number nor text.

    >>> read_ids(Vocabulary.build([196, 22]), "history", [22, "196"])
    [22, 196]
    """
    if isinstance(ids, str | Mapping) or not isinstance(ids, Iterable):
        raise ConfigError(f"{name} must be {form}, got {ids!r}")
    members = list(ids)
    for member in members:
        if isinstance(member, bool) or not isinstance(member, str | Real):
            raise ConfigError(f"{name}: an id is a whole number or text, got {member!r}")
    return vocabulary.read(members)
