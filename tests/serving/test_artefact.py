import errno
import json
import os
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recattn.batch import History
from recattn.data import make_clicks
from recattn.errors import ArtefactError
from recattn.models import DIN
from recattn.serving import artefact as module
from recattn.serving import load_artefact, save_artefact

HISTORY = History(torch.tensor([[3, 5, 4]]), torch.tensor([3]))


def test_a_saved_model_comes_back_whole(artefact, tmp_path):
    save_artefact(tmp_path / "run", artefact)
    loaded = load_artefact(tmp_path / "run")
    assert loaded.users == artefact.users
    assert loaded.items == artefact.items
    assert loaded.split.hash == artefact.split.hash
    assert loaded.manifest["data"] == "ring"
    assert torch.equal(loaded.model.score_all(HISTORY), artefact.model.score_all(HISTORY))
    assert not loaded.model.training


def test_tables_shared_inside_a_model_stay_shared(artefact, tmp_path):
    model = DIN(artefact.model.num_items, dim=4).eval()
    save_artefact(tmp_path / "run", replace(artefact, model=model))
    loaded = load_artefact(tmp_path / "run").model
    assert loaded.query_table is loaded.value_table
    assert torch.equal(loaded.score_all(HISTORY), model.score_all(HISTORY))


def test_nothing_in_the_folder_is_a_pickle(artefact, tmp_path):
    save_artefact(tmp_path / "run", artefact)
    assert sorted(path.suffix for path in (tmp_path / "run").iterdir()) == sorted(
        [".safetensors", ".yaml", ".parquet", ".parquet", ".json", ".json"]
    )


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_all_files_may_be_read_by_the_same_accounts(artefact, tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        save_artefact(tmp_path / "run", artefact)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "run").iterdir()} == {mode}


def test_samples_of_clicks_come_back_and_are_checked_like_the_other_files(artefact, tmp_path):
    clicks = make_clicks(artefact.split, negatives=2)
    save_artefact(tmp_path / "run", replace(artefact, clicks=clicks))
    found = load_artefact(tmp_path / "run").clicks
    assert (found.labels, found.hashes, found.split_hash) == (clicks.labels, clicks.hashes, clicks.split_hash)
    path = tmp_path / "run" / "clicks.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"clicks\.parquet has changed"):
        load_artefact(tmp_path / "run")
    path.unlink()
    with pytest.raises(ArtefactError, match=r"clicks\.parquet is missing"):
        load_artefact(tmp_path / "run")


def test_samples_of_another_split_are_refused(artefact, tmp_path):
    clicks = replace(make_clicks(artefact.split, negatives=2), split_hash="0" * 64)
    save_artefact(tmp_path / "run", replace(artefact, clicks=clicks))
    with pytest.raises(ArtefactError, match=r"can't be loaded: .*belong to the split 000000000000"):
        load_artefact(tmp_path / "run")


def test_a_model_of_next_items_has_no_samples(artefact, tmp_path):
    save_artefact(tmp_path / "run", artefact)
    assert load_artefact(tmp_path / "run").clicks is None
    assert not (tmp_path / "run" / "clicks.parquet").exists()


@pytest.mark.parametrize("name", module.FILES)
def test_each_missing_file_is_named(artefact, tmp_path, name):
    save_artefact(tmp_path / "run", artefact)
    (tmp_path / "run" / name).unlink()
    with pytest.raises(ArtefactError, match=name):
        load_artefact(tmp_path / "run")


@pytest.mark.parametrize("name", module.FILES)
def test_each_changed_file_is_named(artefact, tmp_path, name):
    save_artefact(tmp_path / "run", artefact)
    path = tmp_path / "run" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=f"{name} has changed"):
        load_artefact(tmp_path / "run")


def test_a_folder_that_is_no_model_is_said_to_be_none(tmp_path):
    with pytest.raises(ArtefactError, match="no saved model"):
        load_artefact(tmp_path)


def test_a_newer_format_is_refused(artefact, tmp_path):
    save_artefact(tmp_path / "run", artefact)
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text()) | {"format": module.FORMAT + 1}
    path.write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match="install a newer recattn"):
        load_artefact(tmp_path / "run")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "x"}', '{"format": 1, "files": 3}'])
def test_a_damaged_manifest_is_named(artefact, tmp_path, text):
    save_artefact(tmp_path / "run", artefact)
    (tmp_path / "run" / "manifest.json").write_text(text)
    with pytest.raises(ArtefactError, match=r"manifest\.json is damaged"):
        load_artefact(tmp_path / "run")


@pytest.mark.parametrize("class_path", ["os.system", "recattn.cli.main", "builtins.eval", "recattn.nn.DotScorer"])
def test_only_models_of_recattn_are_built(artefact, tmp_path, class_path):
    save_artefact(tmp_path / "run", artefact)
    (tmp_path / "run" / "model.yaml").write_text(f"class_path: {class_path}\ninit_args: {{}}\n")
    manifest_path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    manifest["files"]["model.yaml"] = module._sha256(tmp_path / "run" / "model.yaml")
    manifest_path.write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match=class_path.rpartition(".")[2]):
        load_artefact(tmp_path / "run")


def test_an_existing_folder_is_kept_unless_overwriting_is_allowed(artefact, tmp_path):
    save_artefact(tmp_path / "run", artefact)
    other = replace(artefact, manifest={**artefact.manifest, "seed": 9})
    with pytest.raises(ArtefactError, match="exists"):
        save_artefact(tmp_path / "run", other)
    assert load_artefact(tmp_path / "run").manifest["seed"] == 0
    save_artefact(tmp_path / "run", other, overwrite=True)
    assert load_artefact(tmp_path / "run").manifest["seed"] == 9


def test_a_folder_of_other_things_is_never_replaced(artefact, tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(ArtefactError, match="is no saved model"):
        save_artefact(tmp_path, artefact, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "keep me"


def test_an_empty_folder_is_filled(artefact, tmp_path):
    (tmp_path / "run").mkdir()
    save_artefact(tmp_path / "run", artefact)
    assert load_artefact(tmp_path / "run").manifest["seed"] == 0


def test_a_full_disk_leaves_the_old_model_and_no_rest(artefact, tmp_path, monkeypatch):
    save_artefact(tmp_path / "run", artefact)

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.pq, "write_table", full)
    with pytest.raises(ArtefactError, match="No space left"):
        save_artefact(tmp_path / "run", artefact, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert torch.equal(load_artefact(tmp_path / "run").model.score_all(HISTORY), artefact.model.score_all(HISTORY))


def test_a_disk_that_is_full_at_the_weights_is_one_error_too(artefact, tmp_path):
    limit, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(ArtefactError, match="could not be written"):
            save_artefact(tmp_path / "run", artefact)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert not any(tmp_path.iterdir())


def test_histories_that_do_not_give_the_split_are_refused(artefact, tmp_path):
    other = dict(artefact.manifest)
    other["split"] = {**other["split"], "hash": "0" * 64}
    save_artefact(Path(tmp_path) / "run", replace(artefact, manifest=other))
    with pytest.raises(ArtefactError, match="do not give the split"):
        _ = load_artefact(tmp_path / "run").split
