"""Files that are there whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write what becomes the file ``path`` once the block has ended well; its folder is made.

    >>> with TemporaryDirectory() as folder:
    ...     with whole_file(Path(folder, "new", "x.csv")) as fresh:
    ...         _ = fresh.write_text("1")
    ...     [path.name for path in Path(folder, "new").iterdir()]
    ['x.csv']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        fresh = Path(folder, path.name)
        yield fresh
        fresh.replace(path)
