"""The commands: typed functions, whose arguments are the flags of the command line."""

import json
import shlex
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from recattn.errors import ConfigError

if TYPE_CHECKING:
    from recattn.data.vocabulary import RawId
    from recattn.serving import Answer, Recommender

DEFAULT_MODEL = "recattn.models.TargetAttention"
SplitName = Literal["leave_one_out", "global_time"]
_out = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 120)
_log = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def data(
    name: str | None = None,
    data_dir: str | None = None,
    source: str | None = None,
    verify: bool = True,
    item_table: str | None = None,
    user_table: str | None = None,
) -> None:
    """Fetch, verify and describe a data set; without a name, list what there is.

    Args:
        name: a data set such as ml-100k, or a table whose columns are called user and item
        data_dir: folder that data sets are kept in (default: the environment's RECATTN_DATA, else ./data)
        source: a folder, archive or file that you have already, to be used in place of a download
        verify: --no-verify accepts files that differ from the published ones, and says so
        item_table: a table with one row for each item, in whose columns its features stand
        user_table: the same for users
    """
    from recattn.data import SOURCES, load_interactions

    if name is None:
        table = _table("data set", "ratings", "users", "items")
        table.add_column("about")
        for known in SOURCES.values():
            table.add_row(known.name, f"{known.rows:,}", f"{known.users:,}", f"{known.items:,}", known.description)
        _out.print(table)
        return
    interactions = load_interactions(
        name,
        data_dir=data_dir,
        source=source,
        verify=verify,
        item_table=item_table,
        user_table=user_table,
        say=_log.print,
    )
    for line in interactions.summary.lines():
        _out.print(line)


def train(
    output: str,
    data: str = "ml-100k",
    model: dict[str, Any] | None = None,
    data_dir: str | None = None,
    source: str | None = None,
    verify: bool = True,
    user_column: str | None = None,
    item_column: str | None = None,
    rating_column: str | None = None,
    time_column: str | None = None,
    title_column: str | None = None,
    action_column: str | None = None,
    item_table: str | None = None,
    user_table: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    time_unit: Literal["s", "ms", "us", "ns"] | None = None,
    min_item_events: int = 1,
    split: SplitName = "leave_one_out",
    ties: Literal["file", "random"] = "file",
    use_ratings: bool = True,
    use_profile: bool = True,
    use_features: bool | None = None,
    loss: Literal["softmax", "bce", "gbce", "bpr-max"] = "softmax",
    num_negatives: int | None = None,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.0,
    batch_size: int = 8,
    positions: int | None = None,
    max_epochs: int = 8,
    patience: int = 3,
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Train a model, keep the weights that were best on the validation part, and save it as a folder.

    Args:
        output: folder for the trained model
        data: name of a data set (see `recattn data`) or path of a CSV, TSV, Parquet or JSON-lines table
        model: class and arguments of the model, for example recattn.models.DIN
        data_dir: folder that data sets are kept in
        source: a folder, archive or file of the named data set that you have already
        verify: --no-verify accepts files that differ from the published ones, and says so
        user_column: column of a table that holds the user
        item_column: column that holds the item
        rating_column: column that holds the rating, if there is one
        time_column: column that holds the time, if there is one
        title_column: column that holds the item's title, if there is one; of item_table where that is given
        action_column: column that holds the kind of event (view, cart, purchase), read in place of a rating
        item_table: a table with one row for each item, in whose columns its features stand
        user_table: the same for users, whose features are their profile
        delimiter: of a text table (default: by the file's name)
        encoding: of a text table
        time_unit: of numbers in the time column
        min_item_events: leave out the items that have fewer events
        split: leave_one_out (each user's last event tests) or global_time (the last tenth of the time tests)
        ties: order of a user's events in the same second, as in the file or at random
        use_ratings: let the model read the ratings (or actions) in the history
        use_profile: let the model read the user's profile, where the data has one
        use_features: let the model read the items' features (genres, year), so that it knows new items too (default:
            where item_table is given)
        loss: softmax over the candidates, or bce, each candidate a yes or no; next-item models also gbce and bpr-max
        num_negatives: candidates that are sampled for each batch (default: the whole catalogue)
        learning_rate: of Adam
        weight_decay: of Adam
        batch_size: histories in a batch
        positions: targets in a history of a batch (default: 48; for a next-item model half of what it reads)
        max_epochs: epochs at most
        patience: epochs in a row without a better NDCG@10 on the validation part after which training stops
        seed: of weights, order and dropout
        resume: go on with an interrupted training in the same output folder
        overwrite: replace a model that is in the output folder
    """
    import torch

    from recattn.data import encode, load_interactions, splits, with_features
    from recattn.evaluation import evaluate, hardware, peak_rss_mb, versions
    from recattn.models import Ranker, build
    from recattn.serving import Artefact, check_place, save_artefact
    from recattn.training import data_arguments, fit, task_for

    folder = Path(output).resolve()
    check_place(folder, overwrite=overwrite)
    checkpoints = folder.with_name(f".{folder.name}-training")
    if checkpoints.exists() and not resume and not overwrite:
        raise ConfigError(
            f"an interrupted training is in {checkpoints}: add --resume to go on, or --overwrite to drop it"
        )
    interactions = load_interactions(
        data,
        data_dir=data_dir,
        source=source,
        verify=verify,
        user_column=user_column,
        item_column=item_column,
        rating_column=rating_column,
        time_column=time_column,
        title_column=title_column,
        action_column=action_column,
        item_table=item_table,
        user_table=user_table,
        delimiter=delimiter,
        encoding=encoding,
        time_unit=time_unit,
        say=_log.print,
    )
    if min_item_events != 1:
        interactions = interactions.without_rare_items(min_item_events)
    encoded = encode(interactions, ties=ties, seed=seed)
    divided, encoders = with_features(getattr(splits, split)(encoded.histories), interactions)
    for line in (*interactions.summary.lines(), *divided.summary.lines()):
        _log.print(line)
    specification = model or {"class_path": DEFAULT_MODEL, "init_args": {}}
    torch.manual_seed(seed)
    ranker = build(
        specification,
        **data_arguments(
            specification["class_path"],
            divided.histories,
            use_ratings=use_ratings,
            use_profile=use_profile,
            use_features=item_table is not None if use_features is None else use_features,
        ),
    )
    if not isinstance(ranker, Ranker):
        raise ConfigError(f"--model {specification['class_path']} is a layer, not a model")
    counts = torch.bincount(torch.from_numpy(divided.train.items).long(), minlength=ranker.num_items + 1)
    task = task_for(
        ranker,
        loss=loss,
        num_negatives=num_negatives,
        item_counts=counts,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
    )
    fitted = fit(
        ranker,
        divided,
        folder=checkpoints,
        task=task,
        batch_size=batch_size,
        positions=positions,
        max_epochs=max_epochs,
        patience=patience,
        seed=seed,
        resume=resume,
    )
    validated = evaluate(ranker.score_all, divided, "validation", time_aware=ranker.time_aware)
    manifest = {
        "data": interactions.name,
        "data_hash": interactions.summary.hash,
        "interactions": len(encoded.histories.items),
        "min_item_events": min_item_events,
        "split": {"name": divided.name, "arguments": dict(divided.arguments), "hash": divided.hash},
        "ties": ties,
        "seed": seed,
        "training": {
            **task.settings,
            "batch_size": batch_size,
            "positions": positions,
            "max_epochs": max_epochs,
            "patience": patience,
        },
        "best_epoch": fitted.best_epoch,
        "train_seconds": round(fitted.seconds, 1),
        "peak_rss_mb": peak_rss_mb(),
        "metrics": {"validation": validated.metrics},
        "hardware": hardware(),
        "versions": versions(),
        "command": _command(),
    }
    artefact = Artefact(ranker, encoded.users, encoded.items, divided.histories, encoders, manifest)
    save_artefact(folder, artefact, overwrite=overwrite)
    shutil.rmtree(checkpoints, ignore_errors=True)
    shown = "  ".join(f"{name} {validated.metrics[name]['mean']:.4f}" for name in ("hr@10", "ndcg@10"))
    _log.print(f"validation of epoch {fitted.best_epoch}, the best: {shown}; trained in {fitted.seconds:.0f} s")
    _out.print(f"saved to {output}")


def evaluate(
    runs: list[str],
    baselines: bool = False,
    part: Literal["test", "validation"] = "test",
    output: str | None = None,
    json: bool = False,
) -> None:
    """Measure saved models on the part of the data that they were not trained on.

    Several runs are taken as one model trained with several seeds: the mean over them is shown.

    Args:
        runs: folders of trained models
        baselines: measure the floors as well, models that only count, with settings chosen on the validation part
        part: test, or validation
        output: folder in which a JSON file for each row is kept
        json: print JSON in place of a table
    """
    from recattn.evaluation import fit_floors, write_result
    from recattn.serving import evaluate_floor, evaluate_runs, load_artefact

    artefacts = [load_artefact(run) for run in runs]
    results = {"model": evaluate_runs(artefacts, part, command=_command())}
    if baselines:
        floors = fit_floors(artefacts[0].split, part, progress=lambda name: _log.print(f"fitting {name}"))
        for name, floor in floors.items():
            results[name] = evaluate_floor(name, floor, artefacts[0], part, command=_command())
    if output is not None:
        Path(output).mkdir(parents=True, exist_ok=True)
        for name, result in results.items():
            stem = Path(runs[0]).name if name == "model" else name
            write_result(Path(output) / f"{stem}.json", result)
    if json:
        _print_json([asdict(result) for result in results.values()])
        return
    table = _table("model", "HR@10 (95 %)", "NDCG@10 (95 %)", "HR@5", "HR@20", "HR@50", "MRR")
    for result in results.values():
        wide = (result.metrics[name] for name in ("hr@10", "ndcg@10"))
        narrow = (result.metrics[name] for name in ("hr@5", "hr@20", "hr@50", "mrr"))
        table.add_row(
            result.label,
            *(f"{m['mean']:.4f} ({m['low']:.3f}-{m['high']:.3f})" for m in wide),
            *(f"{m['mean']:.4f}" for m in narrow),
        )
    first = results["model"]
    _out.print(table)
    _out.print(
        f"{first.data}, {first.split}, {part} part of {first.users} users; {first.candidates}; ties count against"
    )


def recommend(
    run: str,
    user: str | None = None,
    history: str | None = None,
    k: int = 10,
    request_time: int | None = None,
    json: bool = False,
) -> None:
    """Print the k best items for a user, with the events of the history that each drew on most.

    Args:
        run: folder of a trained model
        user: id of a user in the data
        history: ids of items, oldest first, separated by commas, for somebody who is not in the data
        k: how many
        request_time: when the answer is wanted, in seconds since 1970, for a model that reads it
        json: print JSON in place of a table
    """
    import recattn

    recommender = recattn.load(run)
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


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _ids(recommender: "Recommender", text: str) -> "list[RawId]":
    """Raw ids as the vocabulary writes them; unknown ones as they are, for the recommender to report."""
    numeric = recommender.items.is_numeric
    return [int(part) if numeric and part.lstrip("-").isdigit() else part for part in _split(text)]


def _command() -> str:
    return shlex.join(["recattn", *sys.argv[1:]])


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for place, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=place == 0, justify="left" if place == 0 else "right")
    return table


def _show(answer: "Answer", as_json: bool) -> None:
    if as_json:
        _print_json(asdict(answer))
        return
    for note in answer.notes:
        _log.print(note)
    if answer.source == "popularity":
        _log.print("no history to ask: these are the most popular items")
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", justify="right")
    table.add_column("item", justify="right", overflow="fold")
    table.add_column("title", overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("drew on most", overflow="fold")
    for place, scored in enumerate(answer.items, 1):
        reasons = "\n".join(f"{reason.title} ({reason.contribution:+.2f})" for reason in scored.because)
        table.add_row(str(place), str(scored.item), scored.title, f"{scored.score:.3f}", reasons)
    _out.print(table)
