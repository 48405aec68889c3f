"""A retriever and rankers behind it -> the ranks of a split's targets after each stage."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recattn.data.batches import target_batches
from recattn.data.split import Split, Targets
from recattn.evaluation.bootstrap import paired_bootstrap
from recattn.evaluation.metrics import ndcg
from recattn.evaluation.protocol import Part, Scorer, part_targets, score_batch
from recattn.evaluation.ranks import target_ranks
from recattn.evaluation.summary import summarise
from recattn.evaluation.two_stage import CandidateScorer, blended, retrieve

BATCH = 256
GRID = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Weights of the retriever that `choose_blend` tries, in units of the ranker's spread over the retriever's."""

GAIN = "ndcg@10 gain"
"""The metric that says how far the two stages' NDCG@10 lies above the retriever's own."""


@dataclass(frozen=True)
class StageRanks:
    """Ranks of the targets after each stage.

    retriever: (targets,) in the retriever's own order of the full catalogue.
    final: (rankers, weights, targets) after the ranking.
    users: (targets,) whose they are.
    """

    retriever: NDArray[np.int64]
    final: NDArray[np.int64]
    users: NDArray[np.int64]


class Blend(NamedTuple):
    """The weight chosen, and the validation NDCG@10 of each that was tried."""

    weight: float
    trials: dict[float, float]


class _Stage(NamedTuple):
    """A batch between the stages: rows of the targets; candidates, and what both stages say of them."""

    rows: NDArray[np.int64]
    own: Tensor  # (batch, candidates) bool: which candidate is the target
    retriever_ranks: Tensor  # (batch,)
    last: Tensor  # (batch,) the rank behind the whole catalogue
    candidates: Tensor
    found: Tensor  # (batch, candidates) the retriever's scores
    logits: list[Tensor]  # of each ranker, (batch, candidates)


def rank_two_stages(
    retriever: Scorer,
    rankers: Sequence[CandidateScorer],
    split: Split,
    part: Part = "test",
    *,
    count: int = 200,
    weights: Sequence[float] = (0.0,),
    batch_size: int = BATCH,
    time_aware: bool = False,
) -> StageRanks:
    """The rank of each target after a retriever and after each ranker that orders the retriever's ``count`` best.

    Histories, candidates and ties are those of :func:`recattn.evaluation.rank_targets`: seen items are not retrieved,
    but the target stays in the running. Ties count against it in both stages: it is retrieved where its rank in the
    retriever's order is at most ``count``, and a target that is not retrieved comes last of the whole catalogue. With
    ``count`` at least the catalogue the final ranks are those of the ranker alone.

    rankers: such as trainings of one model with several seeds; each candidate list is made once for all of them.
    weights: of the retriever's scores in the final order, see :func:`recattn.evaluation.two_stage.blended`.
    time_aware: tell both stages the time of each target.
    Raises ConfigError as `rank_targets` does.
    """
    targets = part_targets(split, part)
    first = np.empty(len(targets.users), np.int64)
    final = np.empty((len(rankers), len(weights), len(first)), np.int64)
    for stage in _stages(retriever, rankers, split, targets, count, batch_size, time_aware):
        first[stage.rows] = stage.retriever_ranks.numpy()
        for ranker, logits in enumerate(stage.logits):
            for place, weight in enumerate(weights):
                ranks = _final_ranks(stage, blended(logits, stage.found, weight), count)
                final[ranker, place, stage.rows] = ranks.numpy()
    return StageRanks(first, final, targets.users)


def choose_blend(
    retriever: Scorer,
    rankers: Sequence[CandidateScorer],
    split: Split,
    *,
    count: int = 200,
    time_aware: bool = False,
) -> Blend:
    """The weight of the retriever's scores with the best NDCG@10 on the validation targets, of equal ones the least.

    Tried are the weights of `GRID`, 0 among them, times the ranker's spread over the retriever's (the mean standard
    deviation over a target's candidates, from at most 256 validation targets), rounded to two digits. The retriever
    must not have been fitted on the validation targets.
    """
    targets = split.validation
    step = max(1, -(-len(targets.users) // BATCH))
    sample = Targets(targets.users[::step], targets.positions[::step])
    of_retriever = of_rankers = 0.0
    for stage in _stages(retriever, rankers, split, sample, count, BATCH, time_aware):
        of_retriever += _spread(stage.found, stage.candidates)
        of_rankers += sum(_spread(logits, stage.candidates) for logits in stage.logits) / len(rankers)
    unit = of_rankers / of_retriever if of_retriever > 0 else 0.0
    weights = sorted({float(f"{share * unit:.2g}") for share in GRID})
    ranks = rank_two_stages(
        retriever, rankers, split, "validation", count=count, weights=weights, time_aware=time_aware
    )
    reached = ndcg(ranks.final, 10).mean((0, 2))
    return Blend(weights[int(reached.argmax())], dict(zip(weights, reached.tolist(), strict=True)))


def summarise_stages(
    ranks: StageRanks, count: int, ks: Sequence[int] = (5, 10, 20, 50)
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Metrics of the two stages together and of the retriever alone, of ranks at a single weight.

    Each holds recall@count, the share of the targets that are among the candidates: what comes after the retriever
    can't change it, and no HR@k of it is higher. The two stages' hold `GAIN` as well, the difference to the retriever
    on the same targets with its interval over users (:func:`recattn.evaluation.paired_bootstrap`): significant where
    that leaves out 0. A target that was not retrieved is no hit at any k, however small the catalogue. Several rankers
    are averaged, each user with the ranks of all.
    """
    cuts = sorted({*ks, count})
    alone = summarise(ranks.retriever, ranks.users, cuts)
    missed = ranks.retriever > count  # where the catalogue is small its last rank would be a hit
    final = np.where(missed, np.maximum(ranks.final[:, 0], cuts[-1] + 1), ranks.final[:, 0]).ravel()
    times = len(ranks.final)
    users, before = np.tile(ranks.users, times), np.tile(ranks.retriever, times)
    mean, low, high = paired_bootstrap(ndcg(final, 10), ndcg(before, 10), users)
    together = summarise(final, users, cuts) | {GAIN: {"mean": mean, "low": low, "high": high}}
    for metrics in (together, alone):
        metrics[f"recall@{count}"] = metrics[f"hr@{count}"]
    return together, alone


def _stages(
    retriever: Scorer,
    rankers: Sequence[CandidateScorer],
    split: Split,
    targets: Targets,
    count: int,
    batch_size: int,
    time_aware: bool,  # noqa: FBT001 - handed through
) -> Iterator[_Stage]:
    for rows, batch in target_batches(split.histories, targets, batch_size=batch_size, time_aware=time_aware):
        with torch.inference_mode():
            scores = score_batch(retriever, batch, split.histories.num_items).cpu()
            seen, items = batch.history.items, batch.targets
            candidates = retrieve(scores, count, seen, kept=items)
            logits = [rank(batch.history, candidates, batch.request_time).cpu() for rank in rankers]
            yield _Stage(
                rows,
                candidates == items[:, None],
                target_ranks(scores, items, seen),
                target_ranks(torch.zeros(1, 1).expand_as(scores), items, seen),
                candidates,
                scores.gather(1, candidates),
                logits,
            )


def _final_ranks(stage: _Stage, scores: Tensor, count: int) -> Tensor:
    """(batch,) 1 + the candidates that score at least as much as the target; last of all where it is not retrieved."""
    target = scores.masked_fill(~stage.own, -torch.inf).amax(1, keepdim=True)
    not_below = (scores < target).logical_not() & ~stage.own & (stage.candidates != 0)
    return torch.where(stage.retriever_ranks <= count, 1 + not_below.sum(1), stage.last)


def _spread(scores: Tensor, candidates: Tensor) -> float:
    """The standard deviation over each row's candidates, summed over the rows."""
    return float(np.ma.array(scores.double().numpy(), mask=(candidates == 0).numpy()).std(1).filled(0.0).sum())
