import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from recattn.cli import main
from recattn.commands.console import make_table, out

RING = 11
TRAIN = ["--model.dim", "8", "--max-epochs", "3", "--learning-rate", "0.03"]


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """Forty people walk round a ring of eleven items."""
    path = tmp_path_factory.mktemp("data") / "ring.csv"
    rows = ["who,what,stars,when"]
    for user in range(40):
        rows += [f"u{user},{100 + (user + step) % RING},{step % 5 + 1},{1000 * user + step}" for step in range(9)]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def columns(table) -> list[str]:
    return [
        *("--data", str(table), "--user-column", "who", "--item-column", "what"),
        *("--rating-column", "stars", "--time-column", "when"),
    ]


@pytest.fixture(scope="module")
def run(columns, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "ring"
    assert main(["train", "--output", str(folder), *columns, *TRAIN]) == 0
    return folder


def test_a_table_is_trained_on_measured_and_recommended_from(run, capsys):
    assert main(["evaluate", str(run), "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["metrics"]["hr@5"]["mean"] > 0.9
    assert result["users"] == 40
    assert main(["recommend", str(run), "--user", "u0", "--k", "1", "--json"]) == 0
    (first,) = json.loads(capsys.readouterr().out)["items"]
    assert first["item"] == 100 + 9
    assert len(first["because"]) == 3


def test_tables_for_people_name_models_titles_and_reasons(run, capsys):
    assert main(["evaluate", str(run), "--baselines"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("TargetAttention", "popularity", "item-knn", "ease", "transitions"))
    assert main(["recommend", str(run), "--history", "103,104"]) == 0
    assert "drew on most" in capsys.readouterr().out


def test_everybodys_items_are_written_to_a_file(run, tmp_path, capsys):
    best = tmp_path / "best.csv"
    assert main(["recommend", str(run), "--k", "2", "--output", str(best)]) == 0
    assert "80 items for 40 users" in capsys.readouterr().err
    table = pd.read_csv(best)
    assert table.columns.tolist() == ["user", "rank", "item", "score"]
    assert table[table["user"] == "u0"]["item"].iloc[0] == 100 + 9
    visits = tmp_path / "visits.csv"
    visits.write_text("user,item\nnew,103\nnew,104\nother,999\n")
    asked = ["--history-table", str(visits), "--k", "1", "--output", str(tmp_path / "some.jsonl")]
    assert main(["recommend", str(run), *asked]) == 0
    assert "999" in capsys.readouterr().err
    assert pd.read_json(tmp_path / "some.jsonl", lines=True)["user"].tolist() == ["new", "other"]
    assert main(["recommend", str(run), "--user", "u0", "--output", str(best)]) == 2
    assert "user is 'u0', but output, a file for everybody, has no use for it" in capsys.readouterr().err
    assert main(["recommend", str(run), "--output", str(tmp_path / "best.xls")]) == 2
    assert "suffix" in capsys.readouterr().err


def test_results_are_kept_as_files(run, tmp_path):
    assert main(["evaluate", str(run), "--baselines", "--output", str(tmp_path)]) == 0
    assert {"ring.json", "popularity.json", "transitions.json"} <= {path.name for path in tmp_path.iterdir()}


def test_scores_of_candidates_after_a_history(run, capsys):
    assert main(["score", str(run), "--history", "101,102,999", "--candidates", "103,108", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [scored["item"] for scored in answer["items"]] == [103, 108]
    assert answer["items"][0]["score"] > answer["items"][1]["score"]
    assert "999" in answer["notes"][0]


def test_rating_levels_are_those_of_the_training_part(table, columns, tmp_path):
    """The last two of nine events, which validate and test, are rated 3 and 4 in one file, 8 and 9 in the other."""
    other = tmp_path / "other.csv"
    other.write_text(
        re.sub(r",([34])(,\d*[78])$", lambda found: f",{int(found[1]) + 5}{found[2]}", table.read_text(), flags=re.M)
    )
    folder = tmp_path / "run"
    assert (
        main(
            ["train", "--output", str(folder), *columns, "--data", str(other), "--model.dim", "8", "--max-epochs", "1"]
        )
        == 0
    )
    assert re.search(r"rating_levels:\n( +- [1-5]\.0\n){5} ", (folder / "model.yaml").read_text())


def test_the_same_seed_gives_the_same_weights(columns, run, tmp_path):
    again = tmp_path / "again"
    assert main(["train", "--output", str(again), *columns, *TRAIN]) == 0
    assert (again / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


@pytest.mark.parametrize("model", ["NARM", "SASRec", "SlateDecoder"])
def test_next_item_models_go_through_every_command(columns, tmp_path, model, capsys):
    folder = str(tmp_path / "run")
    named = [
        "--model",
        f"recattn.models.{model}",
        *TRAIN,
        "--model.dropout",
        "0",
        "--model.dim",
        "16",
        "--max-epochs",
        "15",
    ]
    assert main(["train", "--output", folder, *columns, *named]) == 0
    capsys.readouterr()
    assert main(["evaluate", folder, "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["model"].endswith(model)
    assert result["metrics"]["hr@5"]["mean"] > 0.9
    assert main(["recommend", folder, "--user", "u0", "--k", "1", "--json"]) == 0
    (first,) = json.loads(capsys.readouterr().out)["items"]
    assert first["item"] == 100 + 9
    assert first["because"]


def test_clicks_are_trained_on_measured_drawn_and_asked_again_of_another_model(columns, tmp_path, capsys):
    first, second, chosen = (
        tmp_path / "din",
        tmp_path / "sasrec",
        ["--objective", "clicks", "--max-epochs", "1", *columns],
    )
    din = ["--model", "recattn.models.DIN", "--model.dim", "4", "--seed", "3"]
    assert main(["train", "--output", str(first), *chosen, *din, "--negatives", "2", "--monitor", "auc"]) == 0
    assert "33.3% of those to train on are positive" in capsys.readouterr().err
    manifest = json.loads((first / "manifest.json").read_text())
    assert manifest["split"]["name"] == "leave_last"
    assert {"objective": "clicks", "monitor": "auc", "batch_size": 1024}.items() <= manifest["training"].items()
    assert manifest["clicks"]["labels"] == "each event against 2 sampled not taken by then, seed 0"
    assert {"auc", "gauc", "log_loss", "calibration"} <= manifest["metrics"]["validation"].keys()

    picture = tmp_path / "c.png"
    assert main(["evaluate", str(first), "--plot", str(picture), "--output", str(tmp_path / "json")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert all(name in shown for name in ("AUC", "GAUC", "log-loss", "calibration", "2 sampled not taken"))
    assert picture.exists()
    result = json.loads((tmp_path / "json" / "din.json").read_text())
    assert result["clicks"]["labels"] == manifest["clicks"]["labels"]
    assert main(["evaluate", str(first), "--catalogue", "--json"]) == 0
    assert "hr@10" in json.loads(capsys.readouterr().out)[0]["metrics"]

    sasrec = ["--model", "recattn.models.SASRec", "--model.dim", "4"]
    assert main(["train", "--output", str(second), *chosen, *sasrec, "--samples", str(first)]) == 0
    assert json.loads((second / "manifest.json").read_text())["clicks"] == manifest["clicks"]
    assert (second / "clicks.parquet").read_bytes() == (first / "clicks.parquet").read_bytes()
    assert main(["recommend", str(second), "--user", "u0", "--k", "1"]) == 0
    assert main(["evaluate", str(first), "--baselines"]) == 2
    assert "add --catalogue" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threshold", "3"], "threshold is 3.0, but objective 'next_item' has no use for it"),
        (["--objective", "clicks", "--loss", "gbce"], "loss is 'gbce', but objective 'clicks' has no use for it"),
        (["--objective", "clicks", "--threshold", "3", "--negatives", "1"], "labels come from ratings"),
        (
            ["--objective", "clicks", "--split", "leave_one_out"],
            "labels are equal: AUC needs a positive and a negative",
        ),
        (["--objective", "clicks", "--samples", "nowhere"], "nowhere: cannot be read as samples"),
    ],
)
def test_what_an_objective_cannot_do_is_told_in_one_line(columns, tmp_path, capsys, arguments, message):
    assert main(["train", "--output", str(tmp_path / "x"), *columns, *TRAIN, *arguments]) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_of_clicks_by_time_every_later_event_is_asked(columns, tmp_path):
    chosen = ["--objective", "clicks", "--max-epochs", "1", "--split", "global_time", "--monitor", "auc", *TRAIN[:2]]
    assert main(["train", "--output", str(tmp_path / "x"), *columns, *chosen]) == 0
    manifest = json.loads((tmp_path / "x" / "manifest.json").read_text())
    assert manifest["split"]["arguments"]["target"] == "all"
    assert manifest["clicks"]["labels"] == "rating >= 4"


def test_of_next_items_by_time_every_later_event_can_be_asked(columns, tmp_path, capsys):
    asked = {}
    for target in ("last", "all"):
        folder = tmp_path / target
        chosen = ["--max-epochs", "1", "--split", "global_time", "--target", target, *TRAIN[:2]]
        assert main(["train", "--output", str(folder), *columns, *chosen]) == 0
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["split"]["arguments"]["target"] == target
        asked[target] = int(re.search(r"to validate, (\d+) to test", capsys.readouterr().err)[1])
    assert asked == {"last": 4, "all": 32}  # four users come last, with nine events each
    assert main(["evaluate", str(tmp_path / "all"), "--baselines"]) == 0
    assert "test part: 32 targets of 4 users" in capsys.readouterr().out
    assert main(["train", "--output", str(tmp_path / "x"), *columns, "--target", "all"]) == 2
    assert "target is 'all', but split 'leave_one_out' has no use for it" in capsys.readouterr().err


def test_rare_items_can_be_left_out(columns, tmp_path, capsys):
    folder = tmp_path / "run"
    chosen = ["--output", str(folder), *columns, "--model.dim", "8", "--max-epochs", "1"]
    assert main(["train", *chosen, "--min-item-events", "33"]) == 0
    assert re.search(r"left out: [1-9]\d* of items with fewer than 33 events", capsys.readouterr().err)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["min_item_events"] == 33
    assert manifest["interactions"] < 360
    assert main(["train", "--output", str(folder), *columns, "--min-item-events", "1000", "--overwrite"]) == 2
    assert "no item of ring.csv has 1000 events" in capsys.readouterr().err
    assert main(["train", "--output", str(folder), *columns, "--min-item-events", "0", "--overwrite"]) == 2
    assert "min_item_events must be an integer >= 1, got 0" in capsys.readouterr().err


def test_a_bert4rec_is_trained_saved_loaded_and_asked(columns, tmp_path, capsys):
    """What it learns takes more sequences than these: see tests/training/test_cloze_task.py."""
    folder = tmp_path / "run"
    chosen = ["--model", "recattn.models.BERT4Rec", "--model.dim", "8", "--max-epochs", "1"]
    chosen += ["--task.mask_probability", "0.3"]
    assert main(["train", "--output", str(folder), *columns, *chosen]) == 0
    assert json.loads((folder / "manifest.json").read_text())["training"]["mask_probability"] == 0.3
    assert "recattn.models.BERT4Rec" in (folder / "model.yaml").read_text()
    assert main(["evaluate", str(folder)]) == 0
    capsys.readouterr()
    assert main(["recommend", str(folder), "--user", "u0", "--k", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["items"]
    assert {recommended["item"] for recommended in found} == {109, 110}
    assert all(recommended["because"] for recommended in found)


def test_own_data_with_features_and_actions_goes_through_every_command(table, tmp_path, capsys):
    events = tmp_path / "events.csv"
    names = {"1": "view", "2": "cart", "3": "buy", "4": "share", "5": "return"}
    lines = [line.split(",") for line in table.read_text().splitlines()]
    events.write_text("".join(f"{who},{what},{names.get(stars, 'does')},{when}\n" for who, what, stars, when in lines))
    items = tmp_path / "items.csv"
    items.write_text(
        "what,title,kind,size\n" + "".join(f"{100 + i},No {i},a|k{i % 3},{i * 1.5}\n" for i in range(RING))
    )
    users = tmp_path / "users.jsonl"
    users.write_text("".join(f'{{"who": "u{i}", "likes": ["x", "y{i % 2}"]}}\n' for i in range(40)))
    folder = tmp_path / "run"
    given = ["--data", str(events), "--user-column", "who", "--item-column", "what", "--time-column", "when"]
    given += ["--item-table", str(items), "--user-table", str(users), "--action-column", "does"]
    assert main(["train", "--output", str(folder), *given, "--model.dim", "8", "--max-epochs", "1"]) == 0
    written = (folder / "model.yaml").read_text()
    assert re.search(r"feature_sizes:\n +- 5\n +- 9", written)
    assert re.search(r"profile_sizes:\n +- 4\n +- 4", written)
    assert re.search(r"rating_levels:\n( +- \d.0\n){5} ", written)
    assert json.loads((folder / "features.json").read_text())["actions"] == ["buy", "cart", "return", "share", "view"]
    assert main(["evaluate", str(folder), "--json"]) == 0
    capsys.readouterr()
    history = tmp_path / "history.csv"
    history.write_text("time,item,action\n1970-01-02,104,buy\n1970-01-01,103,view\n1970-01-01,999,view\n")
    for asked in (["--user", "u0"], ["--history", "103,104"], ["--history-table", str(history)]):
        assert main(["recommend", str(folder), *asked, "--k", "1", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["items"][0]["title"].startswith("No ")
    asked = ["score", str(folder), "--candidates", "105", "--json"]
    scores = []
    for told in (["--profile", "likes=x|y1"], ["--profile", "likes=x"], ["--profile", "likes=z=w"], []):
        assert main([*asked, "--history-table", str(history), *told]) == 0
        answer = json.loads(capsys.readouterr().out)
        scores.append(answer["items"][0]["score"])
        assert "left out of the history, as the model does not know them: 999" in answer["notes"]
        strange = "unknown to the model and left out of the profile: likes 'z=w'" in answer["notes"]
        assert strange == ("likes=z=w" in told)
    assert len({round(score, 5) for score in scores}) == 3
    assert scores[2] == pytest.approx(scores[3])
    for line, wrong in (
        ("x,103,view", "neither a number nor an ISO date"),
        ("1,103,sell", "'sell' is none of the model's"),
    ):
        history.write_text(f"time,item,action\n7,104,buy\n{line}\n")
        assert main(["recommend", str(folder), "--history-table", str(history)]) == 2
        assert re.search(f"history.csv, line 3, column '(time|action)': .*{wrong}", capsys.readouterr().err)
    assert main(["recommend", str(folder), "--user", "u0", "--profile", "liks=x"]) == 2
    assert "the profile has no field 'liks'; its fields are likes" in capsys.readouterr().err
    plain = ["--no-use-features", "--no-use-profile", "--no-use-ratings", "--overwrite"]
    assert main(["train", "--output", str(folder), *given, *plain, "--model.dim", "8", "--max-epochs", "1"]) == 0
    assert re.search(
        r"rating_levels: \[\]\n.*\n +profile_sizes: \[\]\n +feature_sizes: \[\]", (folder / "model.yaml").read_text()
    )
    assert main(["train", "--output", str(folder), *given, "--rating-column", "does", "--overwrite"]) == 2
    assert "name one of them" in capsys.readouterr().err


def test_a_table_is_described_with_what_is_known_about_its_items(tmp_path, capsys):
    (tmp_path / "events.csv").write_text("user,item\na,7\n")
    (tmp_path / "items.csv").write_text("item,kind\n7,x\n5,y\n")
    assert main(["data", str(tmp_path / "events.csv"), "--item-table", str(tmp_path / "items.csv")]) == 0
    assert "1 items that no event has are left out" in capsys.readouterr().out


def test_rows_in_any_order_are_sorted_by_the_column_called_time(table, tmp_path, capsys):
    lines = table.read_text().splitlines()
    head = "user,item,rating,time,action"
    shuffled = "\n".join([head, *(f"{line},view" for line in sorted(lines[1:], reverse=True))]) + "\n"
    (tmp_path / "x.csv").write_text(shuffled)
    data = ["--data", str(tmp_path / "x.csv"), "--time-unit", "s"]
    assert main(["train", "--output", str(tmp_path / "run"), *data, *TRAIN]) == 0
    assert "columns not read: action" in capsys.readouterr().err.splitlines()
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["time_unit"] == "s"
    assert main(["recommend", str(tmp_path / "run"), "--user", "u0", "--k", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"][0]["item"] == 100 + 9
    without = ["--time-column", "", "--rating-column", "", "--action-column", ""]
    assert main(["data", str(tmp_path / "x.csv"), *without]) == 0
    assert "columns not read: rating, time, action" in capsys.readouterr().out.splitlines()


def test_a_table_is_described_by_the_flags_that_its_errors_name(table, columns, tmp_path, capsys):
    assert main(["data", str(table)]) == 2
    assert "(--user-column)" in capsys.readouterr().err
    assert main(["data", *columns[1:]]) == 0
    assert "ring.csv: 360 rows read, 360 kept; 40 users, 11 items" in capsys.readouterr().out
    (tmp_path / "x.txt").write_text("who|item|at|does\nJos\xe9|7|5000|view\n", "latin-1")
    flags = ["--delimiter", "|", "--encoding", "latin-1", "--user-column", "who", "--action-column", "does"]
    assert main(["data", str(tmp_path / "x.txt"), *flags, "--time-column", "at", "--time-unit", "ms"]) == 0
    shown = capsys.readouterr().out
    assert "actions are told apart as view 1" in shown
    assert "not read" not in shown
    assert main(["data", str(table), "--label-column", "x"]) == 2
    assert "label_column is 'x', but layout 'events' has no use for it" in capsys.readouterr().err


def test_a_yaml_file_gives_the_arguments_and_flags_override_it(columns, tmp_path, capsys):
    config = tmp_path / "din.yaml"
    config.write_text(
        "model:\n  class_path: recattn.models.DIN\n  init_args: {dim: 4, form: code}\nmax_epochs: 1\nseed: 4\n"
    )
    folder = tmp_path / "din"
    assert (
        main(["train", "--config", str(config), "--output", str(folder), *columns, "--seed", "5", "--time-unit", "ms"])
        == 0
    )
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["seed"], manifest["training"]["max_epochs"], manifest["time_unit"]) == (5, 1, "ms")
    text = (folder / "model.yaml").read_text()
    assert "ActivationUnitScorer" in text
    assert "separate_tables: false" in text


@pytest.mark.parametrize("name", ["SASRec", "recattn.SASRec", "recattn.models.SASRec", "DIN", "recattn.DIN"])
@pytest.mark.parametrize("how", ["flag", "equals", "class_path", "model"])
def test_a_model_may_have_a_short_name(tmp_path, name, how):
    from recattn.cli import _model_first, _parser

    config = tmp_path / "x.yaml"
    config.write_text(f"model: {name}\n" if how == "model" else f"model:\n  class_path: {name}\n")
    flags = {"flag": ["--model", name], "equals": [f"--model={name}"]}.get(how, ["--config", str(config)])
    given = _model_first(["train", "--output", "x", "--model.dim", "8", *flags])
    model = _parser(train=True).parse_args(given).as_dict()["train"]["model"]
    assert model["class_path"] == "recattn.models." + name.rpartition(".")[2]
    assert model["init_args"]["dim"] == 8


def test_a_yaml_file_with_an_unknown_model_is_told_in_one_line(tmp_path, capsys):
    (tmp_path / "x.yaml").write_text("model:\n  class_path: Foo\n")
    assert main(["train", "--output", "x", "--config", str(tmp_path / "x.yaml")]) == 2
    assert "'Foo' is not a model of recattn; these are: BERT4Rec" in capsys.readouterr().err.splitlines()[-1]


def test_a_yaml_file_composes_a_layer_of_a_scorer_and_a_weighting(columns, tmp_path):
    config = tmp_path / "mean.yaml"
    config.write_text(
        "model:\n  class_path: recattn.models.TargetRanker\n  init_args:\n    dim: 4\n"
        "    short_layer:\n      class_path: recattn.nn.AttentionPooling\n      init_args:\n"
        "        scorer: {class_path: recattn.nn.ConstantScorer}\n"
        "        weighting: {class_path: recattn.nn.Softmax, init_args: {temperature: 2.0}}\n"
        "max_epochs: 1\n"
    )
    folder = tmp_path / "mean"
    assert main(["train", "--config", str(config), "--output", str(folder), *columns]) == 0
    text = (folder / "model.yaml").read_text()
    assert "ConstantScorer" in text
    assert "temperature: 2.0" in text


def test_a_model_named_by_a_flag_keeps_its_own_defaults(columns, tmp_path):
    folder = tmp_path / "din"
    chosen = ["--model", "recattn.models.DIN", "--model.dim", "4", "--max-epochs", "1"]
    assert main(["train", "--output", str(folder), *columns, *chosen]) == 0
    assert "transitions: 0" in (folder / "model.yaml").read_text()


@pytest.mark.parametrize("chosen", [["--model", "recattn.models.DIN"], ["--config", "CONFIG"]])
def test_a_model_may_be_named_after_its_arguments(columns, tmp_path, chosen):
    config = tmp_path / "din.yaml"
    config.write_text("model:\n  class_path: recattn.models.DIN\n  init_args: {dim: 8}\nmax_epochs: 3\n")
    chosen = [str(config) if word == "CONFIG" else word for word in chosen]
    folder = tmp_path / "din"
    given = ["--model.dim", "4", "--max-epochs", "1", *chosen]
    assert main(["train", "--output", str(folder), *columns, *given]) == 0
    assert re.search(r"^ +dim: 4$", (folder / "model.yaml").read_text(), re.MULTILINE)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["model"], manifest["training"]["max_epochs"]) == ("recattn.models.DIN", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recommend", "RUN", "--user", "nobody"], "nobody"),
        (["recommend", "RUN", "--history", "103", "--history-table", "x.csv"], "either --history or --history-table"),
        (["recommend", "RUN", "--user", "u0", "--history-table", "x.csv"], "either user or history"),
        (["recommend", "RUN", "--history-table", "x.csv"], "x.csv: there is no such file"),
        (
            ["recommend", "RUN", "--user", "u0", "--profile", "age=3"],
            "TargetAttention was trained without and reads none",
        ),
        (
            ["score", "RUN", "--user", "u0", "--candidates", "100", "--profile", "a=b,3"],
            "'3' is not field=value; .* quoted",
        ),
        (["recommend", "RUN", "--user", "u0", "--profile", "=3"], "'=3' is not field=value"),
        (["recommend", "RUN", "--user", "u0", "--profile", "a=1,a=2"], "a is given twice"),
        (["recommend", "RUN", "--user", "u0", "--profile", '"a=1'], "cannot be read .unexpected end"),
        (["recommend", "RUN"], "either user or history"),
        (["recommend", "RUN", "--user", "u0", "--k", "0"], "k must be"),
        (["score", "RUN", "--user", "u0", "--candidates", "100,31337"], "31337"),
        (["recommend", "missing", "--user", "u0"], "no saved model"),
        (["evaluate", "missing"], "no saved model"),
        (["evaluate", "RUN", "--delimiter", ","], "delimiter is ',', but there is no table to read"),
        (["evaluate", "RUN", "--catalogue"], "catalogue: .* was trained to rank the whole catalogue"),
        (["train", "--output", "x", "COLUMNS", "--time-column", "", "--time-unit", "s"], "no column of times is read"),
        (["data", "TABLE", "--user-column", "what", "--item-column", "what"], "are both 'what'"),
        (["train", "--output", "RUN"], "--overwrite"),
        (["train", "--output", "x", "--data", "ml-100m"], "ml-100m"),
        (["train", "--output", "x", "--data", "missing.csv"], r"missing\.csv"),
        (["train", "--output", "x", "--data", "TABLE"], "user"),
        (
            [
                "train",
                "--output",
                "x",
                *["--data", "TABLE", "--user-column", "who", "--item-column", "what", "--model.dim", "7"],
            ],
            "num_heads",
        ),
        (["data", "ml-100m"], "ml-100m"),
        (
            ["train", "--output", "x", "--model", "recattn.models.Foo"],
            "'recattn.models.Foo' is not a model.*: BERT4Rec",
        ),
        (["train", "--output", "x", "--model=Foo"], "'Foo' is not a model of recattn; these are: BERT4Rec"),
        (["train", "--output", "x", "COLUMNS", "--task.loss", "bce"], "set it by --loss"),
        (
            ["train", "--output", "x", "COLUMNS", "--objective", "clicks", "--task.loss", "bce"],
            "loss is no argument of ClickTask",
        ),
        (["train", "--output", "x", "COLUMNS", "--task.heat", "2"], "heat is no argument of RankingTask; it takes"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_status_2(
    arguments, message, columns, run, table, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    meant = {"RUN": [str(run)], "TABLE": [str(table)], "COLUMNS": columns}
    given = [word for argument in arguments for word in meant.get(argument, [argument])]
    assert main(given) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("recattn: ")
    assert re.search(message, said[-1])


@pytest.mark.parametrize("arguments", [["fly"], ["train"], ["train", "--output", "x", "--model.depth", "3"], []])
def test_wrong_arguments_exit_with_status_2(arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_an_interrupted_training_goes_on_and_ends_the_same(columns, run, tmp_path, monkeypatch):
    from recattn.data import windows

    folder = tmp_path / "ring"
    arguments = ["train", "--output", str(folder), *columns, *TRAIN]
    whole = windows.SequenceLoader.__iter__
    calls = []

    def interrupted(loader):
        calls.append(loader)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(loader)

    monkeypatch.setattr(windows.SequenceLoader, "__iter__", interrupted)
    assert main(arguments) == 130
    assert not folder.exists(), "nothing half-written"
    monkeypatch.undo()
    assert main(arguments) == 2, "an interrupted training is not dropped without being asked"
    assert main([*arguments, "--resume"]) == 0
    assert (folder / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["ring"], "checkpoints are gone"


def test_the_command_is_installed_and_lists_what_it_can():
    done = subprocess.run([sys.executable, "-m", "recattn.cli", "--help"], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in ("data", "train", "evaluate", "recommend", "score"))


def test_ids_of_any_text_are_asked_for(run, capsys):
    for user in ("#5", "~", "null"):
        assert main(["recommend", str(run), f"--user={user}"]) == 2
        assert f"unknown id {user!r}" in capsys.readouterr().err


def test_null_in_a_yaml_file_is_what_is_not_given(columns, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("item_table: null\ntime_unit: null\nsamples: null\nlayout: null\nmax_epochs: 1\n")
    assert main(["train", "--config", str(config), "--output", str(tmp_path / "run"), *columns]) == 0
    assert "time_unit" not in json.loads((tmp_path / "run" / "manifest.json").read_text())


def test_a_table_shows_ids_as_they_are(capsys):
    shown = make_table("id", "title")
    shown.add_row("urn:book:123", "[b] :cd:")
    out.print(shown)
    assert "urn:book:123" in (printed := capsys.readouterr().out)
    assert "[b] :cd:" in printed


def test_a_result_is_not_called_as_a_baseline(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(run)
    assert main(["evaluate", ".", "--output", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["ring.json"]
    (tmp_path / "ease").symlink_to(run)  # resolved: it is the run that counts
    assert main(["evaluate", str(tmp_path / "ease"), "--baselines", "--output", str(tmp_path)]) == 0
    copied = tmp_path / "popularity"
    shutil.copytree(run, copied)
    assert main(["evaluate", str(copied), "--baselines", "--output", str(tmp_path)]) == 2
    assert "one of the baselines" in capsys.readouterr().err
