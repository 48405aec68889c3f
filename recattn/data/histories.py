"""Every user's events in three flat arrays: the form in which histories are kept, split and batched."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Histories:
    """Events of all users, user after user, oldest first.

    items: (events,) int32 item numbers, 1 to num_items; 0 is never used (it is padding).
    offsets: (users + 1,) int64; user u owns events ``offsets[u]:offsets[u + 1]``.
    num_items: the size of the catalogue without padding.
    times: (events,) int64 seconds, or None.
    ratings: (events,) float32, or None.
    profile: (users, fields) int32 codes of the users' profile fields, 0 for unknown, or None. A field of several values
        (languages) is as many fields here: the first value, the second, ...
    profile_sizes: how many codes each profile field has, the unknown one included.
    features: (num_items + 1, sum of feature_widths) int32 codes of the items' features, field by field, 0 for none and
        for padding, or None.
    feature_sizes, feature_widths: how many codes each feature has, 0 included, and how many values an item may have.

    >>> import numpy as np
    >>> h = Histories(np.array([3, 1, 2], np.int32), np.array([0, 2, 3]), num_items=3)
    >>> h.lengths.tolist(), h.owners.tolist(), h.of(0).tolist()
    ([2, 1], [0, 0, 1], [3, 1])
    """

    items: NDArray[np.int32]
    offsets: NDArray[np.int64]
    num_items: int
    times: NDArray[np.int64] | None = None
    ratings: NDArray[np.float32] | None = None
    profile: NDArray[np.int32] | None = None
    profile_sizes: tuple[int, ...] = ()
    features: NDArray[np.int32] | None = None
    feature_sizes: tuple[int, ...] = ()
    feature_widths: tuple[int, ...] = ()

    @property
    def num_users(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(users,) how many events each user has."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> NDArray[np.int64]:
        """(events,) the number of the user that each event is of."""
        return np.repeat(np.arange(self.num_users), self.lengths)

    def of(self, user: int) -> NDArray[np.int32]:
        """The items of one user, oldest first."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]
