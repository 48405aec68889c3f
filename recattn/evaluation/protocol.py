"""Any scorer -> the ranks of a split's targets: the one way in which recattn evaluates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recattn.batch import History, TargetBatch
from recattn.data.batches import target_batches
from recattn.data.splits import Split, Targets
from recattn.errors import ConfigError
from recattn.evaluation.ranks import target_ranks
from recattn.evaluation.summary import summarise

Part = Literal["validation", "test"]

SEEN_OUT = "full catalogue, seen items out"
"""The candidates of every published number here."""

Scorer = Callable[[History, Tensor | None], Tensor]
"""A batch of histories, and the time of each request (None unless asked for) -> scores (batch, num_items + 1)."""

Progress = Callable[[int, int], None]
"""Called after each batch with the targets done and the targets in all."""


@dataclass(frozen=True)
class Evaluation:
    """What a scorer did on one part of a split.

    ranks, users: (targets,) the rank of each target among the candidates, and its user, in the split's order.
    metrics: name -> mean, low, high: see :func:`recattn.evaluation.summarise`.
    part: "validation" or "test".
    candidates: what each target was ranked against, in words.
    time_aware: whether the scorer was told when each target happened.
    """

    ranks: NDArray[np.int64]
    users: NDArray[np.int64]
    metrics: dict[str, dict[str, float]]
    part: Part
    candidates: str
    time_aware: bool


def part_targets(split: Split, part: Part) -> Targets:
    """The targets of a part. Raises ConfigError for an unknown part, and where there are none."""
    if part not in ("validation", "test"):
        raise ConfigError(f"part is {part!r}: allowed are 'validation' and 'test'")
    targets = split.test if part == "test" else split.validation
    if not len(targets.users):
        raise ConfigError(f"the split {split.name!r} has no {part} targets")
    return targets


def describe_targets(split: Split, part: Part) -> dict[str, Any]:
    """What a model is asked for, as plain data: the part, how many targets of how many users, the split's arguments.

    Raises ConfigError as `part_targets` does.
    """
    users = part_targets(split, part).users
    return {"part": part, "count": len(users), "users": len(np.unique(users)), "arguments": dict(split.arguments)}


def score_batch(scorer: Scorer, batch: TargetBatch, num_items: int) -> Tensor:
    """The scorer's scores, (batch, num_items + 1). Raises ConfigError where it gives them another shape."""
    scores = scorer(batch.history, batch.request_time)
    expected = (len(batch.targets), num_items + 1)
    if tuple(scores.shape) != expected:
        raise ConfigError(
            f"the scorer returned scores {tuple(scores.shape)}: they must be {expected}, (batch, num_items + 1)"
        )
    return scores


def rank_targets(
    scorer: Scorer,
    split: Split,
    part: Part = "test",
    *,
    batch_size: int = 256,
    filter_seen: bool = True,
    time_aware: bool = False,
    progress: Progress | None = None,
) -> NDArray[np.int64]:
    """The rank of each target of the part in the full catalogue, ties against it.

    A target's history is everything the user did before it, validation events among them when the test part is
    ranked. Batches hold histories of similar length, longest first (a batch too large for the memory fails at once);
    neither their order nor their size has a part in the ranks of a scorer that treats rows alike.

    scorer: see :data:`Scorer`; it gets whole histories and may cut them itself.
    filter_seen: leave the items of the history out of the candidates, but for the target. Say False where people
        take the same thing again.
    time_aware: hand the scorer the time of each target, (batch,) int64 seconds. Legal where the time of a request is
        known, but such a scorer sees more than one that is blind to it: results say which it was.
    Returns (targets,) int64 in the order of ``split.validation`` or ``split.test``.
    Raises ConfigError for an unknown part, no targets, scores of another shape, or times that the data lacks.
    """
    histories, targets = split.histories, part_targets(split, part)
    ranks = np.empty(len(targets.users), np.int64)
    done = 0
    for rows, batch in target_batches(histories, targets, batch_size=batch_size, time_aware=time_aware):
        with torch.inference_mode():
            scores = score_batch(scorer, batch, histories.num_items)
            seen = batch.history.items if filter_seen else None
            ranks[rows] = target_ranks(scores, batch.targets, seen).cpu().numpy()
        done += len(rows)
        if progress is not None:
            progress(done, len(ranks))
    return ranks


def evaluate(
    scorer: Scorer,
    split: Split,
    part: Part = "test",
    *,
    ks: Sequence[int] = (5, 10, 20, 50),
    batch_size: int = 256,
    filter_seen: bool = True,
    time_aware: bool = False,
    progress: Progress | None = None,
    seed: int = 0,
) -> Evaluation:
    """Rank the part's targets in the full catalogue (:func:`rank_targets`) and summarise them (:func:`summarise`).

    ks: the cut-offs of HR, NDCG and recall.
    seed: of the bootstrap behind the intervals.

    >>> from recattn.data.histories import Histories
    >>> from recattn.data.splits import leave_one_out
    >>> from recattn.evaluation.floors import TransitionCounts
    >>> cycle = Histories(np.tile(np.arange(1, 8, dtype=np.int32), 2), np.array([0, 7, 14]), num_items=7)
    >>> split = leave_one_out(cycle)
    >>> evaluate(TransitionCounts(cycle, horizon=1), split, ks=(1,)).metrics["hr@1"]["mean"]
    1.0
    """
    ranks = rank_targets(
        scorer,
        split,
        part,
        batch_size=batch_size,
        filter_seen=filter_seen,
        time_aware=time_aware,
        progress=progress,
    )
    users = (split.test if part == "test" else split.validation).users
    candidates = SEEN_OUT if filter_seen else "full catalogue, seen items in"
    return Evaluation(ranks, users, summarise(ranks, users, ks, seed=seed), part, candidates, time_aware)
