"""What a training is given and a saved model keeps of it: histories that are split, or a click table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recattn.commands.console import log
from recattn.commands.unused import check_unused
from recattn.data import (
    Clicks,
    Encoders,
    FeatureEncoder,
    Histories,
    Split,
    encode,
    load_interactions,
    splits,
    with_features,
)
from recattn.data.click_tables import ClickColumns, ClickTables, read_click_table
from recattn.errors import ConfigError
from recattn.training.objective import samples_of


@dataclass(frozen=True)
class Material:
    """One kind of data or the other, as far as `train` has to know.

    data, clicks: what `fit` takes. kept: users, items, histories and encoders (of a click table the vocabulary too), as
    an Artefact names them. context_sizes: of models that read a request's context. about: for the manifest.
    lines: to print.
    """

    data: Split | ClickTables
    clicks: Clicks | None
    kept: dict[str, Any]
    context_sizes: tuple[int, ...]
    about: dict[str, Any]
    lines: list[str]

    @property
    def trained_on(self) -> Histories:
        """What a model's arguments may be learnt from."""
        histories: Histories = self.data.train if isinstance(self.data, Split) else self.kept["histories"]
        return histories


def of_events(
    reading: Mapping[str, Any],
    *,
    min_item_events: int,
    split: str,
    target: str | None,
    ties: Any,  # noqa: ANN401 - see encode
    seed: int,
    sampling: Mapping[str, Any] | None,
) -> Material:
    """Events as histories that are split.

    reading: what `load_interactions` takes. split, target: a protocol of `splits`, and which events `global_time` asks
    for. sampling: what `samples_of` takes; None where no clicks are asked for.
    """
    asked = {}
    if split == "global_time":
        asked = {"target": target or ("first" if sampling is None else "all")}
    else:
        check_unused(f"split {split!r}", {"target": target})
    interactions = load_interactions(**reading, say=log.print)
    if min_item_events != 1:
        interactions = interactions.without_rare_items(min_item_events)
    if ties != "file" and "time" not in interactions.frame:
        raise ConfigError(f"ties is {ties!r}, but the data has no times: its order is that of the file")
    encoded = encode(interactions, ties=ties, seed=seed)
    divided, encoders = with_features(getattr(splits, split)(encoded.histories, **asked), interactions)
    clicks = None if sampling is None else samples_of(divided, acted=bool(encoders.actions), **sampling)
    about = {
        "data": interactions.name,
        "data_hash": interactions.summary.hash,
        "interactions": len(encoded.histories.items),
        "min_item_events": min_item_events,
        "split": {"name": divided.name, "arguments": dict(divided.arguments), "hash": divided.hash},
        "ties": ties,
    }
    if "time_unit" in reading:
        about["time_unit"] = reading["time_unit"]
    if clicks is not None:
        about["clicks"] = {"labels": clicks.labels, "hashes": clicks.hashes}
    kept = {"users": encoded.users, "items": encoded.items, "histories": divided.histories, "encoders": encoders}
    lines = [*interactions.summary.lines(), *divided.summary.lines(), *([] if clicks is None else clicks.lines())]
    return Material(divided, clicks, kept, (), about, lines)


def of_table(
    path: str,
    *,
    columns: ClickColumns,
    validation_table: str | None,
    validation_share: float | None,
    delimiter: str | None,
    encoding: str | None,
) -> Material:
    """A click table, and the rows that choose the epoch: another table, or all those of a share of the users.

    The other arguments are `train`'s. Raises ConfigError for both or neither of validation_table and validation_share.
    """
    if (validation_table is None) == (validation_share is None):
        raise ConfigError(
            "of a click table give either validation_table, a table whose rows choose the epoch, or validation_share, "
            "the share of its users that are held out for that"
        )
    reading: dict[str, Any] = {"delimiter": delimiter, "encoding": encoding or "utf-8"}
    table = read_click_table(path, columns=columns, **reading)
    vocabulary = table.vocabulary
    if validation_share is not None:
        tables = ClickTables.hold_out(table, validation_share)
    else:
        tables = ClickTables(table, read_click_table(str(validation_table), fitted=vocabulary, **reading))
    held = {"validation_table": validation_table, "validation_share": validation_share}
    items = FeatureEncoder(vocabulary.features) if vocabulary.features else None
    kept = {"users": vocabulary.users, "items": vocabulary.items, "histories": table.longest_histories()}
    kept |= {"encoders": Encoders(items=items), "table": vocabulary}
    about = {
        "data": path,
        "data_hash": table.hash,
        "interactions": len(table),
        "split": {"name": "click_table", "arguments": held, "hash": tables.hash},
        "ties": "file",
    }
    return Material(tables, None, kept, vocabulary.context.column_sizes, about, tables.lines())
