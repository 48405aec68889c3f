"""USE: a saved model -> recommendations, raw ids in and out."""

from recattn.serving.answer import Answer, Reason, Scored
from recattn.serving.artefact import Artefact, check_place, load_artefact, save_artefact
from recattn.serving.measure import evaluate_floor, evaluate_runs
from recattn.serving.measure_clicks import evaluate_click_runs
from recattn.serving.measure_table import evaluate_table_runs
from recattn.serving.measure_two_stage import evaluate_two_stage, stage_lines
from recattn.serving.recommender import Recommender, load
from recattn.serving.retriever import Retriever, check_agreement, check_stages, find_retriever

__all__ = [
    "Answer",
    "Artefact",
    "Reason",
    "Recommender",
    "Retriever",
    "Scored",
    "check_agreement",
    "check_place",
    "check_stages",
    "evaluate_click_runs",
    "evaluate_floor",
    "evaluate_runs",
    "evaluate_table_runs",
    "evaluate_two_stage",
    "find_retriever",
    "load",
    "load_artefact",
    "save_artefact",
    "stage_lines",
]
