"""Click tables through every command: written from histories, trained on, measured, asked with raw ids."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

import recattn
from recattn.cli import main
from recattn.data import Interactions, encode, leave_last, make_clicks, with_features
from recattn.data.click_tables import read_click_table, write_click_table
from recattn.evaluation import predict_table
from recattn.serving import load_artefact

TRAIN = ["--model.dim", "4", "--model.readout_dims", "[13]", "--max-epochs", "6", "--batch-size", "64"]
FAST = [*TRAIN, "--learning-rate", "0.03", "--task.warmup_steps", "5"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    """Films of three genres; users see mostly films of their own, and only these they like."""
    rng = np.random.default_rng(0)
    films = np.arange(61)
    genres = np.array(["Drama|War", "Comedy", "Horror"])[films % 3]
    rows = []
    for user in range(83):
        own = films % 3 == user % 3
        seen = rng.choice(films, 13, replace=False, p=(1 + 4 * own) / (1 + 4 * own).sum())
        rows += [(f"u{user}", 500 + film, 2.0 + 3 * own[film], 1000 * user + step) for step, film in enumerate(seen)]
    items = pd.DataFrame({"item": 500 + films, "genres": genres})
    frame = pd.DataFrame(rows, columns=["user", "item", "rating", "time"])
    interactions = Interactions.from_frame(frame, items=items, rating_column="rating", time_column="time")
    encoded = encode(interactions)
    split, encoders = with_features(leave_last(encoded.histories, share=0.3), interactions)
    clicks, folder = make_clicks(split), tmp_path_factory.mktemp("tables")
    for part in ("train", "validation", "test"):
        samples = getattr(clicks, part)
        path = folder / f"{part}.csv"
        columns = (samples.users, samples.visible, samples.items, samples.labels)
        names = {"user_ids": encoded.users, "item_ids": encoded.items, "encoder": encoders.items}
        write_click_table(path, split.histories, *columns, **names, max_length=9)
        pd.read_csv(path, dtype=str).assign(hour=np.arange(len(samples)) % 24).to_csv(path, index=False)
    return folder


@pytest.fixture(scope="module")
def command(tables) -> list[str]:
    return [
        "--layout",
        "clicks",
        "--data",
        str(tables / "train.csv"),
        "--validation-table",
        str(tables / "validation.csv"),
    ]


@pytest.fixture(scope="module")
def run(command, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "din"
    assert main(["train", "--output", str(folder), *command, *FAST]) == 0
    return folder


def measured(arguments, capsys):
    capsys.readouterr()
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    return result


def test_a_saved_model_is_measured_on_another_table_as_scikit_learn_does(run, tables, capsys, tmp_path):
    path = tables / "test.csv"
    result = measured([run, "--data", path, "--plot", tmp_path / "c.png", "--output", tmp_path], capsys)
    assert (tmp_path / "c.png").exists()
    assert json.loads((tmp_path / "din.json").read_text())["metrics"] == result["metrics"]
    frame, artefact = pd.read_csv(path), load_artefact(run)
    table = read_click_table(path, fitted=artefact.table)
    logits = predict_table(artefact.model, table, max_length=50)
    chances = 1 / (1 + np.exp(-logits))
    means = {name: metric["mean"] for name, metric in result["metrics"].items()}
    assert means["auc"] == pytest.approx(roc_auc_score(frame["label"], logits))
    assert means["auc"] > 0.75
    assert means["log_loss"] == pytest.approx(log_loss(frame["label"], chances))
    assert means["calibration"] == pytest.approx(chances.sum() / frame["label"].sum())
    of_users = [
        (len(rows), roc_auc_score(rows["label"], rows["logit"]))
        for _, rows in frame.assign(logit=logits).groupby("user_id")
        if rows["label"].nunique() == 2
    ]
    sizes, areas = map(np.array, zip(*of_users, strict=True))
    assert means["gauc"] == pytest.approx((sizes * areas).sum() / sizes.sum())
    assert all(metric["low"] <= metric["mean"] <= metric["high"] for metric in result["metrics"].values())
    assert (result["users"], result["interactions"]) == (frame["user_id"].nunique(), len(frame))
    assert (result["data"], result["split"], result["split_hash"]) == (str(path), "click_table", table.hash)
    assert result["clicks"]["labels"] == "column 'label'"
    assert result["model"] == "recattn.models.DIN"


def test_the_model_reads_features_and_context_of_the_table(run, command):
    arguments = recattn.load(run).model
    assert (arguments.feature_sizes, arguments.context_sizes) == ((4,), (9,))
    manifest = json.loads((run / "manifest.json").read_text())
    assert {"objective": "clicks", "monitor": "gauc"}.items() <= manifest["training"].items()
    assert manifest["split"]["arguments"] == {"validation_table": command[5], "validation_share": None}


def test_what_is_new_in_a_table_is_known_by_its_features(run, tables, tmp_path, capsys):
    """All films under ids that training does not have: what the genres tell is still told."""
    frame = pd.read_csv(tables / "test.csv", dtype=str, keep_default_na=False)
    frame["user_id"] = "new-" + frame["user_id"]
    frame["item_id"] = "9" + frame["item_id"]
    frame["item_history"] = ["^".join("9" + item for item in text.split("^")) for text in frame["item_history"]]
    frame.to_csv(tmp_path / "new.csv", index=False)
    assert main(["evaluate", str(run), "--data", str(tmp_path / "new.csv")]) == 0
    assert f"{len(frame):,} candidates" in capsys.readouterr().out.splitlines()[-1]
    found = measured([run, "--data", tmp_path / "new.csv"], capsys)
    assert found["metrics"]["auc"]["mean"] > 0.75
    assert found["users"] == frame["user_id"].nunique()


def test_a_loaded_model_answers_with_raw_ids(run, capsys):
    assert main(["recommend", str(run), "--history", "501,504,777", "--k", "50", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert all(500 <= entry["item"] < 561 for entry in answer["items"])
    assert "777" in answer["notes"][0]
    assert main(["score", str(run), "--history", "501,504,507", "--candidates", "510,511", "--json"]) == 0
    same, other = json.loads(capsys.readouterr().out)["items"]
    assert (same["item"], other["item"]) == (510, 511)
    assert same["score"] > other["score"]
    assert main(["recommend", str(run), "--user", "u5", "--k", "3", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["items"]) == 3
    everybody = recattn.load(run).recommend_many(k=2)
    assert everybody["item"].between(500, 560).all()
    assert set(everybody["user"]) <= {f"u{n}" for n in range(83)}


def test_the_context_of_a_request_is_told_in_raw_values(run, tables, capsys):
    """A candidate's score is the logit of the row that says the same."""
    frame, artefact = pd.read_csv(tables / "test.csv", dtype=str).head(30), load_artefact(run)
    logits = predict_table(artefact.model, read_click_table(tables / "test.csv", fitted=artefact.table), max_length=50)
    model, without = recattn.load(run), []
    for row, logit in zip(frame.itertuples(), logits[: len(frame)], strict=True):
        asked = {"history": row.item_history.split("^"), "num_reasons": 2}
        found = model.score([row.item_id], context={"hour": row.hour}, **asked)
        assert found.items[0].score == pytest.approx(logit, abs=1e-5)
        assert found.notes == []
        without.append(model.score([row.item_id], **asked))
    assert np.abs([answer.items[0].score - x for answer, x in zip(without, logits, strict=False)]).max() > 1e-3
    assert without[0].notes == ["not told of the request, so that it counts as unknown: hour"]
    assert "counts as unknown: hour" in model.recommend(history=[501]).notes[0]
    assert model.score([501], history=[501], context={"hour": "x"}).notes == [
        "unknown to the model and left out of the context: hour 'x'"
    ]
    asked = ["score", str(run), "--history", "501,504", "--candidates", "510", "--json"]
    capsys.readouterr()
    assert main([*asked, "--context", "hour=7"]) == 0
    told = json.loads(capsys.readouterr().out)["items"][0]["score"]
    assert told == pytest.approx(model.score([510], history=[501, 504], context={"hour": 7}).items[0].score)
    assert main([*asked, "--context", "minute=7"]) == 2
    assert "the context has no field 'minute'; its fields are hour" in capsys.readouterr().err


def test_seeds_are_averaged(run, command, tables, tmp_path, capsys):
    other = tmp_path / "other"
    assert main(["train", "--output", str(other), *command, *FAST, "--seed", "3"]) == 0
    one, two = (measured([each, "--data", tables / "test.csv"], capsys) for each in (run, other))
    both = measured([run, other, "--data", tables / "test.csv"], capsys)
    assert both["seeds"] == [0, 3]
    assert both["metrics"]["auc"]["mean"] == pytest.approx(
        (one["metrics"]["auc"]["mean"] + two["metrics"]["auc"]["mean"]) / 2
    )


def test_a_share_of_the_users_may_choose_the_epoch_and_columns_have_any_name(tables, tmp_path, capsys):
    frame = pd.read_csv(tables / "train.csv", dtype=str, keep_default_na=False)
    frame = frame.drop(columns=["genres_id", "genres_history"]).assign(junk="x")
    frame["item_history"] = frame["item_history"].str.replace("^", " ")
    named = {"label": "clk", "user_id": "who", "item_id": "what", "item_history": "had"}
    frame.rename(columns=named).to_csv(tmp_path / "t.txt", index=False, sep=";")
    columns = ["--user-column", "who", "--item-column", "what", "--label-column", "clk", "--history-column", "had"]
    columns += [
        "--history-separator",
        " ",
        "--delimiter",
        ";",
        "--ignored-columns",
        "junk",
        "--context-columns",
        "hour",
    ]
    train = ["train", "--layout=clicks", "--data", str(tmp_path / "t.txt"), *columns, "--validation-share", "0.2"]
    assert main([*train, *FAST, "--output", str(tmp_path / "run")]) == 0
    assert "features of items are not used" not in capsys.readouterr().err
    found = measured([tmp_path / "run", "--data", tmp_path / "t.txt", "--delimiter", ";"], capsys)
    assert found["users"] == frame["user_id"].nunique()
    assert recattn.load(tmp_path / "run").model.context_sizes == (9,)


def test_other_models_do_without_what_they_do_not_read(command, tables, tmp_path, capsys):
    chosen = ["--model", "recattn.models.SASRec", "--model.dim", "4", "--max-epochs", "1", "--no-use-features"]
    assert main(["train", "--output", str(tmp_path / "sasrec"), *command, *chosen]) == 0
    assert "the context of the rows is not used: the model reads none" in capsys.readouterr().err
    assert "auc" in measured([tmp_path / "sasrec", "--data", tables / "test.csv"], capsys)["metrics"]


def test_a_click_table_is_described(command, tables, tmp_path, capsys):
    assert main(["data", str(tables / "train.csv"), "--layout", "clicks"]) == 0
    shown = capsys.readouterr().out
    assert shown.strip() == str(read_click_table(tables / "train.csv"))
    frame = pd.read_csv(tables / "train.csv", dtype=str).rename(columns={"label": "clk", "user_id": "who"})
    frame.to_csv(tmp_path / "x.tsv", index=False, sep="\t")
    named = ["--label-column", "clk", "--user-column", "who", "--ignored-columns", "hour"]
    assert main(["data", str(tmp_path / "x.tsv"), "--layout", "clicks", *named]) == 0
    assert capsys.readouterr().out == shown
    assert main(["data", str(tmp_path / "x.tsv"), "--layout", "clicks", "--time-column", "hour"]) == 2
    assert "time_column is 'hour', but layout 'clicks' has no use for it" in capsys.readouterr().err
    assert main(["data", str(tmp_path / "x.tsv"), "--layout", "clicks", "--no-verify"]) == 2
    assert "verify is False, but layout 'clicks' has no use for it" in capsys.readouterr().err


def test_a_broken_off_training_goes_on(command, run, tmp_path, interrupted_validation):
    from recattn.training import ClickTask

    folder = ["--output", str(tmp_path / "run")]
    with interrupted_validation(ClickTask, 2):
        assert main(["train", *folder, *command, *FAST]) == 130
    assert main(["train", *folder, *command, *FAST, "--resume"]) == 0
    one, other = (recattn.load(folder).model.state_dict() for folder in (run, tmp_path / "run"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def line(arguments, capsys):
    capsys.readouterr()
    assert main(list(map(str, arguments))) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()[-1:]
    return said


def test_mistakes_are_told_in_one_line(command, tables, tmp_path, capsys):
    train = ["train", "--output", tmp_path / "run", *TRAIN]
    data = command[:4]
    cases = [
        (data, "give either validation_table"),
        ([*command, "--validation-share", "0.1"], "give either validation_table"),
        ([*data, "--validation-share", "2"], "validation_share must be between 0 and 1, got 2.0"),
        ([*data, "--validation-table", tmp_path / "no.csv"], "no.csv: there is no such file"),
        ([*command, "--label-column", "clk"], "there is no column 'clk', which label names"),
        ([*command, "--rating-column", "hour"], "rating_column is 'hour', but layout 'clicks' has no use for it"),
        ([*command, "--threshold", "3"], "threshold is 3.0, but layout 'clicks' has no use for it"),
        ([*command, "--loss", "bce"], "loss is 'bce', but objective 'clicks' has no use for it"),
        ([*command, "--objective", "next_item"], "objective is 'next_item', but layout 'clicks' has no use for it"),
        ([*command, "--ties", "random"], "ties is 'random', but layout 'clicks' has no use for it"),
        ([*command, "--no-verify"], "verify is False, but layout 'clicks' has no use for it"),
        (
            ["--data", tables / "train.csv", "--label-column", "x"],
            "label_column is 'x', but layout 'events' has no use",
        ),
    ]
    for arguments, message in cases:
        assert message in line([*train, *arguments], capsys)
    dot = ["--model", "recattn.models.TargetAttention", *command]
    assert "a dot product reads no context" in line(["train", "--output", tmp_path / "run", *dot], capsys)
    frame = pd.read_csv(tables / "train.csv", dtype=str, keep_default_na=False)
    frame.assign(label="1").to_csv(tmp_path / "ones.csv", index=False)
    frame.assign(label=["2", *frame["label"][1:]]).to_csv(tmp_path / "two.csv", index=False)
    ones = [*data[:2], "--data", tmp_path / "ones.csv", *command[4:]]
    assert "labels of the train rows are 1: both are needed" in line([*train, *ones], capsys)
    two = [*data, "--validation-table", tmp_path / "two.csv"]
    assert "two.csv, line 2, column 'label': the label '2' is not 0 or 1" in line([*train, *two], capsys)
    assert not (tmp_path / "run").exists()


def test_mistakes_of_measuring_are_told_in_one_line(run, tables, tmp_path, capsys):
    test = ["--data", tables / "test.csv"]
    cases = [
        ([], "was trained on a click table: name one to measure it on (--data)"),
        ([*test, "--baselines"], "is measured on the rows of"),
        ([*test, "--catalogue"], "is measured on the rows of"),
        ([*test, "--part", "validation"], "is measured on the rows of"),
        ([*test, "--retriever", "ease"], "is measured on the rows of"),
        (["--data", tmp_path / "no.csv"], "no.csv: there is no such file"),
    ]
    for arguments, message in cases:
        assert message in line(["evaluate", run, *arguments], capsys)
    frame = pd.read_csv(tables / "test.csv", dtype=str, keep_default_na=False)
    frame.drop(columns="hour").to_csv(tmp_path / "narrow.csv", index=False)
    assert "narrow.csv, line 1: features" in line(["evaluate", run, "--data", tmp_path / "narrow.csv"], capsys)
    frame.assign(label="0").to_csv(tmp_path / "zeros.csv", index=False)
    assert "labels are equal: AUC needs" in line(["evaluate", run, "--data", tmp_path / "zeros.csv"], capsys)
    assert "it takes no retriever" in line(["recommend", run, "--retriever", "ease", "--history", "501"], capsys)
    assert "unknown id 'nobody'" in line(["recommend", run, "--user", "nobody"], capsys)
