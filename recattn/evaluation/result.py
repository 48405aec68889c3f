"""The result of one evaluation as a JSON file: what ``experiments/`` keeps and the README's tables are made from."""

import json
import math
import os
import re
import tempfile
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from recattn.errors import ConfigError, DataError


@dataclass(frozen=True)
class Result:
    """One run, with all that is needed to read its numbers rightly and to make them again.

    data: name of the data set, or the path it was read from.
    users, items, interactions: its size after filtering.
    split, split_hash: the split's name and hash; numbers of different hashes are not comparable.
    ties: how events of one second were ordered, "file" or "random".
    candidates: what each target was ranked against, in words (``Evaluation.candidates``).
    model: class path or name; arguments: what its constructor was given.
    time_aware: whether the model was told when each target happened.
    seeds: of the trainings that the metrics come from.
    metrics: name -> mean, low, high.
    train_seconds, peak_rss_mb: None where not measured.
    hardware, versions: :func:`recattn.evaluation.hardware` and :func:`recattn.evaluation.versions`, of the training
        (the first seed's); of a floor of the evaluation.
    command: the command line that makes this file again.
    commit: git hash, "-dirty" behind it where tracked files had changes; None outside a checkout.
    clicks: of labelled samples what the labels are ("labels"), the hash of the samples, counts and the reliability
        curve (``ClickEvaluation.about``); None where targets were ranked. A file may lack it.
    targets: of ranked targets the part, their count and that of their users, and the arguments of the split
        (:func:`recattn.evaluation.describe_targets`); None of labelled samples. A file may lack it.
    """

    data: str
    users: int
    items: int
    interactions: int
    split: str
    split_hash: str
    ties: str
    candidates: str
    model: str
    arguments: dict[str, Any]
    time_aware: bool
    seeds: list[int]
    metrics: dict[str, dict[str, float]]
    train_seconds: float | None
    peak_rss_mb: float | None
    hardware: dict[str, Any]
    versions: dict[str, str]
    command: str
    commit: str | None
    clicks: dict[str, Any] | None = None
    targets: dict[str, Any] | None = None

    @property
    def label(self) -> str:
        """What a table calls it: the model without its module, marked where it is told when the target happened."""
        return re.sub(r"^recattn\.\w+\.", "", self.model) + (" (time-aware)" if self.time_aware else "")


def write_result(path: str | Path, result: Result) -> None:
    """Write the result as JSON, whole or not at all.

    numpy numbers, tuples and paths in ``arguments`` are written as numbers, lists and text.
    Raises ConfigError for values that JSON has no form for, NaN and infinity among them, and for metrics that are not
    mean, low and high.
    """
    _check_metrics(result.metrics, "metrics", ConfigError)
    try:
        text = json.dumps(asdict(result), indent=2, allow_nan=False, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the result for {str(path)!r} cannot be written as JSON: {error}") from error
    write_text_atomic(path, text + "\n")


def read_result(path: str | Path) -> Result:
    """Read a result and check its fields.

    Raises DataError naming the file and the field that is missing, unknown or of the wrong type.
    """
    try:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a result: {error}") from error
    hints = get_type_hints(Result)
    names = list(hints)
    optional = {field.name for field in fields(Result) if field.default is not MISSING}
    if not isinstance(raw, dict):
        raise DataError(f"{path}: holds {type(raw).__name__}, a result is an object with the fields {names}")
    for name in [*names, *raw]:
        if name not in raw:
            if name in optional:
                continue
            raise DataError(f"{path}: the field {name!r} is missing")
        if name not in names:
            raise DataError(f"{path}: unknown field {name!r}; a result has {names}")
        value, allowed = raw[name], _allowed(hints[name])
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            kinds = " or ".join(kind.__name__ for kind in allowed)
            raise DataError(f"{path}: the field {name!r} is {value!r}, a result has {kinds} there")
    _check_metrics(raw["metrics"], f"{path}: metrics", DataError)
    return Result(**raw)


def _allowed(hint: object) -> tuple[type, ...]:
    """The classes that a field's annotation allows: ``float | None`` -> (float, int, NoneType)."""
    options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    classes = tuple(get_origin(option) or option for option in options)
    return (*classes, int) if float in classes else classes


def _check_metrics(metrics: object, where: str, error: type[Exception]) -> None:
    if not isinstance(metrics, dict) or not metrics:
        raise error(f"{where} is {metrics!r}: it must hold at least one metric")
    for name, entry in metrics.items():
        if not isinstance(entry, dict) or set(entry) != {"mean", "low", "high"}:
            raise error(f"{where}: {name!r} is {entry!r}: it must hold mean, low and high")
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in entry.values()):
            raise error(f"{where}: {name!r} is {entry!r}: its values must be finite numbers")


def _plain(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all: a temporary file beside it, flushed to disk, then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        mode = path.stat().st_mode if path.exists() else 0o644
        temporary.chmod(mode & 0o777)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
