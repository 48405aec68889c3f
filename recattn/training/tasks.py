"""Which task trains which model."""

import inspect
from collections.abc import Mapping
from typing import Any

from recattn.errors import ConfigError
from recattn.models import BERT4Rec, NextItemModel, Ranker, SlateDecoder
from recattn.training.cloze_task import ClozeTask
from recattn.training.next_item_task import NextItemTask
from recattn.training.ranking_task import RankingTask
from recattn.training.slate_task import SlateTask


def task_for(model: Ranker, **arguments: Any) -> RankingTask:  # noqa: ANN401 - the task's
    """The task made for the model, or for the kind of model that it is.

    ClozeTask for a BERT4Rec, SlateTask for a SlateDecoder, NextItemTask for another NextItemModel, RankingTask for any
    other ranker.

    arguments: the task's. Raises ConfigError for names and values that the task does not allow.

    >>> from recattn.models import SASRec
    >>> type(task_for(SASRec(11, dim=8), learning_rate=1e-3)).__name__
    'NextItemTask'
    """
    return make_task(task_kind(model), model, arguments)


def task_kind(model: Ranker) -> type[RankingTask]:
    """The class of `task_for`'s tasks for such a model."""
    if isinstance(model, BERT4Rec):
        return ClozeTask
    if isinstance(model, SlateDecoder):
        return SlateTask
    return NextItemTask if isinstance(model, NextItemModel) else RankingTask


def make_task(kind: type[RankingTask], model: Ranker, arguments: Mapping[str, Any]) -> RankingTask:
    """The task with these arguments. Raises ConfigError for one that it does not take."""
    allowed = _arguments(kind)
    for name in arguments:
        if name not in allowed:
            raise ConfigError(f"{name} is no argument of {kind.__name__}; it takes {', '.join(sorted(allowed))}")
    return kind(model, **arguments)


def _arguments(kind: type) -> set[str]:
    """The keyword arguments of the class's constructor, and of its parent's where it hands the rest on."""
    parameters = inspect.signature(kind.__init__).parameters.values()  # type: ignore[misc]
    names = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    hands_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return names | _arguments(kind.__bases__[0]) if hands_on else names
