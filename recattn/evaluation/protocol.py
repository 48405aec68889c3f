"""Any scorer -> the ranks of a split's targets: the one way in which recattn evaluates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recattn.batch import History
from recattn.data.batches import pad_histories
from recattn.data.splits import Split
from recattn.errors import ConfigError
from recattn.evaluation.ranks import target_ranks
from recattn.evaluation.summary import summarise

Part = Literal["validation", "test"]

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
    if part not in ("validation", "test"):
        raise ConfigError(f"part is {part!r}: allowed are 'validation' and 'test'")
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}: it must be at least 1")
    histories = split.histories
    users, positions = split.test if part == "test" else split.validation
    if not len(users):
        raise ConfigError(f"the split {split.name!r} has no {part} targets")
    if time_aware and histories.times is None:
        raise ConfigError("time_aware is True, but the data has no times")
    ranks = np.empty(len(users), np.int64)
    longest_first = np.argsort(-positions, kind="stable")
    for start in range(0, len(users), batch_size):
        rows = longest_first[start : start + batch_size]
        events = histories.offsets[users[rows]] + positions[rows]
        history = pad_histories(histories, users[rows], positions[rows])
        times = torch.from_numpy(histories.times[events]) if time_aware and histories.times is not None else None
        with torch.inference_mode():
            scores = scorer(history, times)
            expected = (len(rows), histories.num_items + 1)
            if tuple(scores.shape) != expected:
                raise ConfigError(
                    f"the scorer returned scores {tuple(scores.shape)}: they must be {expected}, (batch, num_items + 1)"
                )
            targets = torch.from_numpy(histories.items[events].astype(np.int64))
            ranks[rows] = target_ranks(scores, targets, history.items if filter_seen else None).cpu().numpy()
        if progress is not None:
            progress(min(start + batch_size, len(users)), len(users))
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
    candidates = "full catalogue, seen items out" if filter_seen else "full catalogue, seen items in"
    return Evaluation(ranks, users, summarise(ranks, users, ks, seed=seed), part, candidates, time_aware)
