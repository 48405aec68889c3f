"""LIGHTNING: losses, optimisers and schedules around a model. The only package that imports pytorch_lightning."""

from recattn.training.data import SequenceData
from recattn.training.fit import Fitted, fit
from recattn.training.ranking_task import RankingTask
from recattn.training.sizing import data_arguments

__all__ = ["Fitted", "RankingTask", "SequenceData", "data_arguments", "fit"]
