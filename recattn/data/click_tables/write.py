"""Write samples as a click table that other libraries read too."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from recattn.data.features import SEPARATOR, FeatureEncoder, Field
from recattn.data.histories import Histories
from recattn.data.ragged import offsets_of, spans
from recattn.data.vocabulary import Vocabulary
from recattn.data.whole_file import whole_file
from recattn.errors import ConfigError

_ROWS = 1 << 16
"""Rows written at once."""


def write_click_table(
    path: str | Path,
    histories: Histories,
    users: NDArray[np.integer],
    visible: NDArray[np.integer],
    items: NDArray[np.integer],
    labels: NDArray[np.floating],
    *,
    user_ids: Vocabulary | None = None,
    item_ids: Vocabulary | None = None,
    encoder: FeatureEncoder | None = None,
    max_length: int | None = None,
    separator: str = "^",
) -> None:
    """Write one row a sample: label, user_id, item_id, the item's features, item_history and the features' histories.

    A feature ``genres`` is the column ``genres_id`` and the history's ``genres_history``, its several values together
    as one ("Drama|War"), a number's the number of its bin; nothing known is empty text. So `read_click_table` reads
    the file, and FuxiCTR with ``^`` as the splitter of its sequences.

    path: a .csv, or .csv.gz; it is written under another name and renamed, so that it is there whole or not at all.
    histories: of the split. users, visible, items, labels: (samples,) flat arrays; sample s asks user ``users[s]``
        about ``items[s]`` after the first ``visible[s]`` events.
    user_ids, item_ids: raw ids; None writes numbers (users from 1, as items). encoder: the items', where the histories
        have features that are to be written. max_length: the last events that are written; None: all.

    separator: between the events of a history; any text without comma, quote or line break, which are the file's own.

    Raises ConfigError where arrays differ in length or leave the histories, for an encoder of other features, for
    another separator, and for an id or a category in which the separator stands or that is nothing but spaces; OSError
    where it cannot be written.

    >>> from tempfile import TemporaryDirectory
    >>> histories = Histories(np.array([3, 1, 2], np.int32), np.array([0, 3]), num_items=3)
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "test.csv")
    ...     write_click_table(path, histories, np.array([0]), np.array([2]), np.array([2]), np.array([1]))
    ...     print(path.read_text().strip())
    label,user_id,item_id,item_history
    1,1,2,3^1
    """
    if not separator or any(mark in separator for mark in ',"\r\n'):
        raise ConfigError(f"separator must be text without comma, quote or line break, such as '^', got {separator!r}")
    path = Path(path)
    users, visible, items = (np.asarray(values, np.int64) for values in (users, visible, items))
    labels = np.asarray(labels)
    _check(histories, users, visible, items, labels, max_length)
    names = {"item": _ids(item_ids, histories.num_items)}
    names |= dict(_fields(histories, encoder))
    for name, texts in names.items():
        _check_texts(name, texts, separator)
    of_users = _ids(user_ids, histories.num_users)
    lengths = visible if max_length is None else np.minimum(visible, max_length)

    def rows(start: int) -> pa.Table:
        part = slice(start, start + _ROWS)
        ends = histories.offsets[users[part]] + visible[part]
        offsets = offsets_of(lengths[part])
        seen = pa.array(histories.items[spans(ends - lengths[part], lengths[part])])
        columns = {"label": labels[part].astype(np.int8), "user_id": of_users.take(pa.array(users[part] + 1))}
        columns |= {f"{name}_id": texts.take(pa.array(items[part])) for name, texts in names.items()}
        for name, texts in names.items():
            lists = pa.LargeListArray.from_arrays(pa.array(offsets), texts.take(seen))
            columns[f"{name}_history"] = pc.binary_join(lists, pa.scalar(separator, pa.large_string()))
        return pa.table(columns)

    # arrow quotes all text or none
    quoted = any(pc.any(pc.match_substring_regex(texts, '[",\r\n]')).as_py() for texts in (of_users, *names.values()))
    quoting = "needed" if quoted else "none"
    options = pyarrow.csv.WriteOptions(quoting_style=quoting, quoting_header=quoting)
    with (
        whole_file(path) as fresh,
        pa.output_stream(fresh, compression="gzip" if path.suffix == ".gz" else None) as sink,
        pyarrow.csv.CSVWriter(sink, rows(0).schema, write_options=options) as writer,
    ):
        for start in range(0, len(users), _ROWS):
            writer.write_table(rows(start))


def _check(
    histories: Histories,
    users: NDArray[np.int64],
    visible: NDArray[np.int64],
    items: NDArray[np.int64],
    labels: NDArray[np.floating],
    max_length: int | None,
) -> None:
    if not len(users) == len(visible) == len(items) == len(labels):
        counts = (len(users), len(visible), len(items), len(labels))
        raise ConfigError(f"users, visible, items and labels must have one entry a sample, got {counts}")
    if max_length is not None and max_length < 1:
        raise ConfigError(f"max_length must be an integer >= 1, or None for all events, got {max_length!r}")
    if not np.isin(labels, (0, 1)).all():
        raise ConfigError(f"labels must be 0 or 1, got {labels[~np.isin(labels, (0, 1))][0]!r}")
    if ((items < 1) | (items > histories.num_items)).any():
        raise ConfigError(f"items must be 1 to {histories.num_items}, got {items.min()} to {items.max()}")
    if ((users < 0) | (users >= histories.num_users)).any():
        raise ConfigError(f"users must be 0 to {histories.num_users - 1}, got {users.min()} to {users.max()}")
    if ((visible < 0) | (visible > histories.lengths[users])).any():
        raise ConfigError("visible must be 0 to the length of the user's history")


def _ids(vocabulary: Vocabulary | None, count: int) -> pa.Array:
    """(count + 1,) the text of each number."""
    raw = np.arange(1, count + 1) if vocabulary is None else vocabulary.index
    if len(raw) != count:
        raise ConfigError(f"the vocabulary has {len(raw)} ids, the histories {count}")
    return pa.array(["", *map(str, raw)], pa.large_string())


def _fields(histories: Histories, encoder: FeatureEncoder | None) -> list[tuple[str, pa.Array]]:
    """The text of each item's values, feature by feature."""
    if encoder is None:
        return []
    if histories.features is None or histories.feature_widths != encoder.widths:
        raise ConfigError(f"encoder has fields of {encoder.widths} values, the histories {histories.feature_widths}")
    parts = np.split(histories.features, np.cumsum(encoder.widths)[:-1], axis=1)
    return [(field.name, _texts(field, codes)) for field, codes in zip(encoder.fields, parts, strict=True)]


def _texts(field: Field, codes: NDArray[np.int32]) -> pa.Array:
    values = np.array(["", *(field.categories or map(str, range(1, field.size)))], dtype=object)
    unique, place = np.unique(codes, axis=0, return_inverse=True)
    joined = [SEPARATOR.join(filter(None, values[row])) for row in unique]
    return pa.array(joined, pa.large_string()).take(pa.array(place.ravel()))


def _check_texts(name: str, texts: pa.Array, separator: str) -> None:
    bad = pc.or_(pc.match_substring(texts, separator), pc.not_equal(pc.utf8_trim_whitespace(texts), texts))
    place = pc.index(bad, pa.scalar(value=True)).as_py()
    if place >= 0:
        value = texts[place].as_py()
        raise ConfigError(f"{name} {value!r} holds {separator!r}, or spaces at an end: it would be read as another one")
