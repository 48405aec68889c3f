"""One block of a click table's rows: checked, its lists split, shared histories kept once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recattn.data.click_tables.columns import Roles
from recattn.data.columns import as_text
from recattn.errors import DataError

Where = Callable[[int], str]


class Block(NamedTuple):
    """Rows of a file, in text.

    labels: (rows,) float32. users, candidates: (rows,) text. features, context: column -> (rows,) text.
    starts: (rows,) bool, whether the row has another user or history than the row before it.
    history: the events of the rows that start one, flat; lengths: how many each of them has.
    histories: the feature's column -> values of those events, flat.
    """

    labels: NDArray[np.float32]
    users: pa.Array
    candidates: pa.Array
    features: dict[str, pa.Array]
    context: dict[str, pa.Array]
    starts: NDArray[np.bool_]
    history: pa.Array
    lengths: NDArray[np.int64]
    histories: dict[str, pa.Array]
    last: tuple[str, ...]


def split_block(
    table: pa.Table, roles: Roles, where: Where, *, separator: str, before: tuple[str, ...] | None
) -> Block:
    """Check and split one block.

    where: the place of a row of the block. before: ``last`` of the block before, None for the first: its last user and
    histories, with which the first row may share.

    Raises DataError naming the place of the first row whose label is not 0 or 1, whose user, item or event of the
    history is missing, or whose lists differ in length.
    """
    text = {name: _text(table, name, separator, where) for name in dict.fromkeys(roles.columns)}
    for name in (roles.user, roles.item):
        _refuse(pc.equal(text[name], ""), f"column {name!r} is empty; every row needs one", where)
    lists = [roles.history, *roles.features.values()]
    lengths = _lengths(text[roles.history], separator)
    for name in lists[1:]:
        # An empty cell beside a single event is its one missing value.
        others = np.where((lengths == 1) & (_lengths(text[name], separator) == 0), 1, _lengths(text[name], separator))
        _refuse_lengths(others, lengths, name, roles.history, where)
    keys = [text[name] for name in (roles.user, *lists)]
    starts = _starts(keys, before)
    flat = {name: _flat(text[name].filter(pa.array(starts)), lengths[starts], separator) for name in lists}
    missing = pc.index(pc.equal(flat[roles.history], ""), pa.scalar(value=True)).as_py()
    if missing >= 0:
        owner = np.flatnonzero(starts)[np.searchsorted(np.cumsum(lengths[starts]), missing, side="right")]
        raise DataError(f"{where(int(owner))}, column {roles.history!r}: an event of the history is empty")
    return Block(
        labels=_labels(text[roles.label], roles.label, where),
        users=text[roles.user],
        candidates=text[roles.item],
        features={name: text[name] for name in roles.features},
        context={name: text[name] for name in roles.context},
        starts=starts,
        history=flat[roles.history],
        lengths=lengths[starts],
        histories={name: flat[of_history] for name, of_history in roles.features.items()},
        last=tuple(key[-1].as_py() for key in keys),
    )


def _text(table: pa.Table, name: str, separator: str, where: Where) -> pa.Array:
    """One array of trimmed text, "" for what is missing; lists joined, so that all files look alike from here on."""
    array = pa.concat_arrays(table[name].chunks)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        array = _joined(array, name, separator, where)
    elif pa.types.is_floating(array.type) and pc.all(pc.equal(array, pc.floor(array))).as_py():
        array = array.cast(pa.int64())  # whole numbers beside a gap
    elif pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    return pc.utf8_trim_whitespace(pc.fill_null(as_text(array, name, where), ""))


def _joined(lists: pa.Array, name: str, separator: str, where: Where) -> pa.Array:
    lists = lists.cast(pa.large_list(pa.large_string()))
    ends = np.cumsum(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False))
    members = pc.fill_null(pc.list_flatten(lists), "")
    broken = pc.index(pc.match_substring(members, separator), pa.scalar(value=True)).as_py()
    if broken >= 0:
        row = int(np.searchsorted(ends, broken, side="right"))
        raise DataError(f"{where(row)}, column {name!r}: {members[broken].as_py()!r} holds {separator!r}")
    joined = pa.LargeListArray.from_arrays(pa.array(np.append(0, ends), pa.int64()), members)
    return pc.binary_join(joined, pa.scalar(separator, pa.large_string()))


def _lengths(text: pa.Array, separator: str) -> NDArray[np.int64]:
    counts = pc.count_substring(text, separator).to_numpy(zero_copy_only=False).astype(np.int64)
    filled = pc.not_equal(text, "").to_numpy(zero_copy_only=False)
    return np.where(filled, counts + 1, 0)


def _flat(text: pa.Array, lengths: NDArray[np.int64], separator: str) -> pa.Array:
    """The members of all lists; an empty cell has one where the length says so, else none."""
    members = pc.list_flatten(pc.split_pattern(text.filter(pa.array(lengths > 0)), separator))
    return pc.utf8_trim_whitespace(members)


def _starts(keys: list[pa.Array], before: tuple[str, ...] | None) -> NDArray[np.bool_]:
    if not len(keys[0]):
        return np.zeros(0, np.bool_)
    starts = np.zeros(len(keys[0]), np.bool_)
    for number, key in enumerate(keys):
        starts[1:] |= pc.not_equal(key[1:], key[:-1]).to_numpy(zero_copy_only=False)
        starts[0] |= before is None or before[number] != key[0].as_py()
    return starts


def _labels(text: pa.Array, name: str, where: Where) -> NDArray[np.float32]:
    positive, negative = (
        pc.is_in(text, pa.array(values, pa.large_string())) for values in (("1", "1.0"), ("0", "0.0"))
    )
    _refuse(pc.invert(pc.or_(positive, negative)), f"column {name!r}: the label {{value}} is not 0 or 1", where, text)
    return np.asarray(positive.to_numpy(zero_copy_only=False), np.float32)


def _refuse(bad: Any, problem: str, where: Where, text: pa.Array | None = None) -> None:  # noqa: ANN401 (arrow)
    row = pc.index(bad, pa.scalar(value=True)).as_py()
    if row >= 0:
        raise DataError(f"{where(row)}, " + problem.format(value=None if text is None else repr(text[row].as_py())))


def _refuse_lengths(found: NDArray[np.int64], wanted: NDArray[np.int64], name: str, history: str, where: Where) -> None:
    if (found != wanted).any():
        row = int((found != wanted).argmax())
        raise DataError(f"{where(row)}: {name!r} lists {found[row]} values, but {history!r} has {wanted[row]} events")
