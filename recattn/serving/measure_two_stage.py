"""A saved model behind a retriever -> results of the two stages and of the retriever alone."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from recattn.errors import ConfigError
from recattn.evaluation import Part, Result, choose_blend, describe_targets, rank_two_stages, summarise_stages
from recattn.evaluation.protocol import SEEN_OUT
from recattn.evaluation.stage_ranks import GAIN
from recattn.models import describe
from recattn.nn.checks import check_count
from recattn.serving.artefact import Artefact
from recattn.serving.measure import (
    check_not_trained_on,
    checked_seeds,
    make_result,
    most_memory,
    named,
    result_of_floor,
    result_of_runs,
    trained_on,
)
from recattn.serving.retriever import Retriever, check_agreement


def evaluate_two_stage(
    artefacts: Sequence[Artefact],
    retriever: Retriever,
    part: Part = "test",
    *,
    retrieve: int = 200,
    blend: bool = False,
    command: str,
    say: Callable[[str], None] | None = None,
) -> tuple[Result, Result]:
    """Measure a model that ranks what a retriever found, and the retriever alone on the same targets.

    artefacts: trainings of the ranker that differ in their seed alone; the metrics are means over them.
    retrieve: how many candidates the ranker gets, at least 1.
    blend: add the retriever's scores to the ranker's, with a weight chosen on the validation part (see
        :func:`recattn.evaluation.choose_blend`), one for all seeds.
    Returns the results of both stages together and of the retriever. ``arguments`` of the first hold ``retriever``,
    ``retrieve`` and ``blend`` (the weight, and the validation NDCG@10 of all that were tried); its metrics hold
    "recall@N", the candidates' recall, and "ndcg@10 gain", the difference to the retriever; its seconds of training
    are those of both. It is time-aware where either stage is.
    Raises ConfigError where the models' data or splits differ, for blend on the validation part, and for the validation
    part of models that were trained on it.
    """
    check_count("retrieve", retrieve)
    if blend and part == "validation":
        raise ConfigError("blend chooses a weight on the validation part: measure it on the test part")
    first, seeds = artefacts[0], checked_seeds(artefacts)
    stages = [*artefacts, *([] if retriever.artefact is None else [retriever.artefact])]
    check_not_trained_on(stages, "validation" if blend else part)
    if retriever.artefact is not None:
        for artefact in artefacts:
            check_agreement(artefact, retriever.artefact)
    told = first.model.time_aware or retriever.time_aware
    rankers = [artefact.model.score_candidates for artefact in artefacts]
    settings: dict[str, Any] = {"weight": 0.0}
    if blend:
        if say is not None:
            say("choosing the retriever's weight on the validation part")
        scorer = retriever.before_validation(first.split)
        weight, trials = choose_blend(scorer, rankers, first.split, count=retrieve, time_aware=told)
        tried = {str(tried): reached for tried, reached in trials.items()}
        settings = {"weight": weight, "chosen_on": "validation", "ndcg@10": tried}
    ranks = rank_two_stages(
        retriever.scorer, rankers, first.split, part, count=retrieve, weights=[settings["weight"]], time_aware=told
    )
    together, alone = summarise_stages(ranks, retrieve)
    targets = describe_targets(first.split, part)
    specification = describe(first.model)
    before = [] if retriever.artefact is None else [retriever.artefact.manifest]
    manifests = [artefact.manifest for artefact in artefacts]
    seconds = np.mean([manifest["train_seconds"] for manifest in manifests])
    pipeline = make_result(
        first,
        candidates=SEEN_OUT,
        time_aware=told,
        model=f"{named(first)} after {retriever.name.rpartition('.')[2]}",
        arguments={
            **specification["init_args"],
            "training": first.manifest["training"],
            "retriever": {"name": retriever.name, **retriever.arguments},
            "retrieve": retrieve,
            "blend": settings,
        },
        seeds=seeds,
        metrics=together,
        train_seconds=float(seconds + sum(manifest["train_seconds"] for manifest in before)),
        peak_rss_mb=most_memory([*manifests, *before]),
        command=" && ".join([*(manifest["command"] for manifest in [manifests[0], *before]), command]),
        targets=targets,
        **trained_on(first),
    )
    if retriever.artefact is None:
        name, arguments = retriever.name, retriever.arguments
        floor = result_of_floor(name, arguments, first, SEEN_OUT, alone, command=command, targets=targets)
        return pipeline, floor
    trained = result_of_runs([retriever.artefact], SEEN_OUT, alone, command=command, targets=targets)
    return pipeline, replace(trained, model=retriever.name)


def stage_lines(result: Result) -> list[str]:
    """What a table of the two stages leaves out: candidates, gain and weight, as lines to print."""
    count, blend = result.arguments["retrieve"], result.arguments["blend"]
    recall, gain = result.metrics[f"recall@{count}"], result.metrics[GAIN]
    verdict = "" if gain["low"] > 0 or gain["high"] < 0 else "not "
    how = "the ranker's scores alone"
    if "chosen_on" in blend:
        how = f"ranker + {blend['weight']:g} x retriever, the weight chosen on the {blend['chosen_on']} part"
    return [
        f"candidates: the {count} best of the retriever; recall@{count} "
        f"{recall['mean']:.4f} ({recall['low']:.3f}-{recall['high']:.3f})",
        f"NDCG@10 above the retriever's: {gain['mean']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f}), "
        f"{verdict}significant at 95 %",
        f"ordered by {how}",
    ]
