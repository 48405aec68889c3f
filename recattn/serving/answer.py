"""What a recommender answers: candidates, their scores and the reasons."""

from dataclasses import dataclass, field
from typing import Literal

from recattn.data.vocabulary import RawId


@dataclass(frozen=True)
class Reason:
    """An event of the history and how much of the candidate's score it brought (in logits, signed)."""

    item: RawId
    title: str
    contribution: float


@dataclass(frozen=True)
class Scored:
    """A candidate: its raw id, title, score (the model's logit, or a share of all events) and what it drew on most."""

    item: RawId
    title: str
    score: float
    because: list[Reason] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    """Candidates, best first (or in the order asked, from ``score``).

    source: ``"model"``, or ``"popularity"`` where there was no history to ask.
    notes: what a user of the answer should know, such as unknown items that were left out.
    """

    items: list[Scored]
    source: Literal["model", "popularity"]
    notes: list[str] = field(default_factory=list)
