"""From the table of interactions to histories: the one place where events are put into order."""

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recattn.data.histories import Histories
from recattn.data.interactions import Interactions
from recattn.data.ragged import offsets_of
from recattn.data.vocabulary import Vocabulary
from recattn.errors import ConfigError

Ties: TypeAlias = Literal["file", "random"]


class Encoded(NamedTuple):
    """Histories in numbers, and what is needed to go back to raw ids.

    histories: user u is the vocabulary's number u + 1 (users have no padding, items have).
    users, items: the vocabularies.
    """

    histories: Histories
    users: Vocabulary
    items: Vocabulary


def encode(interactions: Interactions, *, ties: Ties = "file", seed: int = 0) -> Encoded:
    """Sort events by (user, time, file row) and number users and items.

    What is known about users and items comes in by `recattn.data.with_features`, once a split says what may be learnt.

    ties: what comes first among events of one user in the same second: "file" keeps the order of the file, "random"
        draws one with ``seed``. Neither depends on item ids, which leak popularity. Without times the order of the
        file is the order, and ``ties`` has no effect.

    Raises ConfigError for another ``ties``.

    >>> import pandas as pd
    >>> events = pd.DataFrame({"user": ["a", "a", "b"], "item": [7, 5, 7], "time": [20, 10, 30]})
    >>> encoded = encode(Interactions.from_frame(events, time_column="time"))
    >>> encoded.histories.of(0).tolist(), encoded.items.decode(encoded.histories.of(0))
    ([1, 2], [5, 7])
    """
    if ties not in {"file", "random"}:
        raise ConfigError(f"ties={ties!r} is not allowed; choose 'file' or 'random'")
    frame = interactions.frame
    users = Vocabulary.build(frame["user"])
    items = Vocabulary(interactions.items["item"], interactions.items["title"].tolist())
    user = users.encode(frame["user"])
    times = frame["time"].to_numpy() if "time" in frame else None
    order = _order(user, times, np.random.default_rng(seed) if ties == "random" else None)
    histories = Histories(
        items=items.encode(frame["item"])[order],
        offsets=offsets_of(np.bincount(user, minlength=len(users) + 1)[1:]),
        num_items=len(items),
        times=None if times is None else times[order],
        ratings=frame["rating"].to_numpy()[order] if "rating" in frame else None,
    )
    return Encoded(histories, users, items)


def _order(
    user: NDArray[np.int32], times: NDArray[np.int64] | None, shuffle: np.random.Generator | None
) -> NDArray[np.int64]:
    """Rows by user, then time; rows that tie stay as they were or, given ``shuffle``, fall in any order."""
    if times is None:
        return np.argsort(user, kind="stable")
    rows = np.arange(len(user)) if shuffle is None else shuffle.permutation(len(user))
    span = int(times.max()) - int(times.min()) + 1
    if (int(user.max()) + 1) * span > np.iinfo(np.int64).max:
        return rows[np.lexsort((times[rows], user[rows]))]
    # One whole number for (user, time): a third of lexsort's time where, as in most files, users come in blocks.
    key = user.astype(np.int64) * span + (times - times.min())
    return rows[np.argsort(key[rows], kind="stable")]
