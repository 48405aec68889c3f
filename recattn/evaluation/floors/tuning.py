"""Settings of the floors, chosen on validation targets and on nothing else."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from recattn.batch import History
from recattn.data.histories import Histories
from recattn.data.splits import Split
from recattn.errors import ConfigError
from recattn.evaluation.floors.ease import EASE, EASE_MAX_ITEMS
from recattn.evaluation.floors.item_knn import ItemKNN
from recattn.evaluation.floors.popularity import Popularity
from recattn.evaluation.floors.transitions import TransitionCounts
from recattn.evaluation.metrics import ndcg
from recattn.evaluation.protocol import Part, rank_targets

POPULAR_DAYS = (1.0, 7.0, 30.0, 90.0, 365.0)
NEIGHBOURS: tuple[int | None, ...] = (20, 50, 100, 200, None)
REGULARISATIONS = (100.0, 300.0, 1000.0)
EASE_DECAYS = (0.95, 0.9, 0.8, 0.7)
TRANSITION_DECAYS = (0.5, 0.6, 0.7, 0.8, 0.9)
FLOORS = ("popularity", "popularity-recent", "item-knn", "ease", "ease-recency", "transitions")


class Floor(Protocol):
    """A fitted scorer that says what its settings are."""

    arguments: dict[str, Any]

    def __call__(self, history: History, request_time: Tensor | None = None, /) -> Tensor: ...


@runtime_checkable
class FadingFloor(Floor, Protocol):
    """A floor whose decay can be changed without fitting it again."""

    def with_decay(self, decay: float) -> "FadingFloor": ...


@dataclass(frozen=True)
class Trial:
    """Settings, and the validation NDCG@10 of the floor that was fitted with them."""

    settings: dict[str, Any]
    ndcg: float


def tune(
    factory: Callable[..., Floor],
    grid: Mapping[str, Sequence[object]],
    split: Split,
    *,
    decays: Sequence[float] = (),
    filter_seen: bool = True,
) -> list[Trial]:
    """Fit ``factory(split.train, **settings)`` for each point of the grid and rank the validation targets.

    grid: the values to try for each keyword; an empty grid is one trial.
    decays: read each fit with each of these, for floors that have ``with_decay``; empty leaves the floor's own.
    Returns the trials by NDCG@10, best first, ties in the grid's order: ``tune(...)[0].settings`` is the choice.
    Raises ConfigError for decays with a floor that has none, or a split without validation targets.

    >>> import numpy as np
    >>> from recattn.data.splits import leave_one_out
    >>> h = Histories(np.tile(np.arange(1, 8, dtype=np.int32), 3), np.array([0, 7, 14, 21]), num_items=7)
    >>> tune(TransitionCounts, {"horizon": (1, 5)}, leave_one_out(h))[0].settings["horizon"]
    1
    """
    train = split.train
    trials = []
    for values in itertools.product(*grid.values()):
        floor = factory(train, **dict(zip(grid, values, strict=True)))
        readings: Sequence[Floor] = [floor]
        if decays:
            if not isinstance(floor, FadingFloor):
                raise ConfigError(f"decays is {tuple(decays)}, but {type(floor).__name__} has no decay")
            readings = [floor.with_decay(decay) for decay in decays]
        for reading in readings:
            ranks = rank_targets(reading, split, "validation", filter_seen=filter_seen)
            trials.append(Trial(reading.arguments, float(ndcg(ranks, 10).mean())))
    return sorted(trials, key=lambda trial: -trial.ndcg)


def known_before(split: Split, part: Part) -> Histories:
    """The events on which a model may be fitted that is to rank the part's targets.

    For validation the training events, for test those of `Split.before_test`.

    >>> import numpy as np
    >>> from recattn.data.splits import leave_one_out
    >>> h = Histories(np.array([1, 2, 3, 4], np.int32), np.array([0, 4]), num_items=4)
    >>> split = leave_one_out(h)
    >>> known_before(split, "validation").items.tolist(), known_before(split, "test").items.tolist()
    ([1, 2], [1, 2, 3])
    """
    return split.train if part == "validation" else split.before_test.train


def fit_floors(
    split: Split,
    part: Part = "test",
    *,
    names: Sequence[str] = FLOORS,
    filter_seen: bool = True,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Floor]:
    """The floors for this split, tuned on validation NDCG@10 and fitted on what is known before the part.

    Settings are chosen with floors fitted on ``split.train``, over the grids at the top of this file. For the test
    part the chosen ones are then fitted once more on :func:`known_before`: training and validation events. The names:
    ``popularity``; ``popularity-recent`` (that of the last days, where the data has times); ``item-knn``; ``ease``;
    ``ease-recency`` (EASE with a decay); ``transitions``. A catalogue above EASE_MAX_ITEMS has no EASE, and its
    item-kNN is not tried with all neighbours.

    names: which of them to fit, all by default.
    progress: called with each floor's name before it is tuned.
    Returns name -> scorer; ``scorer.arguments`` are the settings chosen. Deterministic: nothing is drawn.
    Raises ConfigError for an unknown name.
    """
    unknown = [name for name in names if name not in FLOORS]
    if unknown:
        raise ConfigError(f"names holds {unknown[0]!r}: the floors are {', '.join(FLOORS)}")
    report = progress or (lambda _: None)
    fit_on = known_before(split, part)
    small = split.histories.num_items <= EASE_MAX_ITEMS
    floors: dict[str, Floor] = {}
    if "popularity" in names:
        report("popularity")
        floors["popularity"] = Popularity(fit_on)
    if "popularity-recent" in names and split.histories.times is not None:
        report("popularity-recent")
        best = tune(Popularity, {"days": POPULAR_DAYS}, split, filter_seen=filter_seen)[0].settings
        floors["popularity-recent"] = Popularity(fit_on, **best)
    if "item-knn" in names:
        report("item-knn")
        neighbours = [count for count in NEIGHBOURS if count is not None or small]
        best = tune(ItemKNN, {"neighbours": neighbours}, split, filter_seen=filter_seen)[0].settings
        floors["item-knn"] = ItemKNN(fit_on, neighbours=best["neighbours"])
    if small and {"ease", "ease-recency"} & set(names):
        report("ease")
        grid = {"regularisation": REGULARISATIONS}
        trials = tune(EASE, grid, split, decays=(1.0, *EASE_DECAYS), filter_seen=filter_seen)
        for name, fades in (("ease", False), ("ease-recency", True)):
            if name in names:
                best = next(trial.settings for trial in trials if (trial.settings["decay"] != 1.0) == fades)
                floors[name] = EASE(fit_on, **best)
    if "transitions" in names:
        report("transitions")
        best = tune(TransitionCounts, {}, split, decays=TRANSITION_DECAYS, filter_seen=filter_seen)[0].settings
        floors["transitions"] = TransitionCounts(fit_on, **best)
    return floors
