"""Take the members that recattn reads out of a zip file."""

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from recattn.data.sources import Archive, Member
from recattn.errors import DataError


def unpack(file: Path, layout: Archive, target: Path, inspect: Callable[[Path, Member], None] | None = None) -> None:
    """Write the members of ``layout`` found in the zip ``file`` into the folder ``target``.

    Only names from our own table are ever written, so that a name like ``../x`` in the archive leads nowhere. They are
    unpacked beside the target first and then moved, the ratings last: a folder that has the ratings is complete.

    inspect: called with each unpacked file before any is moved; what it raises leaves the target as it was.

    A member is found in ``layout.folder``, and in a repacked archive wherever just one file has its name.

    Raises DataError naming the archive when it is damaged, cut off, or lacks a member.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        workplace = Path(folder)
        try:
            with zipfile.ZipFile(file) as archive:
                for member in layout.members:
                    entry = _entry(archive, file, layout.folder, member.name)
                    with archive.open(entry) as source, (workplace / member.name).open("wb") as sink:
                        shutil.copyfileobj(source, sink, 1 << 20)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise DataError(
                f"{file} is damaged or was cut off ({error}): download it again. It should be {layout.file}"
                + ("" if layout.size is None else f" of {layout.size} bytes")
            ) from error
        if inspect is not None:
            for member in layout.members:
                inspect(workplace / member.name, member)
        target.mkdir(exist_ok=True)
        for member in reversed(layout.members):
            (workplace / member.name).replace(target / member.name)


def _entry(archive: zipfile.ZipFile, file: Path, folder: str, name: str) -> str:
    names = archive.namelist()
    if f"{folder}/{name}" in names:
        return f"{folder}/{name}"
    alike = [entry for entry in names if PurePosixPath(entry).name == name]
    if len(alike) == 1:
        return alike[0]
    found = f"{len(alike)} files of that name" if alike else f"only {', '.join(names[:10]) or 'nothing'}"
    raise DataError(f"{file} should hold {folder}/{name}, but has {found}")
