"""METRICS: scores -> ranks -> metrics with intervals, and the files that keep them. No model class is known here."""

from recattn.evaluation.bootstrap import bootstrap_interval, paired_bootstrap
from recattn.evaluation.environment import commit, hardware, peak_rss_mb, versions
from recattn.evaluation.floors import EASE, ItemKNN, Popularity, TransitionCounts, fit_floors, tune
from recattn.evaluation.metrics import hit_rate, mrr, ndcg, recall
from recattn.evaluation.protocol import Evaluation, Part, Scorer, evaluate, rank_targets
from recattn.evaluation.ranks import target_ranks
from recattn.evaluation.result import Result, read_result, write_result
from recattn.evaluation.summary import summarise
from recattn.evaluation.table import markdown_table, update_readme_table

__all__ = [
    "EASE",
    "Evaluation",
    "ItemKNN",
    "Part",
    "Popularity",
    "Result",
    "Scorer",
    "TransitionCounts",
    "bootstrap_interval",
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
    "read_result",
    "recall",
    "summarise",
    "target_ranks",
    "tune",
    "update_readme_table",
    "versions",
    "write_result",
]
