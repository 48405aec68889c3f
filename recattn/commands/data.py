"""`recattn data`."""

from typing import Any, Literal

from recattn.commands.console import log, make_table, out
from recattn.commands.unused import check_unused


def data(
    name: str | None = None,
    data_dir: str | None = None,
    source: str | None = None,
    verify: bool = True,
    user_column: str | None = None,
    item_column: str | None = None,
    rating_column: str | None = None,
    time_column: str | None = None,
    title_column: str | None = None,
    action_column: str | None = None,
    item_table: str | None = None,
    user_table: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    time_unit: Literal["s", "ms", "us", "ns"] | None = None,
    layout: Literal["events", "sequences", "clicks"] | None = None,
    label_column: str | None = None,
    history_column: str | None = None,
    history_separator: str | None = None,
    context_columns: str | None = None,
    ignored_columns: str | None = None,
) -> None:
    """Fetch, verify and describe a data set; without a name, list what there is.

    Args:
        name: a data set such as ml-100k, or path of a CSV, TSV, Parquet or JSON-lines table
        data_dir: folder that data sets are kept in (default: the environment's RECATTN_DATA, else ./data)
        source: a folder, archive or file that you have already, to be used in place of a download
        verify: --no-verify accepts files that differ from the published ones, and says so
        user_column: column of a table that holds the user (default: user, of a click table user_id)
        item_column: column that holds the item, of a click table the candidate (default: item, or item_id)
        rating_column: column that holds the rating (default: rating, if there is one; '' for none)
        time_column: column that holds the time (default: time, if there is one; '' for none)
        title_column: column that holds the item's title, if there is one; of item_table where that is given
        action_column: column that holds the kind of event (view, cart, purchase), read in place of a rating (default:
            action, if there is one and no rating; '' for none)
        item_table: a table with one row for each item, in whose columns its features stand
        user_table: the same for users
        delimiter: of a text table (default: by the file's name)
        encoding: of a text table
        time_unit: of numbers in the time column
        layout: of a table: events, one a row (default); sequences, a line a user: the user, then the items; or clicks,
            a click table: a row is a label, a user, a candidate and the history as a list
        label_column: of a click table, the column that holds the label, 0 or 1 (default: label)
        history_column: the column that holds the items of the history (default: item_history)
        history_separator: what stands between the members of a list in text (default: ^)
        context_columns: what is known of a row alone, names separated by commas (default: all columns of no other use;
            a column X_id or X with an X_history is a feature of items)
        ignored_columns: columns that are not read, names separated by commas
    """
    from recattn.data import SOURCES, load_interactions

    if name is None:
        table = make_table("data set", "ratings", "users", "items")
        table.add_column("about")
        for known in SOURCES.values():
            table.add_row(known.name, f"{known.rows:,}", f"{known.users:,}", f"{known.items:,}", known.description)
        out.print(table)
        return
    of_events: dict[str, Any] = {
        "source": source,
        "rating_column": rating_column,
        "time_column": time_column,
        "title_column": title_column,
        "action_column": action_column,
        "item_table": item_table,
        "user_table": user_table,
        "time_unit": time_unit,
    }
    of_clicks = {
        "label_column": label_column,
        "history_column": history_column,
        "history_separator": history_separator,
        "context_columns": context_columns,
        "ignored_columns": ignored_columns,
    }
    check_unused(f"layout {layout or 'events'!r}", of_events if layout == "clicks" else of_clicks)
    if layout == "clicks":
        from recattn.commands.click_flags import click_columns
        from recattn.data.click_tables import read_click_table

        columns = click_columns(user_column=user_column, item_column=item_column, **of_clicks)
        out.print(str(read_click_table(name, columns=columns, delimiter=delimiter, encoding=encoding or "utf-8")))
        return
    interactions = load_interactions(
        name,
        data_dir=data_dir,
        verify=verify,
        user_column=user_column,
        item_column=item_column,
        delimiter=delimiter,
        encoding=encoding,
        layout=layout,
        say=log.print,
        **of_events,
    )
    for line in interactions.summary.lines():
        out.print(line)
