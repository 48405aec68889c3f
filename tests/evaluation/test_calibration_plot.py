from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from recattn.errors import ConfigError
from recattn.evaluation import Result, report_line, report_rows
from recattn.evaluation.calibration_plot import plot_calibration

CURVE = {"expected": [0.1, 0.3], "observed": [0.05, 0.4], "counts": [7, 8]}


def entry(mean):
    return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}


@pytest.fixture
def result():
    about = {"labels": "rating >= 4", "samples": 15, "positives": 3, "users": 5, "users_without_both": 2}
    sizes = {"users": 11, "items": 13, "interactions": 17}
    protocol = {
        "split": "leave_last",
        "split_hash": "x",
        "ties": "file",
        "candidates": "labelled samples (rating >= 4)",
    }
    model = {"model": "recattn.models.DIN", "arguments": {}, "time_aware": False, "seeds": [0]}
    metrics = {"auc": entry(0.71), "gauc": entry(0.62), "log_loss": entry(0.5), "calibration": entry(1.1)}
    cost = {"train_seconds": None, "peak_rss_mb": None}
    origin = {"hardware": {}, "versions": {}, "command": "", "commit": None}
    clicks = {**about, "reliability": CURVE}
    return Result(data="ring", metrics=metrics, clicks=clicks, **sizes, **protocol, **model, **cost, **origin)


@pytest.mark.parametrize(("name", "magic"), [("c.png", b"\x89PNG"), ("c.pdf", b"%PDF"), ("c.svg", b"<?xml")])
def test_the_picture_is_the_only_file(result, tmp_path, name, magic):
    plot_calibration(tmp_path / "new" / name, result)
    assert (tmp_path / "new" / name).read_bytes().startswith(magic)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


def test_the_observed_stands_over_the_expected(result, tmp_path, monkeypatch):
    drawn = []

    def keep(figure, path, **_):
        drawn.append(figure)
        path.write_bytes(b"")

    monkeypatch.setattr(Figure, "savefig", keep)
    plot_calibration(tmp_path / "c.png", result)
    (axes,) = drawn[0].axes
    curve = axes.lines[1]
    assert (list(curve.get_xdata()), list(curve.get_ydata())) == (CURVE["expected"], CURVE["observed"])
    assert (axes.get_xlabel()[:8], axes.get_ylabel()[:8]) == ("expected", "observed")


def test_what_cannot_be_drawn_is_refused(result, tmp_path):
    with pytest.raises(ConfigError, match="has no reliability curve: it was measured on ranks"):
        plot_calibration(tmp_path / "c.png", replace(result, clicks=None))
    with pytest.raises(ConfigError, match=r"c\.doc' is|c\.doc': its name must end in one of .*\.png"):
        plot_calibration(tmp_path / "c.doc", result)
    assert not list(tmp_path.iterdir())


def test_clicks_are_reported_with_intervals_and_what_was_asked(result):
    headings, rows = report_rows([result])
    assert headings == ["model", "AUC (95 %)", "GAUC (95 %)", "log-loss (95 %)", "calibration (95 %)"]
    assert rows == [
        ["DIN", "0.7100 (0.700-0.720)", "0.6200 (0.610-0.630)", "0.5000 (0.490-0.510)", "1.1000 (1.090-1.110)"]
    ]
    assert report_line(result, "test") == (
        "ring, leave_last, test part: 15 samples of 5 users, 20.0% positive; label: rating >= 4; GAUC weighted by "
        "samples, without the 2 users whose labels are all equal"
    )


def test_a_metric_without_a_value_is_shown_as_none(result):
    metrics = {name: value for name, value in result.metrics.items() if name != "gauc"}
    assert report_rows([replace(result, metrics=metrics)])[1][0][2] == "none"


def test_ranks_are_reported_as_ranks(result):
    names = ("hr@10", "ndcg@10", "hr@5", "hr@20", "hr@50", "mrr")
    ranked = replace(result, clicks=None, metrics={name: entry(0.5) for name in names}, candidates="full catalogue")
    headings, rows = report_rows([ranked])
    assert headings == ["model", "HR@10 (95 %)", "NDCG@10 (95 %)", "HR@5", "HR@20", "HR@50", "MRR"]
    assert rows[0][1:4] == ["0.5000 (0.490-0.510)", "0.5000 (0.490-0.510)", "0.5000"]
    assert report_line(ranked, "test") == "ring, leave_last, test part; full catalogue; ties count against"
    told = replace(ranked, targets={"part": "test", "count": 1200, "users": 11, "arguments": {"share": 0.1}})
    asked = "ring, leave_last, test part: 1,200 targets of 11 users; full catalogue; ties count against"
    assert report_line(told, "test") == asked
