"""METRICS: scores -> ranks -> metrics with intervals, and the files that keep them. No model class is known here."""

from recattn.evaluation.best import best_items
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
from recattn.evaluation.click_protocol import ClickEvaluation, evaluate_clicks, predict_clicks, predict_table
from recattn.evaluation.environment import commit, hardware, peak_rss_mb, versions
from recattn.evaluation.floors import EASE, FLOORS, ItemKNN, Popularity, TransitionCounts, fit_floors, tune
from recattn.evaluation.metrics import hit_rate, mrr, ndcg, recall
from recattn.evaluation.protocol import Evaluation, Part, Scorer, describe_targets, evaluate, rank_targets
from recattn.evaluation.ranks import target_ranks
from recattn.evaluation.report import report_line, report_rows
from recattn.evaluation.result import Result, read_result, write_result
from recattn.evaluation.stage_ranks import StageRanks, choose_blend, rank_two_stages, summarise_stages
from recattn.evaluation.summary import summarise
from recattn.evaluation.table import markdown_table, update_readme_table
from recattn.evaluation.two_stage import TwoStage

__all__ = [
    "EASE",
    "FLOORS",
    "ClickEvaluation",
    "Evaluation",
    "ItemKNN",
    "Part",
    "Popularity",
    "ReliabilityCurve",
    "Result",
    "Scorer",
    "StageRanks",
    "TransitionCounts",
    "TwoStage",
    "auc",
    "best_items",
    "bootstrap_interval",
    "calibration",
    "choose_blend",
    "commit",
    "describe_targets",
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
    "predict_table",
    "rank_targets",
    "rank_two_stages",
    "read_result",
    "recall",
    "reliability_curve",
    "report_line",
    "report_rows",
    "summarise",
    "summarise_stages",
    "target_ranks",
    "tune",
    "update_readme_table",
    "user_aucs",
    "versions",
    "write_result",
]
