"""A trained model in use: raw ids in, titles, scores and reasons out."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from recattn.batch import History, RankingBatch
from recattn.data import FeatureEncoder, Histories
from recattn.data.batches import pad_histories
from recattn.data.columns import other_unit
from recattn.data.vocabulary import RawId
from recattn.errors import ConfigError
from recattn.evaluation import TwoStage, best_items
from recattn.nn.checks import check_count, whole
from recattn.serving.answer import Answer, Reason, Scored
from recattn.serving.artefact import Artefact, load_artefact
from recattn.serving.raw_history import read_histories, read_history
from recattn.serving.raw_ids import read_ids
from recattn.serving.raw_profile import read_context, read_profile
from recattn.serving.raw_table import Table
from recattn.serving.retriever import RETRIEVED, Retriever, check_agreement, check_stages, find_retriever

_NO_TIMES = "request_time is not used: the history has no times to compare it with"


class Recommender:
    """Recommends from a saved model. Made by ``recattn.load(folder)``.

    A user that the model knows is meant by ``user``, anybody else by ``history``: raw item ids, oldest first, or a
    table (a DataFrame, or the Path of a file) with columns item and perhaps time, rating or action, see `read_history`.
    ``profile`` is what is known about the person, field -> raw value, see `read_profile`; of a known user it takes the
    place of the fields that it names.

    - Ids may be text where the model's are whole numbers, and the other way round ("196" is 196).
    - An unknown user or candidate raises UnknownIdError naming it, a field that the profile does not have ConfigError.
    - Unknown items of a history and unknown values of a profile are left out, and the answer's notes say which.
    - No history, or none of it known: the most popular items whatever the profile, and ``source`` says "popularity".
    - More asked for than there is: all there is.

    A model that is time_aware is told when the request comes by ``request_time``, in seconds since 1970; without it the
    request is taken to come with the last event. Events after the request are left out, and the answer's notes say how
    many. Of a history without times such a model is told nothing. Any other model raises ConfigError.

    What a model of click tables reads of a request alone is told to `score` by ``context``, column -> raw value. The
    catalogue is ranked without it; what is not told counts as unknown, and the answer's notes say so.

    retriever: finds the candidates, ``retrieve`` of them, that the model then puts in order, by its own scores or by
        these + blend × the retriever's; None: the model ranks the whole catalogue. Reasons are the model's.
    Raises ConfigError where the two do not agree, and for ``retrieve`` below 1 or ``blend`` below 0.
    """

    def __init__(
        self,
        artefact: Artefact,
        retriever: Retriever | None = None,
        *,
        retrieve: int = RETRIEVED,
        blend: float = 0.0,
    ) -> None:
        check_stages(retriever, retrieve, blend)
        self.artefact = artefact
        self.model, self.items, self.users = artefact.model, artefact.items, artefact.users
        models, self.pipeline = [artefact.model], None
        if retriever is not None:
            if retriever.artefact is not None:
                check_agreement(artefact, retriever.artefact)
                models.append(retriever.artefact.model)
            self.pipeline = TwoStage(retriever.scorer, self.model.score_candidates, retrieve, blend)
        self.time_aware = any(model.time_aware for model in models)
        self.reads_profile = any(getattr(model, "profile_sizes", ()) for model in models)

    def recommend(
        self,
        user: RawId | None = None,
        *,
        history: Sequence[RawId] | Table | None = None,
        profile: Mapping[str, Any] | None = None,
        k: int = 10,
        num_reasons: int = 3,
        filter_seen: bool = True,
        request_time: int | None = None,
    ) -> Answer:
        """The k best items of the catalogue after the history, with the events that each drew on most.

        filter_seen: leave out what is in the history. num_reasons: events named for each item, 0 for none.
        """
        check_count("k", k)
        moment = self._moment(request_time)
        events, notes = self._history(user, history, profile, moment)
        scores, numbers = (row[0] for row in self._best(events, moment, k, filter_seen=filter_seen))
        available = int((scores > -torch.inf).sum())
        if k > available:
            notes.append(f"k is {k}, but only {available} items are left to recommend")
        _, untold = self._context(None)
        source = _source(events)
        found = self._answer(events, numbers[:available], scores[:available], source, num_reasons, moment)
        return Answer(found, source, notes + untold)

    def recommend_many(
        self,
        users: Sequence[RawId] | None = None,
        *,
        histories: Table | None = None,
        profiles: Table | None = None,
        k: int = 10,
        filter_seen: bool = True,
        request_time: int | None = None,
        batch_size: int = 256,
    ) -> pd.DataFrame:
        """The k best items of each user, or of all that the model knows, many users at a time and without reasons.

        histories, profiles: of people that the model does not know, in place of users: tables with a column user and
            those of ``history``, or the fields of the profile; see `read_histories`.
        Returns columns user, rank (from 1), item, score: k rows a user, or as many as are left; users in the order
        given, ``attrs["notes"]`` as in an Answer, and of how many users there is no history, so that they have the most
        popular items, or fewer than k items are left.
        Raises UnknownIdError for an unknown user.
        """
        for name, value in (("k", k), ("batch_size", batch_size)):
            check_count(name, value)
        moment = self._moment(request_time)
        known, people, notes = self.artefact.histories, self.users, list[str]()
        asked = np.arange(known.num_users) if users is None else self._numbers("users", users)
        if histories is not None and users is None:
            encoder = None if profiles is None else self._profile_encoder
            people, known, notes = read_histories(self.artefact, histories, profiles, encoder)
            asked = np.arange(len(people))
        elif histories is not None or profiles is not None:
            raise ConfigError("give either users, or histories and perhaps profiles")
        best = np.zeros((len(asked), min(k, len(self.items))), np.int64)
        scores = np.full(best.shape, -np.inf, np.float32)
        longest_first, later, bare = np.argsort(-known.lengths[asked], kind="stable"), 0, 0
        for start in range(0, len(asked), batch_size):
            rows = longest_first[start : start + batch_size]
            events, after = _until(moment, known, asked[rows])
            later, bare = later + after, bare + int((events.lengths == 0).sum())
            top, numbers = self._best(events, moment, k, filter_seen=filter_seen)
            best[rows], scores[rows] = numbers.numpy(), top.numpy()
        row, place = np.nonzero(scores > -np.inf)
        answer = {"user": people.decode(asked[row] + 1), "rank": place + 1}
        answer |= {"item": self.items.decode(best[row, place]), "score": scores[row, place]}
        table = pd.DataFrame(answer)
        if bare:
            notes.append(f"{bare} of {len(asked)} users have no history: theirs are the most popular items")
        if short := int(((scores > -np.inf).sum(1) < k).sum()):
            notes.append(f"k is {k}, but for {short} of {len(asked)} users fewer items are left to recommend")
        table.attrs["notes"] = notes + _time_notes(moment, known, later)
        return table

    def score(
        self,
        candidates: Sequence[RawId],
        *,
        user: RawId | None = None,
        history: Sequence[RawId] | Table | None = None,
        profile: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        num_reasons: int = 3,
        request_time: int | None = None,
    ) -> Answer:
        """Scores of these candidates, in their order; comparable with each other and with `recommend`'s."""
        asked = read_ids(self.items, "candidates", candidates)
        if not asked:
            raise ConfigError("candidates is empty: name at least one item")
        numbers = torch.from_numpy(self.items.encode(asked).astype(np.int64))
        moment = self._moment(request_time)
        events, notes = self._history(user, history, profile, moment)
        codes, more = self._context(context)
        source = _source(events)
        scores: Tensor
        with torch.no_grad():
            if source == "popularity":
                scores = torch.from_numpy(self._popularity)[numbers]
            elif self.pipeline is not None:
                scores = self.pipeline.score(events, numbers[None], _moments(moment, 1))[0]
            elif codes is not None:
                scores = self.model(self._batch(events, numbers, moment, codes))[0]
            else:
                scores = self._model_scores(events, _moments(moment, 1), filter_seen=False)[0, numbers]
        found = self._answer(events, numbers, scores, source, num_reasons, moment, codes)
        return Answer(found, source, notes + more)

    def _history(
        self,
        user: RawId | None,
        history: Sequence[RawId] | Table | None,
        profile: Mapping[str, Any] | None,
        moment: int | None,
    ) -> tuple[History, list[str]]:
        if user is not None and history is None:
            known, row, notes = self.artefact.histories, self._numbers("user", [user]), list[str]()
        elif user is None and history is not None:
            (known, notes), row = read_history(self.artefact, history), np.array([0])
        else:
            raise ConfigError("give either user or history")
        events, later = _until(moment, known, row)
        if profile is not None:
            saved = None if known.profile is None else known.profile[row]
            codes, unknown = read_profile(self._profile_encoder, profile, saved)
            events, notes = events._replace(profile=torch.from_numpy(codes.astype(np.int64))), notes + unknown
        return events, notes + _time_notes(moment, known, later)

    def _moment(self, request_time: int | None) -> int | None:
        """The time of the request, checked."""
        if request_time is None:
            return None
        moment = whole(request_time)
        if moment is None or moment < 0:
            raise ConfigError(f"request_time must be whole seconds since 1970, got {request_time!r}")
        unit = other_unit(moment, "s")
        if unit is not None:
            raise ConfigError(f"request_time must be whole seconds since 1970, got {moment}: that looks like {unit}")
        if not self.time_aware:
            name = type(self.model).__name__
            raise ConfigError(f"request_time is given, but {name} reads no time of the request: leave it out")
        return moment

    def _context(self, context: Mapping[str, Any] | None) -> tuple[Tensor | None, list[str]]:
        """(columns,) codes of a request's context, None where none is told or read; and notes."""
        table, read = self.artefact.table, bool(getattr(self.model, "context_sizes", ()))
        if table is None or not read or self.pipeline is not None:
            if context is not None:
                raise ConfigError("context is given, but the model reads none: leave it out")
            return None, []
        told = {} if context is None else dict(context)
        untold = [name for name in table.context.names if name not in told]
        notes = [f"not told of the request, so that it counts as unknown: {', '.join(untold)}"] * bool(untold)
        if context is None:
            return None, notes
        codes, unknown = read_context(table.context, told)
        return torch.from_numpy(codes[0].astype(np.int64)), unknown + notes

    def _numbers(self, name: str, users: Sequence[RawId]) -> NDArray[np.int64]:
        """Which users of the saved histories they are, from 0."""
        return self.users.encode(read_ids(self.users, name, users)).astype(np.int64) - 1

    @property
    def _profile_encoder(self) -> FeatureEncoder:
        encoder = self.artefact.encoders.users
        if encoder is None or not self.reads_profile:
            raise ConfigError(f"a profile is given, but {type(self.model).__name__} was trained without and reads none")
        return encoder

    def _best(self, events: History, moment: int | None, k: int, *, filter_seen: bool) -> tuple[Tensor, Tensor]:
        """Scores and numbers of the best items, (batch, at most k), -inf where fewer are left; see `recommend_many`."""
        with torch.no_grad():
            scores = self._model_scores(events, _moments(moment, len(events.lengths)), filter_seen=filter_seen)
        scores[events.lengths == 0] = torch.from_numpy(self._popularity)
        if filter_seen:
            scores.scatter_(1, events.items, -torch.inf)
        scores[:, 0] = -torch.inf
        return best_items(scores, min(k, len(self.items)))

    def _model_scores(self, events: History, moments: Tensor | None, *, filter_seen: bool) -> Tensor:
        """(batch, items + 1), -inf for what is not retrieved."""
        if self.pipeline is None:
            return self.model.score_all(events, moments)[:, : len(self.items) + 1]  # a click table's has more
        return self.pipeline(events, moments, events.items if filter_seen else None)

    def _answer(
        self,
        events: History,
        numbers: Tensor,
        scores: Tensor,
        source: str,
        num_reasons: int,
        moment: int | None,
        context: Tensor | None = None,
    ) -> list[Scored]:
        check_count("num_reasons", num_reasons, least=0)
        reasons: list[list[Reason]] = [[] for _ in numbers]
        if source == "model" and num_reasons and len(numbers):
            with torch.no_grad():
                brought = self.model.contributions(self._batch(events, numbers, moment, context))[0]
            reasons = [self._reasons(events, row, num_reasons) for row in brought]
        ids = self.items.decode(numbers.numpy())
        titles = [self.items.title(int(number)) for number in numbers]
        return [
            Scored(raw, title, float(score), because)
            for raw, title, score, because in zip(ids, titles, scores, reasons, strict=True)
        ]

    @staticmethod
    def _batch(events: History, numbers: Tensor, moment: int | None, context: Tensor | None) -> RankingBatch:
        """One person who is asked about these items, in this context."""
        moments = _moments(moment, len(numbers))
        told = None if context is None else context.expand(1, len(numbers), -1)
        return RankingBatch(
            events, numbers[None], request_time=None if moments is None else moments[None], context=told
        )

    def _reasons(self, events: History, brought: Tensor, count: int) -> list[Reason]:
        """The events that spoke most for the candidate; none that spoke against it."""
        best = torch.sort(brought, descending=True, stable=True).indices[:count]
        best = best[brought[best] > 0]
        numbers = events.items[0, best]
        return [
            Reason(raw, self.items.title(int(number)), float(brought[place]))
            for raw, number, place in zip(self.items.decode(numbers.numpy()), numbers, best, strict=True)
        ]

    @cached_property
    def _popularity(self) -> NDArray[np.float32]:
        """(items + 1,) each item's share of all events."""
        counts = np.bincount(self.artefact.histories.items, minlength=len(self.items) + 1)
        shares: NDArray[np.float32] = (counts / max(1, counts.sum())).astype(np.float32)
        return shares


def _until(moment: int | None, known: Histories, users: NDArray[np.int64]) -> tuple[History, int]:
    """What these users had done by the moment, and how many later events are left out; None: all they have done."""
    events = pad_histories(known, users, known.lengths[users])
    if moment is None or events.times is None:
        return events, 0
    lengths = (events.mask & (events.times <= moment)).sum(1)  # times rise
    later = int((events.lengths - lengths).sum())
    return (pad_histories(known, users, lengths.numpy()) if later else events), later


def _time_notes(moment: int | None, known: Histories, later: int) -> list[str]:
    if moment is not None and known.times is None:
        return [_NO_TIMES]
    return [f"left out of the history, as they come after the request_time {moment}: {later} events"] * bool(later)


def _source(events: History) -> Literal["model", "popularity"]:
    """Who answers one person: the model, if there is a history that it can ask."""
    return "model" if int(events.lengths[0]) else "popularity"


def _moments(moment: int | None, count: int) -> Tensor | None:
    """The same moment for a batch of ``count``."""
    return None if moment is None else torch.full((count,), moment)


def load(
    folder: str | Path, *, retriever: str | Path | None = None, retrieve: int = RETRIEVED, blend: float = 0.0
) -> Recommender:
    """Load a model that training has saved.

    retriever: the folder of another saved model, or a floor's name such as "transitions" (see `find_retriever`), which
        finds the ``retrieve`` candidates that the model puts in order.
    blend: weight of the retriever's scores beside the model's; ``recattn evaluate --blend`` chooses one.
    Raises ArtefactError naming the file that is missing or wrong; ConfigError where the two models do not agree.
    """
    check_stages(retriever, retrieve, blend)
    artefact = load_artefact(folder)
    found = None if retriever is None else find_retriever(retriever, artefact)
    return Recommender(artefact, found, retrieve=retrieve, blend=blend)
