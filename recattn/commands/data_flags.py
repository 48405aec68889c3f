"""The flags that say how data is read: `recattn data` and `recattn train` have the same."""

from typing import TYPE_CHECKING, Any, Literal, TypedDict

from recattn.commands.unused import check_unused

if TYPE_CHECKING:
    from recattn.data.click_tables import ClickColumns


class DataFlags(TypedDict, total=False):
    """Those that were given.

    Args:
        data_dir: folder that data sets are kept in (default: the environment's RECATTN_DATA, else ./data)
        source: a folder, archive or file of the named data set that you have already, in place of a download
        layout: of a table: events, one a row (default); sequences, a line a user: the user, then the items, oldest
            first; or clicks, a click table: a row is a label, a user, a candidate and the history as a list
        user_column: column of a table that holds the user (default: user, of a click table user_id)
        item_column: column that holds the item, of a click table the candidate (default: item, or item_id)
        rating_column: column that holds the rating (default: rating, if there is one; '' for none)
        time_column: column that holds the time (default: time, if there is one; '' for none)
        title_column: column that holds the item's title, if there is one; of item_table where that is given
        action_column: column that holds the kind of event (view, cart, purchase), read in place of a rating (default:
            action, if there is one and no rating; '' for none)
        item_table: a table with one row for each item, in whose columns its features stand
        user_table: the same for users, whose features are their profile
        delimiter: of a text table (default: by the file's name)
        encoding: of a text table (default: utf-8)
        time_unit: of numbers in the time column (default: s)
        label_column: of a click table, the column that holds the label, 0 or 1 (default: label)
        history_column: the column that holds the items of the history (default: item_history)
        history_separator: what stands between the members of a list in text (default: ^)
        context_columns: what is known of a row alone, names separated by commas (default: all columns of no other use;
            a column X_id or X with an X_history is a feature of items)
        ignored_columns: columns that are not read, names separated by commas
    """

    data_dir: str
    source: str
    layout: Literal["events", "sequences", "clicks"]
    user_column: str
    item_column: str
    rating_column: str
    time_column: str
    title_column: str
    action_column: str
    item_table: str
    user_table: str
    delimiter: str
    encoding: str
    time_unit: Literal["s", "ms", "us", "ns"]
    label_column: str
    history_column: str
    history_separator: str
    context_columns: str
    ignored_columns: str


_OF_EVENTS = (
    "data_dir",
    "source",
    "rating_column",
    "time_column",
    "title_column",
    "action_column",
    "item_table",
    "user_table",
    "time_unit",
)
_OF_CLICKS = ("label_column", "history_column", "history_separator", "context_columns", "ignored_columns")


def reads_clicks(flags: DataFlags, *, verify: bool = True) -> bool:
    """Whether a click table is meant. Raises ConfigError for a flag that says how the other kind is read.

    verify: False, of a named data set, is such a flag for a click table.

    >>> reads_clicks({"layout": "clicks", "label_column": "clicked"}), reads_clicks({"source": "ml-100k"})
    (True, False)
    """
    clicks = flags.get("layout") == "clicks"
    others = _OF_EVENTS if clicks else _OF_CLICKS
    given: dict[str, object] = {name: flags.get(name) for name in others}
    given["verify"] = None if verify or not clicks else verify
    check_unused(f"layout {flags.get('layout', 'events')!r}", given)
    return clicks


def click_columns(flags: DataFlags) -> "ClickColumns":
    """What the columns of a click table are called."""
    from recattn.data.click_tables import ClickColumns

    given: dict[str, Any] = {
        "user": flags.get("user_column"),
        "item": flags.get("item_column"),
        "label": flags.get("label_column"),
        "history": flags.get("history_column"),
        "separator": flags.get("history_separator"),
        "context": _names(flags.get("context_columns")),
        "ignored": _names(flags.get("ignored_columns")),
    }
    return ClickColumns(**{name: value for name, value in given.items() if value is not None})


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
