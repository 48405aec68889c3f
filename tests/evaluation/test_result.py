import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest

from recattn.errors import ConfigError, DataError
from recattn.evaluation import (
    Result,
    commit,
    hardware,
    markdown_table,
    peak_rss_mb,
    read_result,
    update_readme_table,
    versions,
    write_result,
)
from recattn.evaluation import result as result_module


@pytest.fixture
def result():
    return Result(
        data="ml-100k",
        users=943,
        items=1682,
        interactions=100_000,
        split="leave-one-out",
        split_hash="abc",
        ties="file",
        candidates="full catalogue, seen items out",
        model="recattn.evaluation.TransitionCounts",
        arguments={"horizon": 10, "decay": 0.8},
        time_aware=False,
        seeds=[0],
        metrics={
            "hr@10": {"mean": 0.2089, "low": 0.18, "high": 0.23},
            "ndcg@10": {"mean": 0.1, "low": 0.1, "high": 0.1},
        },
        train_seconds=1.5,
        peak_rss_mb=300.0,
        hardware=hardware(),
        versions=versions(),
        command="recattn evaluate runs/x",
        commit=None,
    )


def test_fields_are_those_of_the_design():
    sizes = ["data", "users", "items", "interactions"]
    protocol = ["split", "split_hash", "ties", "candidates"]
    model = ["model", "arguments", "time_aware", "seeds", "metrics", "train_seconds", "peak_rss_mb"]
    origin = ["hardware", "versions", "command", "commit"]
    assert [field.name for field in fields(Result)] == sizes + protocol + model + origin + ["clicks", "targets"]


def test_a_result_comes_back_as_it_was_written(tmp_path, result):
    path = tmp_path / "new" / "result.json"
    write_result(path, result)
    assert read_result(path) == result
    assert json.loads(path.read_text()) == asdict(result)
    assert [file.name for file in path.parent.iterdir()] == ["result.json"]


def test_a_file_from_before_clicks_is_read_and_one_with_clicks_too(tmp_path, result):
    path = tmp_path / "r.json"
    old = asdict(result)
    del old["clicks"]
    path.write_text(json.dumps(old))
    assert read_result(path) == result
    asked = replace(result, clicks={"labels": "rating >= 4", "reliability": {"expected": [0.5]}})
    write_result(path, asked)
    assert read_result(path) == asked
    path.write_text(json.dumps(old | {"clicks": 3}))
    with pytest.raises(DataError, match="the field 'clicks' is 3, a result has dict or NoneType there"):
        read_result(path)


def test_numpy_numbers_tuples_and_paths_become_plain(tmp_path, result):
    arguments = {"dim": np.int64(7), "rate": np.float32(0.5), "dims": (2, 3), "path": Path("a"), "on": np.bool_(1)}
    write_result(tmp_path / "r.json", replace(result, arguments=arguments))
    assert read_result(tmp_path / "r.json").arguments == {
        "dim": 7,
        "rate": 0.5,
        "dims": [2, 3],
        "path": "a",
        "on": True,
    }


def test_what_json_cannot_say_is_refused_and_the_old_file_stays(tmp_path, result):
    path = tmp_path / "r.json"
    write_result(path, result)
    nan = {"hr@10": {"mean": float("nan"), "low": 0.0, "high": 1.0}}
    for wrong, message in [
        (replace(result, metrics=nan), "must be finite"),
        (replace(result, metrics={}), "at least one metric"),
        (replace(result, metrics={"hr@10": {"mean": 1.0}}), "mean, low and high"),
        (replace(result, train_seconds=float("inf")), "cannot be written as JSON"),
        (replace(result, arguments={"model": object()}), "cannot be written as JSON"),
    ]:
        with pytest.raises(ConfigError, match=message):
            write_result(path, wrong)
    assert read_result(path) == result
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path, result, monkeypatch):
    path = tmp_path / "r.json"
    write_result(path, result)

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(result_module.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_result(path, replace(result, model="other"))
    assert read_result(path) == result
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.pop("commit"), "'commit' is missing"),
        (lambda raw: raw.update(extra=1), "unknown field 'extra'"),
        (lambda raw: raw.update(users="943"), "'users' is '943', a result has int"),
        (lambda raw: raw.update(users=True), "'users' is True, a result has int"),
        (lambda raw: raw.update(time_aware=1), "'time_aware' is 1, a result has bool"),
        (lambda raw: raw.update(data=None), "'data' is None, a result has str"),
        (lambda raw: raw["metrics"]["hr@10"].pop("low"), "'hr@10'"),
    ],
)
def test_a_damaged_result_is_refused_by_file_and_field(tmp_path, result, change, message):
    raw = asdict(result)
    change(raw)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(DataError, match=message) as caught:
        read_result(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_result_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_result(tmp_path / "missing.json")
    (tmp_path / "r.json").write_text("[1")
    with pytest.raises(DataError, match="cannot be read"):
        read_result(tmp_path / "r.json")
    (tmp_path / "r.json").write_text("[1]")
    with pytest.raises(DataError, match="holds list"):
        read_result(tmp_path / "r.json")


def test_a_whole_number_of_seconds_may_be_read_back(tmp_path, result):
    write_result(tmp_path / "r.json", replace(result, train_seconds=2))
    assert read_result(tmp_path / "r.json").train_seconds == 2


def test_environment_is_json_and_says_something():
    assert json.loads(json.dumps(hardware()))["cpus"] >= 1
    assert "recattn" in versions()
    assert peak_rss_mb() is None or 50 < peak_rss_mb() < 1_000_000
    assert commit() is None or len(commit().removesuffix("-dirty")) == 40


def test_table_shows_means_with_intervals_and_the_best_in_bold(result):
    other = replace(
        result,
        model="DIN",
        time_aware=True,
        metrics=result.metrics | {"hr@10": dict.fromkeys(("mean", "low", "high"), 0.3)},
    )
    assert markdown_table([result, other], ["hr@10"]).splitlines() == [
        "| model | HR@10 |",
        "|---|---|",
        "| TransitionCounts | 0.2089 [0.1800, 0.2300] |",
        "| DIN (time-aware) | **0.3000** [0.3000, 0.3000] |",
    ]


def test_rows_are_called_as_asked(result):
    table = markdown_table([result, result], ["hr@10"], labels=["shallow", "deep"])
    assert [line.split(" |")[0] for line in table.splitlines()[2:]] == ["| shallow", "| deep"]
    with pytest.raises(ConfigError, match="labels must be one for each of the 2 results, got 1"):
        markdown_table([result, result], ["hr@10"], labels=["shallow"])


@pytest.mark.parametrize("name", ["data", "split", "split_hash", "ties", "candidates"])
def test_results_that_are_not_comparable_get_no_table(result, name):
    with pytest.raises(ConfigError, match=f"differ in {name} "):
        markdown_table([result, replace(result, **{name: "other"})])


def test_another_part_or_other_clicks_get_no_table(result):
    asked = [replace(result, targets={"part": part}) for part in ("test", "validation")]
    with pytest.raises(ConfigError, match=r"differ in part \(test, validation\)"):
        markdown_table(asked)
    markdown_table([asked[0], result], ["hr@10"])  # older results do not tell their part
    clicked = [replace(result, clicks={"samples_hash": some}) for some in "ab"]
    with pytest.raises(ConfigError, match=r"differ in samples \(a, b\)"):
        markdown_table(clicked)


def test_the_best_loss_is_the_lowest_and_the_best_calibration_the_nearest_to_1(result):
    def of(loss, ratio):
        metrics = {"log_loss": loss, "calibration": ratio}
        return replace(result, metrics={name: dict.fromkeys(("mean", "low", "high"), v) for name, v in metrics.items()})

    table = markdown_table([of(0.6, 0.9), of(0.5, 1.2), of(0.7, 0.5)], ["log_loss", "calibration"]).splitlines()
    assert table[0] == "| model | log-loss | calibration |"
    assert ["**0.5000**" in line for line in table[2:]] == [False, True, False]
    assert ["**0.9000**" in line for line in table[2:]] == [True, False, False]


def test_a_metric_that_is_not_there_is_named(result):
    with pytest.raises(ConfigError, match=r"lacks \['hr@7'\]"):
        markdown_table([result], ["hr@7"])


def test_readme_table_is_replaced_between_its_markers_only(tmp_path):
    path = tmp_path / "README.md"
    text = "a\n<!-- table:x -->\nold\n<!-- /table:x -->\nb <!-- table:y --><!-- /table:y -->\n"
    path.write_text(text)
    assert update_readme_table(path, "x", "| new |\n")
    assert path.read_text() == text.replace("old", "| new |")
    assert not update_readme_table(path, "x", "| new |\n")
    assert update_readme_table(path, "y", "| y |")
    assert path.read_text().endswith("b <!-- table:y -->\n| y |\n<!-- /table:y -->\n")


@pytest.mark.parametrize(
    "text", ["", "<!-- table:x -->", "<!-- /table:x --><!-- table:x -->", "<!-- table:x --><!-- /table:x -->" * 2]
)
def test_a_readme_without_its_markers_is_left_alone(tmp_path, text):
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(DataError, match="once each"):
        update_readme_table(path, "x", "t")
    assert path.read_text() == text


def test_a_readme_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        update_readme_table(tmp_path / "README.md", "x", "t")
