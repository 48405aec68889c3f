"""METRICS: scores -> ranks -> metrics with intervals, and the files that keep them. No model class is known here."""

from recattn.evaluation.best import best_items
from recattn.evaluation.bootstrap import bootstrap_interval, paired_bootstrap
from recattn.evaluation.environment import commit, hardware, peak_rss_mb, versions
from recattn.evaluation.floors import EASE, FLOORS, ItemKNN, Popularity, TransitionCounts, fit_floors, tune
from recattn.evaluation.metrics import hit_rate, mrr, ndcg, recall
from recattn.evaluation.protocol import Evaluation, Part, Scorer, evaluate, rank_targets
from recattn.evaluation.ranks import target_ranks
from recattn.evaluation.result import Result, read_result, write_result
from recattn.evaluation.stage_ranks import StageRanks, choose_blend, rank_two_stages, summarise_stages
from recattn.evaluation.summary import summarise
from recattn.evaluation.table import markdown_table, update_readme_table
from recattn.evaluation.two_stage import TwoStage

__all__ = [
    "EASE",
    "FLOORS",
    "Evaluation",
    "ItemKNN",
    "Part",
    "Popularity",
    "Result",
    "Scorer",
    "StageRanks",
    "TransitionCounts",
    "TwoStage",
    "best_items",
    "bootstrap_interval",
    "choose_blend",
    "commit",
    "evaluate",
    "fit_floors",
    "hardware",
    "hit_rate",
    "markdown_table",
    "mrr",
    "ndcg",
    "paired_bootstrap",
    "peak_rss_mb",
    "rank_targets",
    "rank_two_stages",
    "read_result",
    "recall",
    "summarise",
    "summarise_stages",
    "target_ranks",
    "tune",
    "update_readme_table",
    "versions",
    "write_result",
]
