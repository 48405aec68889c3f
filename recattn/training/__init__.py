"""LIGHTNING: losses, optimisers and schedules around a model. The only package that imports pytorch_lightning."""

from recattn.training.click_task import ClickTask
from recattn.training.cloze_task import ClozeTask
from recattn.training.data import ClickData, SequenceData, TableData
from recattn.training.fit import Fitted, fit
from recattn.training.next_item_task import NextItemTask
from recattn.training.ranking_task import RankingTask
from recattn.training.sizing import data_arguments
from recattn.training.slate_task import SlateTask
from recattn.training.tasks import task_for

__all__ = [
    "ClickData",
    "ClickTask",
    "ClozeTask",
    "Fitted",
    "NextItemTask",
    "RankingTask",
    "SequenceData",
    "SlateTask",
    "TableData",
    "data_arguments",
    "fit",
    "task_for",
]
