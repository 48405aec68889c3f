"""Two stages through the command line: train both, measure, recommend."""

import json
import re
from pathlib import Path

import pytest

from recattn.cli import main
from recattn.evaluation import read_result

RING = 11


def train(folder: Path, *more: str, users: int = 40) -> Path:
    """People walk round a ring of eleven items."""
    table = folder.with_suffix(".csv")
    rows = ["who,what,when"]
    for user in range(users):
        rows += [f"u{user},{100 + (user + step) % RING},{1000 * user + step}" for step in range(9)]
    table.write_text("\n".join(rows) + "\n")
    model = list(more) if "--model" in more else [*more, "--model.dim", "8"]
    named = ["--data", str(table), "--user-column", "who", "--item-column", "what", "--time-column", "when"]
    assert main(["train", "--output", str(folder), *named, *model, "--max-epochs", "1"]) == 0
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    sasrec = ["--model", "recattn.models.SASRec", "--model.dim", "8", "--model.times", "request"]
    return {
        "RANKER": train(root / "ranker", "--learning-rate", "0.03"),
        "SECOND": train(root / "second", "--learning-rate", "0.03", "--seed", "1"),
        "RETRIEVER": train(root / "retriever", *sasrec),
        "OTHER": train(root / "other", users=30),
    }


def run(folders, *arguments):
    return main([str(folders.get(argument, argument)) for argument in arguments])


def test_both_stages_are_measured_by_one_command(folders, tmp_path, capsys):
    asked = ["--retriever", "RETRIEVER", "--retrieve", "2", "--blend", "--output", str(tmp_path)]
    assert run(folders, "evaluate", "RANKER", "SECOND", *asked) == 0
    shown = capsys.readouterr().out
    for text in (
        "TargetAttention after SASRec (time-aware)",
        "the 2 best of the retriever; recall@2",
        "significant at",
    ):
        assert text in shown
    both, alone = (read_result(tmp_path / f"{name}.json") for name in ("ranker-after-retriever", "retriever"))
    assert both.seeds == [0, 1]
    assert both.arguments["retrieve"] == 2
    assert both.metrics["recall@2"] == alone.metrics["recall@2"]
    gain = both.metrics["ndcg@10"]["mean"] - alone.metrics["ndcg@10"]["mean"]
    assert both.metrics["ndcg@10 gain"]["mean"] == pytest.approx(gain)
    assert both.split_hash == alone.split_hash


def test_the_whole_catalogue_is_the_one_stage_result(folders, capsys):
    assert run(folders, "evaluate", "RANKER", "--json") == 0
    (alone,) = json.loads(capsys.readouterr().out)
    assert run(folders, "evaluate", "RANKER", "--retriever", "transitions", "--retrieve", str(RING), "--json") == 0
    both, _ = json.loads(capsys.readouterr().out)
    assert {name: both["metrics"][name] for name in alone["metrics"]} == alone["metrics"]


def test_a_floor_retrieves_and_stands_once_among_the_baselines(folders, capsys):
    assert run(folders, "evaluate", "RANKER", "--retriever", "transitions", "--baselines", "--json") == 0
    models = [result["model"] for result in json.loads(capsys.readouterr().out)]
    assert models == [
        "recattn.models.TargetAttention after transitions",
        *("transitions", "popularity", "popularity-recent", "item-knn", "ease", "ease-recency"),
    ]


@pytest.mark.parametrize("retriever", ["transitions", "RETRIEVER"])
def test_recommendations_come_from_the_candidates_with_the_rankers_reasons(folders, retriever, capsys):
    asked = ["--user", "u0", "--retriever", retriever, "--blend", "0.1", "--json"]
    assert run(folders, "recommend", "RANKER", *asked, "--retrieve", "1") == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["items"]) == 1
    assert answer["items"][0]["item"] in (109, 110)
    assert answer["items"][0]["because"]
    assert run(folders, "recommend", "RANKER", *asked) == 0
    assert {scored["item"] for scored in json.loads(capsys.readouterr().out)["items"]} == {109, 110}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["evaluate", "RANKER", "--retriever", "OTHER"],
            r"differ in data .*; split .*; vocabulary of users \(40 and 30",
        ),
        (["recommend", "RANKER", "--user", "u0", "--retriever", "OTHER"], "differ in data"),
        (["recommend", "RANKER", "--user", "u0", "--request-time", "9"], "request_time is given, but TargetAttention"),
        (["evaluate", "RANKER", "--retriever", "eas"], "neither a folder of a saved model nor one of"),
        (["evaluate", "RANKER", "--retrieve", "20"], "name one with retriever"),
        (["evaluate", "RANKER", "--blend"], "name one with retriever"),
        (["evaluate", "RANKER", "--retriever", "ease", "--retrieve", "0"], "retrieve must be an integer >= 1, got 0"),
        (
            ["recommend", "RANKER", "--user", "u0", "--retriever", "ease", "--blend", "-1"],
            "blend must be a finite number",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line_with_status_2(folders, arguments, message, capsys):
    assert run(folders, *arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("recattn: ")
    assert re.search(message, said[-1])
