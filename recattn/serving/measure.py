"""Saved models -> results: which numbers a model reached, and everything needed to make them again."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recattn.errors import ConfigError
from recattn.evaluation import (
    Result,
    commit,
    describe_targets,
    evaluate,
    hardware,
    rank_targets,
    summarise,
    versions,
)
from recattn.evaluation.floors.tuning import Floor
from recattn.evaluation.protocol import Part
from recattn.models import describe
from recattn.serving.artefact import Artefact


def evaluate_runs(artefacts: Sequence[Artefact], part: Part = "test", *, command: str) -> Result:
    """Measure trainings of one model that differ in their seed alone; the metrics are means over them.

    Intervals are over users, each user with the ranks of all seeds.
    Raises ConfigError when the models, their data or their splits differ, or a seed comes twice.
    """
    first = artefacts[0]
    checked_seeds(artefacts)  # before the work
    check_not_trained_on(artefacts, part)
    told = first.model.time_aware
    run = evaluate(first.model.score_all, first.split, part, time_aware=told)
    others = [rank_targets(other.model.score_all, other.split, part, time_aware=told) for other in artefacts[1:]]
    metrics = run.metrics
    if others:
        ranks = np.concatenate([run.ranks, *others])
        metrics = summarise(ranks, np.tile(run.users, len(artefacts)), (5, 10, 20, 50))
    asked = describe_targets(first.split, part)
    return result_of_runs(artefacts, run.candidates, metrics, command=command, targets=asked)


def check_not_trained_on(artefacts: Sequence[Artefact], part: Part) -> None:
    """Raise ConfigError for the validation part of a model that was trained once more with it (``refit``)."""
    if part == "validation" and any(artefact.manifest["training"].get("refit") for artefact in artefacts):
        raise ConfigError("the model was trained on the validation part too (--refit): measure it on the test part")


def result_of_runs(
    artefacts: Sequence[Artefact],
    candidates: str,
    metrics: dict[str, dict[str, float]],
    *,
    command: str,
    **more: object,
) -> Result:
    """The result of trainings that differ in their seed alone, and what they took. more: further fields."""
    first, manifests = artefacts[0], [artefact.manifest for artefact in artefacts]
    specification = describe(first.model)
    return make_result(
        first,
        candidates=candidates,
        time_aware=first.model.time_aware,
        model=named(first),
        arguments={**specification["init_args"], "training": first.manifest["training"]},
        seeds=checked_seeds(artefacts),
        metrics=metrics,
        train_seconds=float(np.mean([manifest["train_seconds"] for manifest in manifests])),
        peak_rss_mb=most_memory(manifests),
        command=f"{first.manifest['command']} && {command}",
        **(trained_on(first) | more),
    )


def trained_on(artefact: Artefact) -> dict[str, Any]:
    """The machine and the versions of the training, which its time and memory speak of, as far as they are known."""
    return {name: artefact.manifest[name] for name in ("hardware", "versions") if name in artefact.manifest}


def named(artefact: Artefact) -> str:
    """What the model was asked for as: a preset's name rather than that of the class it makes."""
    return str(artefact.manifest.get("model") or describe(artefact.model)["class_path"])


def checked_seeds(artefacts: Sequence[Artefact]) -> list[int]:
    """The seeds of trainings that differ in nothing else. Raises ConfigError where they do, or a seed comes twice."""
    first = artefacts[0]
    for other in artefacts[1:]:
        alike = all(
            other.manifest.get(name) == first.manifest.get(name)
            for name in ("split", "data_hash", "training", "clicks")
        )
        alike = alike and np.array_equal(features_of(other), features_of(first))
        if not alike or describe(other.model) != describe(first.model):
            raise ConfigError(
                "several runs are averaged only when model, data, split and training are the same and seeds differ"
            )
    seeds = [int(artefact.manifest["seed"]) for artefact in artefacts]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"each run needs a seed of its own, got {seeds}")
    return seeds


def most_memory(manifests: Sequence[Mapping[str, Any]]) -> float | None:
    """MB of the training that took the most, of those of which it is known."""
    return max((found for manifest in manifests if (found := manifest["peak_rss_mb"]) is not None), default=None)


def features_of(artefact: Artefact) -> NDArray[np.int32]:
    """What the items are like, which no hash of a split knows; without features empty."""
    features = artefact.histories.features
    return np.zeros(0, np.int32) if features is None else features


def evaluate_floor(name: str, floor: Floor, artefact: Artefact, part: Part = "test", *, command: str) -> Result:
    """Measure a floor on the targets that the artefact's model is measured on."""
    run = evaluate(floor, artefact.split, part)
    asked = describe_targets(artefact.split, part)
    return result_of_floor(name, floor.arguments, artefact, run.candidates, run.metrics, command=command, targets=asked)


def result_of_floor(
    name: str,
    arguments: Mapping[str, Any],
    artefact: Artefact,
    candidates: str,
    metrics: dict[str, dict[str, float]],
    *,
    command: str,
    targets: object,
) -> Result:
    """The result of a floor, which has no seed and whose training nobody waited for."""
    return make_result(
        artefact,
        candidates=candidates,
        time_aware=False,
        model=name,
        arguments=arguments,
        seeds=[],
        metrics=metrics,
        train_seconds=None,
        peak_rss_mb=None,
        command=command,
        targets=targets,
    )


def make_result(artefact: Artefact, **fields: object) -> Result:
    """The result of a run on an artefact's split; ``fields`` are those that the artefact does not know, or others."""
    histories, manifest = artefact.histories, artefact.manifest
    known = {
        "data": manifest["data"],
        "users": histories.num_users,
        "items": len(artefact.items),
        "interactions": len(histories.items),
        "split": manifest["split"]["name"],
        "split_hash": manifest["split"]["hash"],
        "ties": manifest["ties"],
        "hardware": hardware(),
        "versions": versions(),
        "commit": commit(),
    }
    return Result(**(known | fields))
