"""Saved models of clicks -> results on the samples that they were saved with."""

from collections.abc import Sequence

from recattn.data.click_samples import ClickSamples
from recattn.errors import ConfigError
from recattn.evaluation import Result, evaluate_clicks, predict_clicks
from recattn.evaluation.protocol import Part
from recattn.serving.artefact import Artefact
from recattn.serving.measure import checked_seeds, result_of_runs


def evaluate_click_runs(artefacts: Sequence[Artefact], part: Part = "test", *, command: str) -> Result:
    """Measure trainings on clicks that differ in their seed alone, on the samples that they were saved with.

    Raises ConfigError as `evaluate_runs` does, for a model that was not trained on clicks, and for other samples.
    """
    checked_seeds(artefacts)
    first, samples = artefacts[0], []
    for artefact in artefacts:
        if artefact.clicks is None:
            raise ConfigError("a model of next items has no labelled samples: measure it on the catalogue")
        samples.append(artefact.clicks)
    asked: ClickSamples = getattr(samples[0], part)
    if any(getattr(other, part).hash != asked.hash for other in samples[1:]):
        raise ConfigError("runs are averaged only when they were saved with the same samples (train with --samples)")
    logits = [
        predict_clicks(artefact.model, first.histories, asked, max_length=artefact.model.max_length)
        for artefact in artefacts
    ]
    found = evaluate_clicks(asked.labels, asked.users, logits)
    about = {"labels": samples[0].labels, "samples_hash": asked.hash, **found.about}
    candidates = f"labelled samples ({samples[0].labels})"
    return result_of_runs(artefacts, candidates, found.metrics, command=command, clicks=about)
