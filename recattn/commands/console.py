"""Where commands write: answers to the standard output, notes on the way to the standard error."""

import json
import shlex
import sys

from rich import box
from rich.console import Console
from rich.table import Table

out = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 120)
log = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def command_line() -> str:
    """What was typed, for a manifest or a result."""
    return shlex.join(["recattn", *sys.argv[1:]])


def print_json(value: object) -> None:
    """The value on the standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def make_table(*columns: str) -> Table:
    """An empty table: text on the left, what follows it on the right."""
    table = Table(box=box.SIMPLE_HEAD)
    for place, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=place == 0, justify="left" if place == 0 else "right")
    return table
