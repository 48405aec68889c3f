"""`recattn recommend` and `recattn score`."""

import re
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from recattn.commands.console import log, out, print_json

_WHOLE = re.compile(r"-?[0-9]{1,18}")

if TYPE_CHECKING:
    from recattn.data.vocabulary import RawId
    from recattn.serving import Answer, Recommender


def recommend(
    run: str,
    user: str | None = None,
    history: str | None = None,
    k: int = 10,
    retriever: str | None = None,
    retrieve: int = 200,
    blend: float = 0.0,
    request_time: int | None = None,
    json: bool = False,
) -> None:
    """Print the k best items for a user, with the events of the history that each drew on most.

    Args:
        run: folder of a trained model
        user: id of a user in the data
        history: ids of items, oldest first, separated by commas, for somebody who is not in the data
        k: how many
        retriever: a saved model, or a floor such as transitions, whose best items the run puts in order
        retrieve: how many items the retriever hands on
        blend: weight of the retriever's scores beside the run's; evaluate --blend chooses one
        request_time: when the answer is wanted, in seconds since 1970, for a model that reads it
        json: print JSON in place of a table
    """
    import recattn

    recommender = recattn.load(run, retriever=retriever, retrieve=retrieve, blend=blend)
    raw_user = None if user is None else recommender.users.parse(user)
    raw_history = None if history is None else _ids(recommender, history)
    answer = recommender.recommend(raw_user, history=raw_history, k=k, request_time=request_time)
    _show(answer, json)


def score(
    run: str,
    candidates: str,
    history: str | None = None,
    user: str | None = None,
    request_time: int | None = None,
    json: bool = False,
) -> None:
    """Print the scores of given items after a history.

    Args:
        run: folder of a trained model
        candidates: ids of items, separated by commas
        history: ids of items, oldest first, separated by commas
        user: id of a user in the data, in place of a history
        request_time: when the answer is wanted, in seconds since 1970, for a model that reads it
        json: print JSON in place of a table
    """
    import recattn

    recommender = recattn.load(run)
    raw_user = None if user is None else recommender.users.parse(user)
    asked = [recommender.items.parse(text) for text in _split(candidates)]
    raw_history = None if history is None else _ids(recommender, history)
    answer = recommender.score(asked, user=raw_user, history=raw_history, request_time=request_time)
    _show(answer, json)


def _show(answer: "Answer", as_json: bool) -> None:
    if as_json:
        print_json(asdict(answer))
        return
    for note in answer.notes:
        log.print(note)
    if answer.source == "popularity":
        log.print("no history to ask: these are the most popular items")
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", justify="right")
    table.add_column("item", justify="right", overflow="fold")
    table.add_column("title", overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("drew on most", overflow="fold")
    for place, scored in enumerate(answer.items, 1):
        reasons = "\n".join(f"{reason.title} ({reason.contribution:+.2f})" for reason in scored.because)
        table.add_row(str(place), str(scored.item), scored.title, f"{scored.score:.3f}", reasons)
    out.print(table)


def _ids(recommender: "Recommender", text: str) -> "list[RawId]":
    """Raw ids as the vocabulary writes them; unknown ones as they are, for the recommender to report."""
    if not recommender.items.is_numeric:
        return list(_split(text))
    return [int(part) if _WHOLE.fullmatch(part) else part for part in _split(text)]


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
