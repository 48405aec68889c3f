"""Compare a file with the size and the sums that were published for it."""

from pathlib import Path

import pooch

from recattn.data.sources import Archive, Member
from recattn.errors import DataError


def mismatch(path: Path, expected: Member | Archive) -> str | None:
    """Say in what a file differs from what was published, or None when it agrees (or nothing was published).

    The strongest published sum decides; the size is looked at first because it costs nothing.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "u.data")
    ...     _ = file.write_bytes(b"196")
    ...     mismatch(file, Member("u.data", size=3)), mismatch(file, Member("u.data", size=5))
    (None, 'has 3 bytes, published are 5')
    """
    size = path.stat().st_size
    if expected.size is not None and size != expected.size:
        return f"has {size} bytes, published are {expected.size}"
    published = {"sha256": expected.sha256, "md5": expected.md5}
    algorithm = next((name for name, value in published.items() if value), None)
    if algorithm is None:
        return None
    found = pooch.file_hash(str(path), alg=algorithm)
    if found == published[algorithm]:
        return None
    return f"has the {algorithm} {found}, published is {published[algorithm]}"


def check(path: Path, expected: Member | Archive, *, verify: bool, advice: str, label: str | None = None) -> str | None:
    """Compare a file with what was published.

    label: what messages call the file, its path unless given.
    Returns a note for the user when it differs and ``verify`` is False, else None.
    Raises DataError with both sums and ``advice`` when it differs and ``verify`` is True.
    """
    difference = mismatch(path, expected)
    if difference is None:
        return None
    if verify:
        raise DataError(
            f"{label or path} {difference}: the file is damaged, or another edition. {advice}, or accept these "
            "bytes as they are with verify=False (--no-verify)"
        )
    return f"NOT the published bytes: {label or path} {difference} (used because verification is off)"
