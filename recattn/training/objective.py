"""What the flags of a training ask for: next items, or clicks on samples that are made or read."""

from collections.abc import Mapping

import torch

from recattn.data.click_sets import Clicks, make_clicks, read_clicks
from recattn.data.click_tables import ClickTables
from recattn.data.split import Split
from recattn.errors import ConfigError
from recattn.evaluation import evaluate, evaluate_clicks, predict_clicks, predict_table
from recattn.models import Ranker
from recattn.training.click_task import ClickTask
from recattn.training.ranking_task import RankingTask
from recattn.training.tasks import make_task, task_kind

FEW_NEGATIVES = 32
"""Of next items, for a model that keeps many numbers for each (candidate, event): the catalogue would not fit."""


def samples_of(
    split: Split,
    *,
    threshold: float | None = None,
    negatives: int | None = None,
    negatives_seed: int | None = None,
    samples: str | None = None,
    acted: bool = False,
) -> Clicks:
    """The split's samples: read from ``samples``, a file or a saved model's folder, or made (see `make_clicks`).

    acted: the histories' ratings stand for actions: every event is a positive then, and no threshold divides them.
    Raises ConfigError for a threshold of actions, where samples are to be read and made at once, or seeded and not
    drawn, DataError where they belong to another split.
    """
    if acted and threshold is not None:
        raise ConfigError(f"threshold is {threshold}, but events have actions, not ratings: leave it out")
    if samples is None:
        if acted and negatives is None:
            negatives = 1
        rated = negatives is None and (threshold is not None or split.histories.ratings is not None)
        if rated and negatives_seed is not None:
            raise ConfigError(f"negatives_seed is {negatives_seed}, but labels come from ratings: give negatives too")
        return make_clicks(split, threshold=threshold, negatives=negatives, seed=negatives_seed or 0)
    if (threshold, negatives, negatives_seed) != (None, None, None):
        raise ConfigError(
            f"samples are read from {samples!r}, with their labels: leave threshold, negatives and negatives_seed out"
        )
    return read_clicks(samples, split.hash)


def task_of(
    model: Ranker,
    data: Split | ClickTables,
    clicked: bool,  # noqa: FBT001 - one of two objectives
    *,
    loss: str | None,
    num_negatives: int | None,
    monitor: str | None,
    learning_rate: float,
    weight_decay: float,
    further: Mapping[str, object] | None = None,
) -> RankingTask:
    """A ClickTask, or the task of next items that suits the model, with the defaults of the command.

    further: what else the task takes. Raises ConfigError for what has a flag of its own, and for what it doesn't take.
    """
    settings: dict[str, object] = {"learning_rate": learning_rate, "weight_decay": weight_decay}
    kind = task_kind(model)
    if clicked or isinstance(data, ClickTables):
        kind, settings = ClickTask, settings | {"monitor": monitor or "gauc"}
    else:
        loss = loss or "softmax"
        if num_negatives is None and model.pair_width > 1:
            num_negatives = FEW_NEGATIVES
        settings |= {"loss": loss, "num_negatives": num_negatives}
        if loss == "softmax":  # the one that is corrected for how its sample was drawn
            counts = torch.bincount(torch.from_numpy(data.train.items).long(), minlength=model.num_items + 1)
            settings |= {"item_counts": counts}
    further = further or {}
    if "item_counts" in further:
        raise ConfigError("--task.item_counts: it follows from the data")
    for name in settings.keys() & further.keys():
        raise ConfigError(f"--task.{name}: set it by --{name.replace('_', '-')}")
    return make_task(kind, model, {**settings, **further})


def validate(model: Ranker, data: Split | ClickTables, clicks: Clicks | None) -> dict[str, dict[str, float]]:
    """The metrics of the objective on the validation part, with intervals, as a manifest keeps them."""
    if isinstance(data, ClickTables):
        table = data.validation
        logits = predict_table(model, table, max_length=model.max_length)
        return evaluate_clicks(table.labels, table.of_users, [logits]).metrics
    if clicks is None:
        return evaluate(model.score_all, data, "validation", time_aware=model.time_aware).metrics
    asked = clicks.validation
    logits = predict_clicks(model, data.histories, asked, max_length=model.max_length)
    return evaluate_clicks(asked.labels, asked.users, [logits]).metrics
