"""`recattn train`."""

import shutil
from pathlib import Path
from typing import Any, Literal, Unpack

from recattn.commands.console import command_line, log, out
from recattn.commands.data_flags import DataFlags, click_columns, reads_clicks
from recattn.commands.unused import check_unused
from recattn.errors import ConfigError

DEFAULT_MODEL = "recattn.models.TargetAttention"
DEFAULT_TABLE_MODEL = "recattn.models.DIN"
"""Of click tables: it has an MLP that reads the context of a row."""
SplitName = Literal["leave_one_out", "global_time", "leave_last"]


def train(
    output: str,
    data: str = "ml-100k",
    model: dict[str, Any] | None = None,
    verify: bool = True,
    validation_table: str | None = None,
    validation_share: float | None = None,
    min_item_events: int = 1,
    split: SplitName | None = None,
    target: Literal["first", "last", "all"] | None = None,
    ties: Literal["file", "random"] = "file",
    use_ratings: bool = True,
    use_profile: bool = True,
    use_features: bool | None = None,
    use_context: bool = True,
    objective: Literal["next_item", "clicks"] | None = None,
    loss: Literal["softmax", "bce", "gbce", "bpr-max"] | None = None,
    num_negatives: int | None = None,
    threshold: float | None = None,
    negatives: int | None = None,
    negatives_seed: int | None = None,
    samples: str | None = None,
    monitor: Literal["gauc", "auc"] | None = None,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.0,
    task: dict[str, Any] | None = None,
    batch_size: int | None = None,
    positions: int | None = None,
    max_epochs: int = 8,
    patience: int = 3,
    refit: bool = False,
    precision: Literal["fp32", "bf16"] = "fp32",
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    **reading: Unpack[DataFlags],
) -> None:
    """Train a model, keep the weights that were best on the validation part, and save it as a folder.

    Args:
        output: folder for the trained model
        data: name of a data set (see `recattn data`) or path of a CSV, TSV, Parquet or JSON-lines table
        model: class and arguments of the model, for example recattn.models.DIN
        verify: --no-verify accepts files that differ from the published ones, and says so
        validation_table: a second click table, whose rows choose the epoch
        validation_share: in place of it the share of users that are held out for that, such as 0.1
        min_item_events: leave out the items that have fewer events
        split: leave_one_out (each user's last event tests; default), leave_last (each user's last tenth; default for
            clicks) or global_time (the last tenth of all events by time)
        target: of global_time, which of a user's events after the moment are asked for: the first (default), the last
            or all (default for clicks)
        ties: order of a user's events in the same second, as in the file or at random
        use_ratings: let the model read the ratings (or actions) in the history
        use_profile: let the model read the user's profile, where the data has one
        use_features: let the model read the items' features (genres, year), which tell of items with few events too;
            items that no event has are left out (default: where item_table is given, or a click table has some)
        use_context: let the model read what a click table says of a row alone, if the model can
        objective: next_item, to rank the catalogue for what comes next (default), or clicks, to tell what is taken from
            the rest (default for a click table)
        loss: of next items: softmax over the candidates (default), or bce, each candidate a yes or no; next-item models
            also gbce and bpr-max
        num_negatives: of next items: sampled candidates that a target is compared with, which some targets share, drawn
            by popularity for softmax, which corrects for it, else uniformly (default: the whole catalogue; 32 for a
            model that has an MLP for each candidate at each moment)
        threshold: of clicks: ratings from here on are positive (default: 4, where the data has ratings)
        negatives: of clicks: every event is positive and so many items that the user does not take up to the end of the
            part are sampled as negatives, once and for all (default: 1, where the data has no ratings)
        negatives_seed: of these samples (default: 0, whatever the seed of the training)
        samples: of clicks: a trained model's folder, or its clicks.parquet, whose samples are to be used again
        monitor: of clicks: gauc (AUC within each user, default) or auc on the validation part chooses the epoch
        learning_rate: of Adam
        weight_decay: of Adam
        task: what else the model's task takes, as --task.temperature 0.1; see recattn.training
        batch_size: histories in a batch (default: 8), of clicks samples (default: 1,024)
        positions: targets in a history of a batch (default: 48; for a next-item model half of what it reads)
        max_epochs: epochs at most
        patience: epochs in a row that were no better on the validation part after which training stops
        refit: of next items: once validation has chosen the epoch, train anew with the validation part as well, for so
            many epochs; the saved model can then be measured on the test part alone
        precision: of the products in training; bf16 is faster where the processor has instructions for it (AVX512-bf16,
            AMX, a GPU), and far slower elsewhere
        seed: of weights, order and dropout
        resume: go on with an interrupted training in the same output folder
        overwrite: replace a model that is in the output folder
    """
    import torch

    from recattn.commands.material import of_events, of_table
    from recattn.data import Split
    from recattn.evaluation import hardware, peak_rss_mb, versions
    from recattn.models import build_ranker, describe
    from recattn.serving import Artefact, check_place, save_artefact
    from recattn.training import data_arguments, fit
    from recattn.training.objective import task_of, validate

    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed must be 0 to 2^32 - 1, got {seed}")
    tabled = reads_clicks(reading, verify=verify)
    clicked = tabled or objective == "clicks"
    sampling: dict[str, Any] = {"threshold": threshold, "negatives": negatives, "negatives_seed": negatives_seed}
    sampling["samples"] = samples
    held: dict[str, Any] = {"validation_table": validation_table, "validation_share": validation_share}
    if tabled:
        cut: dict[str, Any] = {"min_item_events": None if min_item_events == 1 else min_item_events, "split": split}
        cut |= {"ties": None if ties == "file" else ties, "objective": None if objective == "clicks" else objective}
        cut["target"] = target
        check_unused("layout 'clicks'", {**cut, **sampling})
    else:
        check_unused(f"layout {reading.get('layout', 'events')!r}", held)
    of_next_items = {"loss": loss, "num_negatives": num_negatives, "positions": positions, "refit": refit or None}
    of_clicks = {**sampling, "monitor": monitor}
    check_unused(f"objective {'clicks' if clicked else 'next_item'!r}", of_next_items if clicked else of_clicks)
    folder = Path(output).resolve()
    check_place(folder, overwrite=overwrite)
    checkpoints = folder.with_name(f".{folder.name}-training")
    if checkpoints.exists() and not resume and not overwrite:
        raise ConfigError(
            f"an interrupted training is in {checkpoints}: add --resume to go on, or --overwrite to drop it"
        )
    if tabled:
        text: dict[str, Any] = {"delimiter": reading.get("delimiter"), "encoding": reading.get("encoding")}
        material = of_table(data, columns=click_columns(reading), **text, **held)
    else:
        material = of_events(
            {"data": data, "verify": verify, **reading},
            min_item_events=min_item_events,
            split=split or ("leave_last" if clicked else "leave_one_out"),
            target=target,
            ties=ties,
            seed=seed,
            sampling=sampling if clicked else None,
        )
    for line in material.lines:
        log.print(line)
    encoders = material.kept["encoders"]
    if use_features is None:
        use_features = "item_table" in reading or (tabled and encoders.items is not None)
    specification = model or {"class_path": DEFAULT_TABLE_MODEL if tabled else DEFAULT_MODEL, "init_args": {}}
    torch.manual_seed(seed)
    ranker = build_ranker(
        specification,
        **data_arguments(
            specification["class_path"],
            material.trained_on,
            use_ratings=use_ratings,
            use_profile=use_profile,
            use_features=use_features,
            context_sizes=material.context_sizes if use_context else (),
        ),
    )
    if use_features and not getattr(ranker, "feature_sizes", ()):
        why = "the model reads none" if encoders.items else "there are none"
        log.print(f"features of items are not used: {why}")
    if use_profile and material.kept["histories"].profile is not None and not getattr(ranker, "profile_sizes", ()):
        log.print("the users' profile is not used: the model reads none")
    if use_context and material.context_sizes and not getattr(ranker, "context_sizes", ()):
        log.print("the context of the rows is not used: the model reads none")
    asked: dict[str, Any] = {"loss": loss, "num_negatives": num_negatives, "monitor": monitor}
    asked |= {"learning_rate": learning_rate, "weight_decay": weight_decay, "further": task}
    trained = task_of(ranker, material.data, clicked, **asked)
    batch_size = trained.default_batch_size if batch_size is None else batch_size
    if not resume:
        shutil.rmtree(checkpoints / "refit", ignore_errors=True)
    course: dict[str, Any] = {"batch_size": batch_size, "positions": positions, "max_epochs": max_epochs}
    course |= {"patience": patience, "precision": precision, "seed": seed, "resume": resume}
    fitted = fit(ranker, material.data, folder=checkpoints, task=trained, clicks=material.clicks, **course)
    validated, seconds = validate(ranker, material.data, material.clicks), fitted.seconds
    if refit and isinstance(material.data, Split):
        log.print(f"epoch {fitted.best_epoch} was the best; once more, with the validation part to train on as well")
        torch.manual_seed(seed)
        ranker, everything = build_ranker(describe(ranker)), material.data.before_test
        again = task_of(ranker, everything, clicked, **asked)
        where = checkpoints / "refit"
        seconds += fit(ranker, everything, folder=where, task=again, stop_after=fitted.best_epoch, **course).seconds
    manifest = {
        "model": specification["class_path"],
        **material.about,
        "seed": seed,
        "training": {
            **trained.settings,
            "batch_size": batch_size,
            "positions": positions,
            "max_epochs": max_epochs,
            "patience": patience,
            **({"refit": True} if refit else {}),
            **({"precision": precision} if precision != "fp32" else {}),
        },
        "best_epoch": fitted.best_epoch,
        "train_seconds": round(seconds, 1),
        "peak_rss_mb": peak_rss_mb(),
        "metrics": {"validation": validated},
        "hardware": hardware(),
        "versions": versions(),
        "command": command_line(),
    }
    artefact = Artefact(ranker, manifest=manifest, clicks=material.clicks, **material.kept)
    save_artefact(folder, artefact, overwrite=overwrite)
    shutil.rmtree(checkpoints, ignore_errors=True)
    names = ("gauc", "auc", "log_loss") if clicked else ("hr@10", "ndcg@10")
    shown = "  ".join(f"{name} {validated[name]['mean']:.4f}" for name in names if name in validated)
    log.print(f"validation of epoch {fitted.best_epoch}, the best: {shown}; trained in {seconds:.0f} s")
    out.print(f"saved to {output}")
