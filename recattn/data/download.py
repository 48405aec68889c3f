"""Download one file: resumed where it broke off, checked, and only then given its name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pooch

from recattn.data.checksums import mismatch
from recattn.data.sources import Archive
from recattn.errors import DataError

Progress = Callable[[int, int], None]
_TIMEOUT = (10, 60)  # seconds to connect, seconds between two packets
_ATTEMPTS = 4


class _Meter:
    """What pooch asks of a progress bar, told to a function of (bytes so far, bytes in all)."""

    def __init__(self, handle: BinaryIO, size: int, progress: Progress) -> None:
        self.handle, self.size, self.progress = handle, size, progress
        self.total = 0

    def update(self, _: int) -> None:
        # pooch counts whole chunks of this transfer; the file itself knows how much there is, resumed part included.
        self.progress(self.handle.tell(), self.size)

    def reset(self) -> None:
        pass

    def close(self) -> None:
        pass


def download(
    url: str, target: Path, expected: Archive, *, verify: bool = True, progress: Progress | None = None
) -> None:
    """Fetch ``url`` into ``target``, which appears complete and verified or not at all.

    What has come so far stays in ``target.part``; the next call, and the next attempt inside this one, asks the
    server for the rest only. TLS certificates are always checked.

    verify: False keeps bytes whose sum is not the published one.
    progress: called with (bytes so far, bytes in all).

    Raises OSError when the server cannot be reached, answers with an error or keeps breaking off, and DataError
    when the bytes are not the published ones (the part file is then removed, so that the next call starts anew).
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    if part.exists() and expected.size is not None and part.stat().st_size > expected.size:
        part.unlink()
    for attempt in range(_ATTEMPTS):
        before = part.stat().st_size if part.exists() else 0
        if expected.size is not None and before == expected.size:
            break
        try:
            _continue(url, part, before, expected.size or 0, progress)
        except OSError:
            if not part.exists():  # it cannot be written
                raise
            gained = part.stat().st_size > before
            if part.stat().st_size == 0:
                part.unlink()
            if attempt == _ATTEMPTS - 1 or not gained:  # a server that sends nothing more will not mend in a second
                raise
        else:
            break
    difference = mismatch(part, expected) if verify else None
    if difference is not None:
        part.unlink()
        raise DataError(
            f"{url} {difference}: it was altered on the way, or the server now has another edition. Try again, or "
            "download it by hand and name the file with source= (and verify=False if you trust it)"
        )
    part.replace(target)


def _continue(url: str, part: Path, have: int, size: int, progress: Progress | None) -> None:
    with part.open("ab") as handle:

        def start_over_if_whole(response: Any, **_: object) -> None:  # noqa: ANN401 (requests has no types here)
            if response.status_code == 200:  # the server ignored the range and sends everything
                handle.truncate(0)

        fetch = pooch.HTTPDownloader(
            progressbar=False if progress is None else _Meter(handle, size, progress),
            chunk_size=1 << 16,
            timeout=_TIMEOUT,
            headers={"Range": f"bytes={have}-"} if have else {},
            hooks={"response": start_over_if_whole},
        )
        fetch(url, handle, None)
