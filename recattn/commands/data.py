"""`recattn data`."""

from typing import Any, Unpack

from recattn.commands.console import log, make_table, out
from recattn.commands.data_flags import DataFlags, click_columns, reads_clicks


def data(name: str | None = None, verify: bool = True, **reading: Unpack[DataFlags]) -> None:
    """Fetch, verify and describe a data set; without a name, list what there is.

    Args:
        name: a data set such as ml-100k, or path of a CSV, TSV, Parquet or JSON-lines table
        verify: --no-verify accepts files that differ from the published ones, and says so
    """
    from recattn.data import SOURCES, load_interactions

    if name is None:
        table = make_table("data set", "ratings", "users", "items")
        table.add_column("about")
        for known in SOURCES.values():
            table.add_row(known.name, f"{known.rows:,}", f"{known.users:,}", f"{known.items:,}", known.description)
        out.print(table)
        return
    if reads_clicks(reading, verify=verify):
        from recattn.data.click_tables import read_click_table

        delimiter, encoding = reading.get("delimiter"), reading.get("encoding", "utf-8")
        out.print(str(read_click_table(name, columns=click_columns(reading), delimiter=delimiter, encoding=encoding)))
        return
    events: dict[str, Any] = {**reading}
    interactions = load_interactions(name, verify=verify, say=log.print, **events)
    for line in interactions.summary.lines():
        out.print(line)
