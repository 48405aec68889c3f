"""A trained model as a folder that explains itself: written whole or not at all, checked file by file when loaded."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from recattn.data import (
    Clicks,
    Encoders,
    FeatureEncoder,
    Histories,
    Split,
    Vocabulary,
    read_clicks,
    splits,
    write_clicks,
)
from recattn.data.click_tables import ClickVocabulary
from recattn.data.ragged import offsets_of
from recattn.data.with_features import with_codes
from recattn.errors import ArtefactError, ConfigError, RecattnError
from recattn.models import Ranker, build_ranker, describe

FORMAT = 1
FILES = ("model.safetensors", "model.yaml", "vocabulary.parquet", "histories.parquet", "features.json")
CLICKS = "clicks.parquet"
"""The samples of a model that was trained on clicks; others have no such file."""


@dataclass(frozen=True)
class Artefact:
    """A model and all that it takes to use it on raw ids.

    model: in evaluation mode. users, items: the vocabularies, with titles. histories: what the users did, the profile
    codes and the items' features included. encoders: how raw profiles and features were coded.
    manifest: where it came from: data, split, seed, metrics, versions and the training command.
    clicks: the samples that it was trained on and is to be measured on; None for a model of next items.
    table: of a model that was trained on a click table how other tables are read, None otherwise. The histories are
        then each user's longest one, and the catalogue goes on after the items with numbers for those never met.
    """

    model: Ranker
    users: Vocabulary
    items: Vocabulary
    histories: Histories
    encoders: Encoders
    manifest: Mapping[str, Any]
    clicks: Clicks | None = None
    table: ClickVocabulary | None = None

    @cached_property
    def split(self) -> Split:
        """The split that the model was trained on, made again from the histories.

        Raises ArtefactError when it is not the one in the manifest, ConfigError for a model of a click table.
        """
        if self.table is not None:
            raise ConfigError("the model was trained on a click table: there is no split of histories, only its rows")
        wanted = self.manifest["split"]
        split: Split = getattr(splits, wanted["name"])(self.histories, **wanted["arguments"])
        if split.hash != wanted["hash"]:
            raise ArtefactError("the saved histories do not give the split that the model was trained on")
        return split


def save_artefact(folder: str | Path, artefact: Artefact, *, overwrite: bool = False) -> None:
    """Write the folder under another name beside its place, then rename it.

    Raises ArtefactError when the place is taken (see `check_place`) or cannot be written (a full disk); what was there
    before is then still there.
    """
    folder = Path(folder).resolve()
    check_place(folder, overwrite=overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _write(fresh, artefact)
            fresh.chmod(0o755)
            if folder.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
                folder.rename(old / folder.name)
                fresh.rename(folder)
                shutil.rmtree(old)
            else:
                fresh.rename(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"{folder} could not be written: {error}") from error


def check_place(folder: str | Path, *, overwrite: bool) -> None:
    """Raise ArtefactError unless a model may be saved as this folder.

    It may where nothing is, in an empty folder, and with ``overwrite`` in place of a saved model; a folder that holds
    anything else is never replaced.
    """
    folder = Path(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / "manifest.json").is_file():
        raise ArtefactError(f"{folder} exists and is no saved model: choose another folder")
    if not overwrite:
        raise ArtefactError(f"{folder} exists: choose another folder, or allow it to be overwritten (--overwrite)")


def load_artefact(folder: str | Path) -> Artefact:
    """Read a folder that `save_artefact` wrote, after checking every file against the manifest's sums.

    Only classes of recattn are built, and no code is run from the folder.
    Raises ArtefactError naming the file that is missing, changed or from a newer format.
    """
    folder = Path(folder)
    manifest = _read_manifest(folder)
    clicked = CLICKS in manifest["files"]
    for name in (*FILES, *[CLICKS] * clicked):
        path = folder / name
        if not path.is_file():
            raise ArtefactError(f"{path} is missing: the saved model is incomplete")
        if _sha256(path) != manifest["files"].get(name):
            raise ArtefactError(f"{path} has changed since it was saved, or was damaged: train again or copy it again")
    try:
        model = build_ranker(yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8")))
        items = Vocabulary.from_frame(pd.read_parquet(folder / "vocabulary.parquet"))
        features = json.loads((folder / "features.json").read_text(encoding="utf-8"))
        encoders = Encoders(
            _encoder(features["profile"]), _encoder(features.get("items")), tuple(features.get("actions", ()))
        )
        users, histories = _read_histories(folder / "histories.parquet", len(items), encoders.users)
        histories = _with_features(histories, folder / "vocabulary.parquet", encoders.items)
        table = _table(features.get("table"), users, items, encoders.items, histories)
        if table is not None:
            known = table.codes if table.features else None
            histories = replace(histories, num_items=table.num_items, features=known)
        load_model(model, folder / "model.safetensors")
        clicks = read_clicks(folder / CLICKS, manifest["split"]["hash"]) if clicked else None
    except (RecattnError, SafetensorError, RuntimeError, ValueError, KeyError, OSError, yaml.YAMLError) as error:
        raise ArtefactError(f"{folder} can't be loaded: {error}") from error
    return Artefact(model.eval(), users, items, histories, encoders, manifest, clicks, table)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        raise ArtefactError(f"{folder} is no saved model: it has no manifest.json")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        known = int(manifest["format"])
        sums = dict(manifest["files"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(f"{path} is damaged: {error!r}") from error
    if known > FORMAT:
        raise ArtefactError(f"{path} has format {known}, this recattn reads up to {FORMAT}: install a newer recattn")
    return {**manifest, "files": sums}


def _write(folder: Path, artefact: Artefact) -> None:
    save_model(artefact.model, str(folder / "model.safetensors"))
    (folder / "model.yaml").write_text(yaml.safe_dump(describe(artefact.model), sort_keys=False), encoding="utf-8")
    # safetensors writes for the owner alone; whoever may read the other files may load the model.
    (folder / "model.safetensors").chmod((folder / "model.yaml").stat().st_mode)
    catalogue = artefact.items.to_frame()
    if artefact.histories.features is not None:
        catalogue["features"] = list(artefact.histories.features[1 : len(catalogue) + 1])
    catalogue.to_parquet(folder / "vocabulary.parquet")
    _write_histories(folder / "histories.parquet", artefact.users, artefact.histories)
    encoders = artefact.encoders
    profile, items = (None if encoder is None else encoder.to_dict() for encoder in (encoders.users, encoders.items))
    features = {"profile": profile, "items": items, "actions": encoders.actions}
    if artefact.table is not None:
        features["table"] = artefact.table.to_dict()
    (folder / "features.json").write_text(json.dumps(features, indent=1), encoding="utf-8")
    names = list(FILES)
    if artefact.clicks is not None:
        write_clicks(folder / CLICKS, artefact.clicks)
        names.append(CLICKS)
    sums = {name: _sha256(folder / name) for name in names}
    manifest = {"format": FORMAT, **artefact.manifest, "files": sums}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")


def _write_histories(path: Path, users: Vocabulary, histories: Histories) -> None:
    """One row a user: its raw id and profile codes, and its events as lists."""
    offsets = pa.array(histories.offsets, pa.int64())
    columns: dict[str, Any] = {"user": users.decode(np.arange(1, len(users) + 1))}
    for name in ("items", "times", "ratings"):
        values = getattr(histories, name)
        if values is not None:
            columns[name] = pa.LargeListArray.from_arrays(offsets, pa.array(values))
    if histories.profile is not None:
        columns["profile"] = list(histories.profile)
    pq.write_table(pa.table(columns), path)


def _encoder(data: dict[str, Any] | None) -> FeatureEncoder | None:
    return None if data is None else FeatureEncoder.from_dict(data)


def _with_features(histories: Histories, path: Path, encoder: FeatureEncoder | None) -> Histories:
    if encoder is None:
        return histories
    codes = np.stack(pd.read_parquet(path, columns=["features"])["features"].tolist()).astype(np.int32)
    return with_codes(histories, codes, encoder)


def _table(
    data: dict[str, Any] | None, users: Vocabulary, items: Vocabulary, encoder: FeatureEncoder | None, known: Histories
) -> ClickVocabulary | None:
    """How click tables are read, where the model was trained on one."""
    if data is None:
        return None
    codes = np.zeros((len(items) + 1, 0), np.int32) if known.features is None else known.features
    return ClickVocabulary.from_dict(data, users, items, () if encoder is None else encoder.fields, codes)


def _read_histories(path: Path, num_items: int, encoder: FeatureEncoder | None) -> tuple[Vocabulary, Histories]:
    table = pq.read_table(path)
    lists = {
        name: table.column(name).combine_chunks()
        for name in ("items", "times", "ratings")
        if name in table.column_names
    }
    flat = {name: values.flatten().to_numpy() for name, values in lists.items()}
    lengths = pa.compute.list_value_length(lists["items"]).to_numpy()
    profile = None
    if encoder is not None:
        profile = np.stack(table.column("profile").to_pandas().tolist()).astype(np.int32)
    users = Vocabulary(table.column("user").to_pylist())
    return users, Histories(
        items=flat["items"],
        offsets=offsets_of(lengths),
        num_items=num_items,
        times=flat.get("times"),
        ratings=flat.get("ratings"),
        profile=profile,
        profile_sizes=() if encoder is None else encoder.column_sizes,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
