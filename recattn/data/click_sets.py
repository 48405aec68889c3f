"""The samples of all parts of a split, and the file that keeps them so that every model is asked the same."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recattn.data.click_samples import ClickSamples, label_by_rating, label_by_sampling
from recattn.data.split import Split, events_between
from recattn.data.whole_file import whole_file
from recattn.errors import ConfigError, DataError

_PARTS = ("train", "validation", "test")
_VERBS = ("train on", "validate", "test")
_KEY = b"recattn"


@dataclass(frozen=True)
class Clicks:
    """What a model for clicks is trained, validated and tested on.

    train, validation, test: the samples. labels: what the labels are, in words, for results. split_hash: of the split
    whose users, items and moments the samples speak of.
    """

    train: ClickSamples
    validation: ClickSamples
    test: ClickSamples
    labels: str
    split_hash: str

    @property
    def hashes(self) -> dict[str, str]:
        """sha256 of each part: models with equal hashes were asked the same."""
        return {part: getattr(self, part).hash for part in _PARTS}

    def lines(self) -> list[str]:
        """Lines to print."""
        counted = (f"{len(getattr(self, part)):,} to {verb}" for part, verb in zip(_PARTS, _VERBS, strict=True))
        share = self.train.labels.mean()
        return [f"samples: {', '.join(counted)}; {share:.1%} of those to train on are positive ({self.labels})"]


def make_clicks(split: Split, *, threshold: float | None = None, negatives: int | None = None, seed: int = 0) -> Clicks:
    """The samples of a split: labels from the ratings where the data has them, else by sampling negatives.

    Trained on are a user's training events from the second on, validated and tested the split's targets.

    threshold: label = [rating >= threshold], by default 4. negatives: sampled for each event, by default 1; given, or
        where the data has no ratings, every event is a positive. seed: of the negatives. A negative is an item that the
        user had not taken by the end of its part: were what is taken later left out as well, the negatives that train
        would tell what the test asks for.
    Raises ConfigError for both threshold and negatives, a threshold without ratings and values out of range, DataError
    where a part has no sample.

    >>> from recattn.data.histories import Histories
    >>> from recattn.data.splits import leave_one_out
    >>> split = leave_one_out(Histories(np.array([5, 2, 3, 1], np.int32), np.array([0, 4]), num_items=5))
    >>> clicks = make_clicks(split)
    >>> clicks.train.items.tolist(), clicks.test.labels.tolist()
    ([2, 4], [True, False])
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ConfigError(f"seed must be an integer >= 0, got {seed!r}")
    if threshold is not None and negatives is not None:
        raise ConfigError(f"threshold={threshold} and negatives={negatives}: labels come from ratings or from sampling")
    targets = {
        "train": events_between(np.minimum(1, split.train_lengths), split.train_lengths),
        "validation": split.validation,
        "test": split.test,
    }
    sampling = negatives is not None or (threshold is None and split.histories.ratings is None)
    if sampling:
        count = 1 if negatives is None else negatives
        labels = f"each event against {count} sampled not taken by then, seed {seed}"
    else:
        threshold = 4.0 if threshold is None else threshold
        labels = f"rating >= {threshold:g}"
    known = {"train": split.train, "validation": split.before_test.train, "test": split.histories}
    parts = {}
    for number, (part, asked) in enumerate(targets.items()):
        parts[part] = (
            label_by_sampling(known[part], asked, negatives=count, seed=seed * len(targets) + number)
            if sampling
            else label_by_rating(split.histories, asked, threshold=threshold)  # type: ignore[arg-type]
        )
        if not len(parts[part]):
            raise DataError(f"the split {split.name!r} has no event to {part} on that another one precedes")
    return Clicks(**parts, labels=labels, split_hash=split.hash)


def write_clicks(path: str | Path, clicks: Clicks) -> None:
    """Write a Parquet table of part, user, visible, item, label and, where known, time; whole or not at all.

    user and item are the split's numbers; what the labels are and the split's hash stand in the file's metadata.
    """
    path = Path(path)
    tables = []
    for part in _PARTS:
        samples: ClickSamples = getattr(clicks, part)
        columns: dict[str, Any] = {"part": pa.repeat(part, len(samples))}
        columns |= {name.rstrip("s"): column for name, column in samples.columns().items()}
        tables.append(pa.table(columns))
    about = json.dumps({"labels": clicks.labels, "split_hash": clicks.split_hash}).encode()
    table = pa.concat_tables(tables).replace_schema_metadata({_KEY: about})
    with whole_file(path) as fresh:
        pq.write_table(table, fresh)


def read_clicks(path: str | Path, split_hash: str) -> Clicks:
    """Read what `write_clicks` wrote, for the split of this hash.

    path: the file, or the folder of a saved model that has one (``clicks.parquet``).
    Raises DataError for a file that cannot be read or is none, and for one made from another split.
    """
    path = Path(path)
    if path.is_dir():
        path /= "clicks.parquet"
    try:
        table = pq.read_table(path)
        about = json.loads(table.schema.metadata[_KEY])
        labels, found = str(about["labels"]), str(about["split_hash"])
        columns = ("users", "visible", "items", "labels", *(("times",) if "time" in table.column_names else ()))
        parts = {}
        for part in _PARTS:
            rows = table.filter(pc.equal(table.column("part"), part))
            parts[part] = ClickSamples(**{name: rows.column(name.rstrip("s")).to_numpy() for name in columns})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as samples of clicks: {error}") from error
    if found != split_hash:
        raise DataError(f"{path}: its samples belong to the split {found[:12]}..., not to {split_hash[:12]}...")
    return Clicks(**parts, labels=labels, split_hash=found)
