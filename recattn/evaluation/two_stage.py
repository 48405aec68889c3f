"""Two stages: a retriever finds the best of the catalogue, a ranker puts them in order."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recattn.batch import History
from recattn.errors import ConfigError
from recattn.evaluation.best import best_items
from recattn.evaluation.protocol import Scorer
from recattn.nn.checks import check_count

CandidateScorer = Callable[[History, Tensor, Tensor | None], Tensor]
"""Histories, candidates (batch, candidates) with 0 for padding, and the time of each request or None -> scores of the
candidates, -inf at padding: ``Ranker.score_candidates`` is one."""


def retrieve(scores: Tensor, count: int, seen: Tensor | None = None, kept: Tensor | None = None) -> Tensor:
    """The items of the ``count`` best scores of each row, best first, of equal ones the lower number first.

    scores: (batch, num_items + 1); column 0 is padding. count: at least 1; above the catalogue it means all of it.
    seen: (batch, length) items to leave out, 0 for padding; None leaves nothing out.
    kept: (batch,) an item of each row that stays in the running, seen or not.
    Returns (batch, min(count, num_items)) int64; 0 where fewer are left.

    >>> retrieve(torch.tensor([[9.0, 0.5, 0.2, 0.5, 0.9]]), 2, torch.tensor([[4]])).tolist()
    [[1, 3]]
    """
    allowed = scores.clone()
    if seen is not None:
        allowed.scatter_(1, seen, -torch.inf)
    if kept is not None:
        allowed.scatter_(1, kept[:, None], scores.gather(1, kept[:, None]))
    allowed[:, 0] = -torch.inf
    values, numbers = best_items(allowed, min(count, scores.shape[1] - 1))
    return numbers.masked_fill(values == -torch.inf, 0)


def blended(logits: Tensor, found: Tensor, weight: float) -> Tensor:
    """The ranker's logits + weight × the retriever's scores, in the precision of the logits.

    >>> blended(torch.tensor([1.0, 2.0]), torch.tensor([4.0, 0.0]), 0.5).tolist()
    [3.0, 2.0]
    """
    return logits if weight == 0 else logits + weight * found.to(logits.dtype)


@dataclass(frozen=True)
class TwoStage:
    """score(c) = ranker(c) + blend × retriever(c) for the ``count`` best of the retriever, -inf for all others.

    count: at least 1. blend: 0 leaves the order to the ranker alone; else at least 0, in units of the two scores.
    Raises ConfigError for other values.

    >>> pipeline = TwoStage(lambda h, t: torch.tensor([[0.0, 3.0, 2.0, 1.0]]), lambda h, c, t: c.float(), count=2)
    >>> pipeline(History(torch.tensor([[2]]), torch.tensor([1])), seen=torch.tensor([[2]])).tolist()
    [[-inf, 1.0, -inf, 3.0]]
    """

    retriever: Scorer
    ranker: CandidateScorer
    count: int = 200
    blend: float = 0.0

    def __post_init__(self) -> None:
        check_count("retrieve", self.count)
        if not (self.blend >= 0 and math.isfinite(self.blend)):
            raise ConfigError(f"blend must be a finite number >= 0, got {self.blend!r}")

    def __call__(self, history: History, request_time: Tensor | None = None, seen: Tensor | None = None) -> Tensor:
        """Scores (batch, num_items + 1). seen: (batch, length) items that are not to be retrieved, or None."""
        found = self.retriever(history, request_time)
        candidates = retrieve(found, self.count, seen)
        logits = blended(self.ranker(history, candidates, request_time), found.gather(1, candidates), self.blend)
        scores = logits.new_full(found.shape, -torch.inf).scatter_(1, candidates, logits)
        scores[:, 0] = -torch.inf
        return scores

    def score(self, history: History, candidates: Tensor, request_time: Tensor | None = None) -> Tensor:
        """(batch, candidates) the scores of given candidates, retrieved or not."""
        logits = self.ranker(history, candidates, request_time)
        if self.blend == 0:
            return logits
        return blended(logits, self.retriever(history, request_time).gather(1, candidates), self.blend)
