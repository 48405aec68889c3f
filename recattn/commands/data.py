"""`recattn data`."""

from typing import Literal

from recattn.commands.console import log, make_table, out


def data(
    name: str | None = None,
    data_dir: str | None = None,
    source: str | None = None,
    verify: bool = True,
    item_table: str | None = None,
    user_table: str | None = None,
    layout: Literal["events", "sequences"] | None = None,
) -> None:
    """Fetch, verify and describe a data set; without a name, list what there is.

    Args:
        name: a data set such as ml-100k, or a table whose columns are called user and item
        data_dir: folder that data sets are kept in (default: the environment's RECATTN_DATA, else ./data)
        source: a folder, archive or file that you have already, to be used in place of a download
        verify: --no-verify accepts files that differ from the published ones, and says so
        item_table: a table with one row for each item, in whose columns its features stand
        user_table: the same for users
        layout: of a table: events, one a row (default), or sequences, a line a user: the user, then the items
    """
    from recattn.data import SOURCES, load_interactions

    if name is None:
        table = make_table("data set", "ratings", "users", "items")
        table.add_column("about")
        for known in SOURCES.values():
            table.add_row(known.name, f"{known.rows:,}", f"{known.users:,}", f"{known.items:,}", known.description)
        out.print(table)
        return
    interactions = load_interactions(
        name,
        data_dir=data_dir,
        source=source,
        verify=verify,
        item_table=item_table,
        user_table=user_table,
        layout=layout,
        say=log.print,
    )
    for line in interactions.summary.lines():
        out.print(line)
