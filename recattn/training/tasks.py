"""Which task trains which model."""

from typing import Any

from recattn.models import BERT4Rec, NextItemModel, Ranker, SlateDecoder
from recattn.training.cloze_task import ClozeTask
from recattn.training.next_item_task import NextItemTask
from recattn.training.ranking_task import RankingTask
from recattn.training.slate_task import SlateTask


def task_for(model: Ranker, **arguments: Any) -> RankingTask:  # noqa: ANN401 - the task's
    """The task made for the model, or for the kind of model that it is.

    ClozeTask for a BERT4Rec, SlateTask for a SlateDecoder, NextItemTask for another NextItemModel, RankingTask for any
    other ranker.

    arguments: the task's. Raises ConfigError for values that the task does not allow.

    >>> from recattn.models import SASRec
    >>> type(task_for(SASRec(11, dim=8), learning_rate=1e-3)).__name__
    'NextItemTask'
    """
    if isinstance(model, BERT4Rec):
        return ClozeTask(model, **arguments)
    if isinstance(model, SlateDecoder):
        return SlateTask(model, **arguments)
    return NextItemTask(model, **arguments) if isinstance(model, NextItemModel) else RankingTask(model, **arguments)
