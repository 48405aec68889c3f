from dataclasses import replace

import pytest

from recattn.data import make_clicks
from recattn.errors import ConfigError
from recattn.evaluation import evaluate_clicks, predict_clicks, read_result, write_result
from recattn.serving import evaluate_click_runs, evaluate_runs


@pytest.fixture
def clicked(artefact):
    return replace(artefact, clicks=make_clicks(artefact.split, negatives=2))


def reseeded(artefact, seed, **more):
    return replace(artefact, manifest={**artefact.manifest, "seed": seed}, **more)


def test_a_model_is_measured_on_the_samples_that_it_was_saved_with(clicked, tmp_path):
    result = evaluate_click_runs([clicked], command="recattn evaluate")
    asked = clicked.clicks.test
    logits = predict_clicks(clicked.model, clicked.histories, asked, max_length=clicked.model.max_length)
    expected = evaluate_clicks(asked.labels, asked.users, [logits])
    assert result.metrics == expected.metrics
    assert result.metrics["auc"]["mean"] > 0.95  # what comes next on the ring was counted
    labels = "each event against 2 sampled not taken by then, seed 0"
    assert result.candidates == f"labelled samples ({labels})"
    assert result.clicks == {"labels": labels, "samples_hash": asked.hash, **expected.about}
    assert result.command == "recattn train && recattn evaluate"
    write_result(tmp_path / "r.json", result)
    assert read_result(tmp_path / "r.json") == result


def test_parts_have_samples_of_their_own(clicked):
    test, validation = (evaluate_click_runs([clicked], part, command="") for part in ("test", "validation"))
    assert validation.clicks["samples_hash"] == clicked.clicks.validation.hash != test.clicks["samples_hash"]


def test_seeds_are_averaged(clicked, artefact):
    other = reseeded(clicked, 3, model=type(artefact.model)(**_arguments(artefact.model)).eval())
    one, two = (evaluate_click_runs([each], command="").metrics["auc"]["mean"] for each in (clicked, other))
    both = evaluate_click_runs([clicked, other], command="")
    assert one != two
    assert both.metrics["auc"]["mean"] == pytest.approx((one + two) / 2)
    assert both.seeds == [0, 3]


def _arguments(model):
    from recattn.models import describe

    arguments = describe(model)["init_args"]
    return {name: value for name, value in arguments.items() if name not in ("scorer", "weighting")}


def test_the_catalogue_can_be_ranked_too(clicked, artefact):
    assert evaluate_runs([clicked], command="").metrics == evaluate_runs([artefact], command="").metrics


def test_what_cannot_be_averaged_is_refused(clicked, artefact):
    with pytest.raises(ConfigError, match="seed of its own"):
        evaluate_click_runs([clicked, clicked], command="")
    with pytest.raises(ConfigError, match="a model of next items has no labelled samples"):
        evaluate_click_runs([clicked, reseeded(artefact, 1)], command="")
    others = make_clicks(artefact.split, negatives=2, seed=1)
    with pytest.raises(ConfigError, match=r"saved with the same samples \(train with --samples\)"):
        evaluate_click_runs([clicked, reseeded(clicked, 1, clicks=others)], command="")
