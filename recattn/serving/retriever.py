"""What finds the candidates that a saved model ranks: another saved model, or a floor by its name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recattn.data import Split
from recattn.errors import ConfigError
from recattn.evaluation import FLOORS, Part, Scorer, fit_floors
from recattn.evaluation.floors import Floor, known_before
from recattn.models import describe
from recattn.nn.checks import check_count
from recattn.serving.artefact import Artefact, load_artefact

RETRIEVED = 200
"""How many candidates are retrieved unless another number is asked for."""


@dataclass(frozen=True)
class Retriever:
    """Scores the catalogue for a ranker to order the best of it.

    name: the floor's, or the model's class path. scorer: see :data:`recattn.evaluation.Scorer`.
    arguments: what it is, as plain data. artefact: the saved model; None for a floor.
    """

    name: str
    scorer: Scorer
    arguments: dict[str, Any]
    artefact: Artefact | None = None

    @property
    def time_aware(self) -> bool:
        """Whether it reads the time of the request."""
        return self.artefact is not None and self.artefact.model.time_aware

    def before_validation(self, split: Split) -> Scorer:
        """The scorer with which a weight may be chosen on validation targets: a floor that has not counted them."""
        if self.artefact is not None:
            return self.scorer
        factory: Callable[..., Floor] = type(self.scorer)  # type: ignore[assignment]  # what fit_floors made
        return factory(known_before(split, "validation"), **self.arguments)


def find_retriever(
    named: str | Path, ranker: Artefact, part: Part = "test", *, say: Callable[[str], None] | None = None
) -> Retriever:
    """A floor of ``recattn evaluate --baselines`` by its name, fitted as there for the part; or a folder's saved model.

    A folder that is called as a floor is meant by its path (``./ease``). say: told of a floor that is being fitted.
    Raises ConfigError where the model and the ranker do not agree on the data, the catalogue is too large for EASE, the
    data has no times for what is recent, or the ranker is a click table's;
    ArtefactError where the folder holds no saved model.
    """
    if ranker.table is not None:
        raise ConfigError("a model of a click table has its candidates from the table: it takes no retriever")
    if str(named) in FLOORS:
        name = str(named)
        report = None if say is None else lambda _: say(f"fitting {name}")
        floors = fit_floors(ranker.split, part, names=[name], progress=report)
        if name not in floors:
            timeless = name == "popularity-recent"
            why = "data has no times" if timeless else f"catalogue of {len(ranker.items)} items is too large for it"
            raise ConfigError(f"retriever is {name}, but the {why}")
        return Retriever(name, floors[name], floors[name].arguments)
    if not Path(named).is_dir():
        raise ConfigError(
            f"retriever is {str(named)!r}: neither a folder of a saved model nor one of {', '.join(FLOORS)}"
        )
    artefact = load_artefact(named)
    check_agreement(ranker, artefact)
    specification = describe(artefact.model)
    known = {"training": artefact.manifest["training"], "seed": artefact.manifest["seed"]}
    return Retriever(specification["class_path"], artefact.model.score_all, {**specification, **known}, artefact)


def check_agreement(ranker: Artefact, retriever: Artefact) -> None:
    """Raise ConfigError naming all in which the two models' data, vocabularies, splits and histories differ."""
    differences = []
    if _data(ranker) != _data(retriever):
        told = [f"{found.manifest['data']} {_data(found)[:12]}" for found in (ranker, retriever)]
        differences.append(f"data ({told[0]} and {told[1]})")
    if _split(ranker) != _split(retriever):
        differences.append(f"split ({_split(ranker)} and {_split(retriever)})")
    for name in ("items", "users"):
        one, other = getattr(ranker, name).index, getattr(retriever, name).index
        if not one.equals(other):
            sizes = f"{len(one)} and {len(other)}" if len(one) != len(other) else f"{len(one)} of each, not the same"
            differences.append(f"vocabulary of {name} ({sizes})")
    changed = [
        name
        for name in ("items", "offsets", "times", "ratings", "profile")
        if not _equal(getattr(ranker.histories, name), getattr(retriever.histories, name))
    ]
    if changed:
        differences.append(f"histories ({', '.join(changed)})")
    if differences:
        raise ConfigError(
            f"ranker and retriever must be trained on the same data and split, but differ in {'; '.join(differences)}"
        )


def check_stages(retriever: object, retrieve: int, blend: float) -> None:
    """Raise ConfigError for settings of a retriever where there is none, and for ``retrieve`` below 1."""
    check_count("retrieve", retrieve)
    if retriever is None and (retrieve != RETRIEVED or blend):
        raise ConfigError(f"retrieve={retrieve} and blend={blend} are a retriever's settings: name one with retriever")


def _data(artefact: Artefact) -> str:
    """The hash, where there is one: the same table may lie at two paths."""
    return str(artefact.manifest.get("data_hash", artefact.manifest["data"]))


def _split(artefact: Artefact) -> str:
    split = artefact.manifest["split"]
    return f"{split['name']} {split['hash'][:12]}"


def _equal(one: object, other: object) -> bool:
    return (one is None) == (other is None) and np.array_equal(one, other)  # type: ignore[arg-type]
