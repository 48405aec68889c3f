"""`recattn recommend` and `recattn score`."""

import csv
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from recattn.commands.console import log, out, print_json
from recattn.commands.unused import check_unused
from recattn.errors import ConfigError

if TYPE_CHECKING:
    from recattn.serving import Answer, Recommender


def recommend(
    run: str,
    user: str | None = None,
    history: str | None = None,
    history_table: str | None = None,
    profile: str | None = None,
    k: int = 10,
    retriever: str | None = None,
    retrieve: int = 200,
    blend: float = 0.0,
    request_time: int | None = None,
    output: str | None = None,
    json: bool = False,
) -> None:
    """Print the k best items for a user, with the events of the history that each drew on most; or write everybody's.

    Args:
        run: folder of a trained model
        user: id of a user in the data
        history: ids of items, oldest first, separated by commas, for somebody who is not in the data
        history_table: the same as a CSV, TSV, Parquet or JSON-lines file with a column item and perhaps time (dates,
            or numbers in the time_unit of the training), and rating or action
        profile: what is known about the person, as gender=F,age=25; with a user in place of what the data says
        k: how many
        retriever: a saved model, or a floor such as transitions, whose best items the run puts in order
        retrieve: how many items the retriever hands on
        blend: weight of the retriever's scores beside the run's; evaluate --blend chooses one
        request_time: when the answer is wanted, always in seconds since 1970, for a model that reads it
        output: file (.csv, .tsv, .jsonl or .parquet) for the items of all users, or of those in the column user of
            history_table: user, rank, item and score, without reasons
        json: print JSON in place of a table
    """
    import recattn

    write = None
    if output is not None:
        from recattn.data.table_files import table_writer

        one = {"user": user, "history": history, "profile": profile, "json": json or None}
        check_unused("output, a file for everybody,", one)
        write = table_writer(output)
    recommender = recattn.load(run, retriever=retriever, retrieve=retrieve, blend=blend)
    if write is not None:
        told = None if history_table is None else Path(history_table)
        table = recommender.recommend_many(histories=told, k=k, request_time=request_time)
        write(table)
        for note in table.attrs["notes"]:
            log.print(note)
        log.print(f"{len(table):,} items for {table['user'].nunique():,} users are in {output}")
        return
    person = _person(recommender, user, history, history_table, profile)
    answer = recommender.recommend(**person, k=k, request_time=request_time)
    _show(answer, json)


def score(
    run: str,
    candidates: str,
    history: str | None = None,
    user: str | None = None,
    history_table: str | None = None,
    profile: str | None = None,
    context: str | None = None,
    request_time: int | None = None,
    json: bool = False,
) -> None:
    """Print the scores of given items after a history.

    Args:
        run: folder of a trained model
        candidates: ids of items, separated by commas
        history: ids of items, oldest first, separated by commas
        user: id of a user in the data, in place of a history
        history_table: a history as a CSV, TSV, Parquet or JSON-lines file with a column item and perhaps time (dates,
            or numbers in the time_unit of the training), and rating or action
        profile: what is known about the person, as gender=F,age=25; with a user in place of what the data says
        context: of a model of click tables: what is known of the request, as hour=1,device=web
        request_time: when the answer is wanted, always in seconds since 1970, for a model that reads it
        json: print JSON in place of a table
    """
    import recattn

    recommender = recattn.load(run)
    person = _person(recommender, user, history, history_table, profile)
    asked = [recommender.items.parse(text) for text in _split(candidates)]
    told = None if context is None else _fields("context", context)
    answer = recommender.score(asked, **person, context=told, request_time=request_time)
    _show(answer, json)


def _person(
    recommender: "Recommender", user: str | None, history: str | None, table: str | None, profile: str | None
) -> dict[str, Any]:
    """Who is meant, as `Recommender` takes it."""
    if history is not None and table is not None:
        raise ConfigError("give either --history or --history-table")
    told: Any = None if table is None else Path(table)
    return {
        "user": None if user is None else recommender.users.parse(user),
        "history": told if history is None else recommender.items.read(_split(history)),
        "profile": None if profile is None else _fields("profile", profile),
    }


def _fields(flag: str, text: str) -> dict[str, str]:
    """``gender=F,"city=Bergen, Norway"`` as a mapping: pairs of CSV, each split at its first equals sign."""
    example = """as in gender=F,"city=Bergen, Norway\""""
    try:
        pairs = next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise ConfigError(f"--{flag} {text!r} cannot be read ({error}); it is field=value, {example}") from error
    fields: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not name or not equals:
            raise ConfigError(f"--{flag}: {pair!r} is not field=value; a value with a comma is quoted, {example}")
        if name in fields:
            raise ConfigError(f"--{flag}: {name} is given twice")
        fields[name] = value
    return fields


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


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
