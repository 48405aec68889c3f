"""METRICS: scores -> ranks -> metrics with intervals, and the files that keep them. No model class is known here."""

from recattn.evaluation.bootstrap import bootstrap_interval, paired_bootstrap
from recattn.evaluation.click_metrics import (
    ReliabilityCurve,
    auc,
    calibration,
    gauc,
    log_loss,
    reliability_curve,
    user_aucs,
)
from recattn.evaluation.click_protocol import ClickEvaluation, evaluate_clicks, predict_clicks
from recattn.evaluation.environment import commit, hardware, peak_rss_mb, versions
from recattn.evaluation.floors import EASE, ItemKNN, Popularity, TransitionCounts, fit_floors, tune
from recattn.evaluation.metrics import hit_rate, mrr, ndcg, recall
from recattn.evaluation.protocol import Evaluation, Part, Scorer, evaluate, rank_targets
from recattn.evaluation.ranks import target_ranks
from recattn.evaluation.report import report_line, report_rows
from recattn.evaluation.result import Result, read_result, write_result
from recattn.evaluation.summary import summarise
from recattn.evaluation.table import markdown_table, update_readme_table

__all__ = [
    "EASE",
    "ClickEvaluation",
    "Evaluation",
    "ItemKNN",
    "Part",
    "Popularity",
    "ReliabilityCurve",
    "Result",
    "Scorer",
    "TransitionCounts",
    "auc",
    "bootstrap_interval",
    "calibration",
    "commit",
    "evaluate",
    "evaluate_clicks",
    "fit_floors",
    "gauc",
    "hardware",
    "hit_rate",
    "log_loss",
    "markdown_table",
    "mrr",
    "ndcg",
    "paired_bootstrap",
    "peak_rss_mb",
    "predict_clicks",
    "rank_targets",
    "read_result",
    "recall",
    "reliability_curve",
    "report_line",
    "report_rows",
    "summarise",
    "target_ranks",
    "tune",
    "update_readme_table",
    "user_aucs",
    "versions",
    "write_result",
]
