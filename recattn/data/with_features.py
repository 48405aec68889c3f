"""What is known about users and items, coded and put beside the histories."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recattn.data.features import FeatureEncoder
from recattn.data.histories import Histories
from recattn.data.interactions import Interactions
from recattn.data.split import Split


class Encoders(NamedTuple):
    """How raw features were coded.

    users, items: None where nothing is known about them. actions: the names of the actions 1, 2, ... that stand in
    place of ratings; empty where the events have none.
    """

    users: FeatureEncoder | None = None
    items: FeatureEncoder | None = None
    actions: tuple[str, ...] = ()


def with_features(split: Split, interactions: Interactions) -> tuple[Split, Encoders]:
    """The split with its histories' ``profile`` and ``features``, and the encoders that coded them.

    The encoders are fitted on the users and items of the training part alone; what only others have is unknown (0).

    split: of the histories that `encode` made of the interactions.

    >>> import pandas as pd
    >>> from recattn.data import encode, leave_one_out
    >>> events = pd.DataFrame({"user": ["a"] * 4, "item": [7, 5, 9, 8]})
    >>> genres = pd.DataFrame({"item": [5, 7, 8], "genres": ["War|Drama", "Drama", "Comedy"]})
    >>> interactions = Interactions.from_frame(events, items=genres)
    >>> split, encoders = with_features(leave_one_out(encode(interactions).histories), interactions)
    >>> encoders.items.fields[0].categories, split.histories.features.tolist()
    (('Drama', 'War'), [[0, 0], [2, 1], [1, 0], [0, 0], [0, 0]])
    """
    histories = split.histories
    users = items = None
    if interactions.users is not None:
        users = FeatureEncoder.fit(interactions.users[split.train_lengths > 0], without=["user"])
        histories = replace(histories, profile=users.transform(interactions.users), profile_sizes=users.column_sizes)
    met = np.unique(split.train.items) - 1
    items = FeatureEncoder.fit(interactions.items.iloc[met], without=["item", "title"])
    if not items.fields:
        return replace(split, histories=histories), Encoders(users, actions=interactions.actions)
    histories = with_codes(histories, items.transform(interactions.items), items)
    return replace(split, histories=histories), Encoders(users, items, interactions.actions)


def with_codes(histories: Histories, codes: NDArray[np.int32], encoder: FeatureEncoder) -> Histories:
    """The histories with the items' codes, (num_items, sum of the widths) as the encoder made them."""
    padded: NDArray[np.int32] = np.concatenate([np.zeros((1, codes.shape[1]), np.int32), codes])
    return replace(histories, features=padded, feature_sizes=encoder.sizes, feature_widths=encoder.widths)
