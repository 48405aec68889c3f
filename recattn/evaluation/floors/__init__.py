"""Floors: models that count instead of learning. A model that stays below them has learned nothing of use.

Each is fitted by its constructor, ``Floor(histories, **settings)``, on the events it is given and on nothing else, and
is then a :data:`recattn.evaluation.Scorer`. Settings are chosen on validation targets by :func:`tune`;
:func:`fit_floors` does it for all of them.
"""

from recattn.evaluation.floors.ease import EASE
from recattn.evaluation.floors.item_knn import ItemKNN
from recattn.evaluation.floors.popularity import Popularity
from recattn.evaluation.floors.transitions import TransitionCounts
from recattn.evaluation.floors.tuning import FLOORS, Floor, Trial, fit_floors, known_before, tune

__all__ = [
    "EASE",
    "FLOORS",
    "Floor",
    "ItemKNN",
    "Popularity",
    "TransitionCounts",
    "Trial",
    "fit_floors",
    "known_before",
    "tune",
]
