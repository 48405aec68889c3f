"""USE: a saved model -> recommendations, raw ids in and out."""

from recattn.serving.artefact import Artefact, check_place, load_artefact, save_artefact
from recattn.serving.measure import evaluate_floor, evaluate_runs
from recattn.serving.measure_clicks import evaluate_click_runs
from recattn.serving.recommender import Answer, Reason, Recommender, Scored, load

__all__ = [
    "Answer",
    "Artefact",
    "Reason",
    "Recommender",
    "Scored",
    "check_place",
    "evaluate_click_runs",
    "evaluate_floor",
    "evaluate_runs",
    "load",
    "load_artefact",
    "save_artefact",
]
