"""What was read, kept and left out, and why: nothing is dropped silently."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Summary:
    """Counts of one table of interactions.

    read, kept: rows. left_out: reason -> rows. users, items: different ids that were kept.
    first_time, last_time: seconds, None without times.
    repeats: kept events whose (user, item) was there before.
    tied: share of the kept events that have the same second as another, earlier listed event of their user; None
        without times. The order of such events is that of the file, or random: see `encode`.
    short_users: users with fewer than three events; they are kept, but out of a leave-one-out split.
    notes: whatever else the user should know. hash: sha256 of the kept table, see `content_hash`.
    files: file name -> sha256 of the bytes that were read.

    >>> print(Summary("toy", read=5, kept=3, left_out={"duplicates": 2}, users=2, items=3))
    toy: 5 rows read, 3 kept; 2 users, 3 items
    left out: 2 duplicates
    """

    name: str
    read: int
    kept: int
    users: int
    items: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    first_time: int | None = None
    last_time: int | None = None
    repeats: int = 0
    tied: float | None = None
    short_users: int = 0
    notes: tuple[str, ...] = ()
    hash: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Lines to print."""
        lines = [f"{self.name}: {self.read} rows read, {self.kept} kept; {self.users} users, {self.items} items"]
        lines += [f"left out: {count} {reason}" for reason, count in self.left_out.items() if count]
        if self.first_time is not None and self.last_time is not None:
            lines.append(f"times: {_date(self.first_time)} to {_date(self.last_time)}")
        if self.tied:
            lines.append(f"{self.tied:.1%} of the events share their second with an earlier one of the same user")
        if self.repeats:
            lines.append(f"{self.repeats} events repeat an item of the same user (kept)")
        if self.short_users:
            lines.append(f"{self.short_users} users have fewer than three events (kept, but not split)")
        lines += self.notes
        lines += [f"{name}: sha256 {digest}" for name, digest in self.files.items()]
        if self.hash:
            lines.append(f"content: sha256 {self.hash}")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())


def _date(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
    except (OverflowError, ValueError):  # a year that the calendar does not have
        return f"second {seconds}"


def content_hash(frame: pd.DataFrame) -> str:
    """sha256 of a table's columns, row order included: the same on each machine, whatever file the table came from.

    >>> import pandas as pd
    >>> content_hash(pd.DataFrame({"user": [3]})) == content_hash(pd.DataFrame({"user": [3]}, dtype="int32"))
    True
    """
    digest = hashlib.sha256()
    for name in frame.columns:
        column = frame[name]
        digest.update(f"{name}:{len(column)};".encode())
        if column.dtype.kind == "i":
            digest.update(np.ascontiguousarray(column.to_numpy(), "<i8").data)
        elif column.dtype.kind == "f":
            digest.update(np.ascontiguousarray(column.to_numpy(), "<f4").data)
        else:
            digest.update(pd.util.hash_array(column.to_numpy(object)).astype("<u8").data)
    return digest.hexdigest()
