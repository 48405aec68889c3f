"""Read click tables: files of any size in, compact arrays out, no loop over rows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recattn.data.attributes import feature
from recattn.data.click_tables.blocks import Block, split_block
from recattn.data.click_tables.columns import ClickColumns, Roles
from recattn.data.click_tables.functions import FeatureOf
from recattn.data.click_tables.numbering import Numbering
from recattn.data.click_tables.sharing import share
from recattn.data.click_tables.table import ClickTable
from recattn.data.click_tables.vocabulary import ClickVocabulary, and_unmet, as_ids
from recattn.data.features import FeatureEncoder, Field
from recattn.data.histories import Histories
from recattn.data.ragged import offsets_of, spans
from recattn.data.table_files import TableFile, open_table
from recattn.data.vocabulary import Vocabulary
from recattn.errors import ConfigError, DataError

SEPARATORS = (" ", ",", "|", ";", "^")
"""What stands between the members of a list, in one table or another."""


def read_click_table(
    *paths: str | Path,
    columns: ClickColumns | None = None,
    fitted: ClickVocabulary | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
) -> ClickTable:
    r"""Read rows of label, user, candidate, its features, the history and its features.

    A history is a list in one cell, its members separated by ``^`` (or a list of Parquet), oldest first; an empty cell
    is an empty history. Rows of one user with the same history share one copy of it, wherever they stand.
    A feature of an item is the same wherever the item stands, as a candidate or in a history; so it is kept once for
    each item. What is known of a row alone (context) is coded as `FeatureEncoder` does.

    paths: files read one after another as one table, see `open_table`. columns: what their columns are called.
    fitted: what was learnt from the training file; None: these are the training files. Items that they do not have are
        known by their features alone, in candidates and histories (``fitted.unmet``), and users that they do not have
        are numbered on after theirs; ``unknown`` of the table counts both.

    Raises DataError naming file and line for a column that is missing, a label that is not 0 or 1, a user, candidate or
    event without an id, lists of different length or divided by something else, and an item with two values of one
    feature (name that column as context, if it is one); ConfigError where there is no path, or ``columns`` beside
    ``fitted``, which has its own.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "train.csv")
    ...     head = "label,user_id,item_id,cate_id,item_history,cate_history"
    ...     _ = path.write_text(f"{head}\n1,u,30,c,10^20,a^c\n0,u,10,a,10^20,a^c\n")
    ...     table = read_click_table(path)
    >>> table.candidates.tolist(), table.owners.tolist(), table.histories.of(0).tolist()
    ([3, 1], [0, 0], [1, 2])
    >>> table.histories.features.tolist()
    [[0], [1], [2], [2], [0], [1], [2]]
    """
    if not paths:
        raise ConfigError("name at least one file")
    if fitted is not None and columns is not None:
        raise ConfigError("columns and fitted: the columns are those of the training file, leave them out")
    columns = fitted.columns if fitted is not None else columns or ClickColumns()
    reader: _Reader | None = None
    for path in paths:
        file = open_table(path, delimiter=delimiter, encoding=encoding)
        names = file.names()
        if fitted is None:  # a table to be measured on need not have what is not read
            columns.check_ignored(file.top, names)
        roles = columns.roles(file.top, names)
        reader = reader or _Reader(columns, roles, fitted)
        reader.check(roles, file.top)
        for start, block in _blocks(file, roles, columns.separator):
            reader.add(block, file, start)
    if reader is None or not reader.labels:
        raise DataError(f"{paths[0]} is empty: it names columns, but has no rows")
    return reader.table()


def _blocks(file: TableFile, roles: Roles, separator: str) -> Iterator[tuple[int, Block]]:
    """The blocks with the number of the first row of each."""
    start, last = 0, None
    for part in file.blocks(list(dict.fromkeys(roles.columns))):
        if part.num_rows:
            first = start
            block = split_block(part, roles, lambda row: file.where(first + row), separator=separator, before=last)  # noqa: B023 - called at once
            yield start, block
            start, last = start + part.num_rows, block.last


class _Reader:
    """Numbers block after block; what is learnt is put into its final order by `table`."""

    def __init__(self, columns: ClickColumns, roles: Roles, fitted: ClickVocabulary | None) -> None:
        self.columns, self.roles, self.fitted = columns, roles, fitted
        known = () if fitted is None else (fitted.users, fitted.items)
        users, items = [of.index.astype("str").tolist() for of in known] or [[], []]
        self.users, self.items = Numbering(users), Numbering(items, grow=fitted is None)
        if fitted is None:
            self.values = {name: Numbering() for name in roles.features}
            self.functions = {name: FeatureOf() for name in roles.features}
        else:
            self.values = {field.name: Numbering(field.categories or (), grow=False) for field in fitted.features}
            self.functions = {
                name: FeatureOf(codes, grow=False) for name, codes in zip(self.values, fitted.codes.T, strict=True)
            }
        self.contexts = {name: Numbering() for name in roles.context}
        self.context: dict[str, list[NDArray[np.int32]]] = {name: [] for name in roles.context}
        self.labels: list[NDArray[np.float32]] = []
        self.owners: list[NDArray[np.int32]] = []
        self.candidates: list[NDArray[np.int32]] = []
        self.events: list[NDArray[np.int32]] = []
        self.lengths: list[NDArray[np.int64]] = []
        self.whose: list[NDArray[np.int32]] = []
        self.num_histories = 0

    def check(self, roles: Roles, place: str) -> None:
        """Raise DataError where a file has other features or context than the first, or than the training file."""
        features, context = sorted(self.values), sorted(self.fitted.context_columns if self.fitted else self.contexts)
        if sorted(roles.features) != features or sorted(roles.context) != context:
            raise DataError(
                f"{place}: features {list(roles.features)} and context {list(roles.context)}, but the first file has "
                f"{features} and {context}"
            )

    def add(self, block: Block, file: TableFile, start: int) -> None:
        """Number one block whose first row is row ``start`` of the file."""
        candidates, events = self.items(block.candidates), self.items(block.history)
        of_rows = np.flatnonzero(block.starts)
        of_candidates = {name: numbers(block.features[name]) for name, numbers in self.values.items()}
        of_events = {name: numbers(block.histories[name]) for name, numbers in self.values.items()}
        for name, function in self.functions.items():
            met = function.add(candidates, of_candidates[name])
            if met is not None:
                self._refuse(name, block.candidates[met[0]].as_py(), met, file.where(start + met[0]))
            met = function.add(events, of_events[name])
            if met is not None:
                row = of_rows[np.searchsorted(np.cumsum(block.lengths), met[0], side="right")]
                self._refuse(name, block.history[met[0]].as_py(), met, file.where(start + int(row)))
        if self.fitted is not None:
            for items, values in ((candidates, of_candidates), (events, of_events)):
                new = items < 0
                codes = [of_feature[new] for of_feature in values.values()]
                items[new] = self.fitted.unmet(np.stack(codes, 1) if codes else np.zeros((new.sum(), 0), np.int32))
        for name, numbers in self.contexts.items():
            self.context[name].append(numbers(block.context[name]))
        self.labels.append(block.labels)
        self.owners.append((np.cumsum(block.starts) - 1 + self.num_histories).astype(np.int32))
        self.candidates.append(candidates)
        self.events.append(events)
        self.lengths.append(block.lengths)
        self.whose.append(self.users(block.users.filter(pa.array(block.starts))))
        self.num_histories += len(block.lengths)

    def _refuse(self, name: str, item: str, met: tuple[int, int, int], place: str) -> None:
        texts = self.values[name].texts
        other = repr(texts[met[2]]) if met[2] >= 0 else "another, which the training file does not have"
        raise DataError(
            f"{place}: the item {item!r} has {name}={texts[met[1]]!r} elsewhere and {other} here. A feature of an item "
            f"is the same everywhere; if this one is known of a row alone, pass context=[{name!r}, ...] and ignore "
            f"{self.roles.features[name]!r}"
        )

    def table(self) -> ClickTable:
        """Everything that was added."""
        vocabulary, numbers = (self.fitted, None) if self.fitted is not None else self._fit()
        users, candidates, events = map(np.concatenate, (self.whose, self.candidates, self.events))
        if self.fitted is None and max(lengths.max(initial=0) for lengths in self.lengths) <= 1:
            self._check_separator(candidates, events)
        known_users, known_items = len(vocabulary.users), len(vocabulary.items)
        unknown = {
            "users of histories": int((users > known_users).sum()),
            "candidates": int((candidates > known_items).sum()),
            "events of histories": int((events > known_items).sum()),
        }
        if numbers is not None:
            users, candidates, events = numbers[0][users], numbers[1][candidates], numbers[1][events]
        offsets = offsets_of(np.concatenate(self.lengths))
        shared = share(users, events, offsets)
        lengths = np.diff(offsets)[shared.kept]
        sizes = tuple(field.size for field in vocabulary.features)
        histories = Histories(
            items=events[spans(offsets[shared.kept], lengths)],
            offsets=offsets_of(lengths),
            num_items=vocabulary.num_items,
            features=vocabulary.codes if sizes else None,
            feature_sizes=sizes,
            feature_widths=(1,) * len(sizes),
        )
        return ClickTable(
            np.concatenate(self.labels),
            candidates,
            shared.place[np.concatenate(self.owners)],
            histories,
            users[shared.kept],
            vocabulary.context.transform(self._context()),
            vocabulary,
            unknown,
        )

    def _check_separator(self, candidates: NDArray[np.int32], events: NDArray[np.int32]) -> None:
        """Raise DataError where no history is a list, and most hold what divides the lists of others."""
        texts, expected = self.items.texts, self.columns.separator
        asked, met = texts[np.unique(candidates)], texts[np.setdiff1d(events, candidates)]
        for other in (separator for separator in SEPARATORS if separator != expected):
            of_asked, of_met = (some.str.contains(other, regex=False) for some in (asked, met))
            if of_met.mean() > 0.5 and not of_asked.any():
                raise DataError(
                    f"no {self.roles.history!r} has a {expected!r} between its events, but most have a {other!r}: "
                    f"name it with separator={other!r} (--history-separator)"
                )

    def _fit(self) -> tuple[ClickVocabulary, tuple[NDArray[np.int32], NDArray[np.int32]]]:
        """The vocabulary, in sorted order; and the numbers there of the users and items by those of first sight."""
        raw_users, raw_items = as_ids(self.users.texts[1:]), as_ids(self.items.texts[1:])
        users, items = Vocabulary.build(raw_users), Vocabulary.build(raw_items)
        of_users, of_items = (
            np.concatenate([[0], vocabulary.encode(raw)]).astype(np.int32)
            for vocabulary, raw in ((users, raw_users), (items, raw_items))
        )
        codes = np.zeros((len(items) + 1, len(self.values)), np.int32)
        fields = []
        for place, (name, numbers) in enumerate(self.values.items()):
            categories = pd.Index(numbers.texts[1:]).sort_values()
            fields.append(Field(name, categories=tuple(categories)))
            known = self.functions[name].known
            of_values = np.concatenate([[0], categories.get_indexer(pd.Index(numbers.texts[1:])) + 1])
            codes[of_items[: len(known)], place] = of_values[known]
        context = FeatureEncoder.fit(self._context())
        vocabulary = ClickVocabulary(
            self.columns, users, items, tuple(fields), and_unmet(codes), context, tuple(self.roles.context)
        )
        return vocabulary, (of_users, of_items)

    def _context(self) -> pd.DataFrame:
        """The columns of context, as numbers or text."""
        frame = {}
        for name, numbers in self.contexts.items():
            values = feature(pa.chunked_array([pa.array(numbers.texts, pa.large_string())]), name, str)
            frame[name] = values.iloc[np.concatenate(self.context[name])].reset_index(drop=True)
        return pd.DataFrame(frame, index=range(sum(map(len, self.labels))))
