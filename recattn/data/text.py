"""Files of text, plain or gzipped."""

import gzip
import zlib
from pathlib import Path

from recattn.errors import ConfigError, DataError

DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)
"""What reading a gzipped file raises where it is damaged or was cut off."""


def codec(encoding: str) -> str:
    """What to decode with: of UTF-8 a byte order mark, which some programs write in front, is no text.

    >>> codec("UTF8"), codec("latin-1")
    ('utf-8-sig', 'latin-1')
    """
    return "utf-8-sig" if encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else encoding


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """All of a file.

    Raises DataError for a file that is damaged or cannot be read and, naming the line, for bytes that are not in
    ``encoding``; ConfigError for an encoding that does not exist.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except DAMAGED as error:
        raise DataError(f"{path} is damaged or was cut off: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return data.decode(codec(encoding))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(
            f'{path}, line {line}: byte 0x{error.object[error.start]:02x} is not {encoding}; pass encoding="latin-1"'
        ) from error
    except LookupError as error:
        raise ConfigError(f"encoding={encoding!r} does not exist") from error
