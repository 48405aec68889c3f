"""Read MovieLens in each of the layouts in which it was published.

layout   ratings       items         users         found in
u.*      tabs          bars          bars          ml-100k
.dat     two colons    two colons    two colons    ml-1m, ml-10m
.csv     commas        commas        (none)        ml-20m and later, ml-latest-small
atomic   tabs, typed names in the header           the copy of ml-100k inside of recbole
"""

from collections.abc import Callable
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from recattn.data.delimited import Delimited
from recattn.data.tables import Columns, checked
from recattn.errors import DataError

_FIELDS = ("user", "item", "rating", "time")
_TYPES = (pa.int32(), pa.int32(), pa.float32(), pa.int64())
_ITEM = ("item", "title", "genres")
_USER = ("user", "age", "gender", "occupation")
# fmt: off
_GENRES_100K = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
]
# fmt: on


class MovieLens(NamedTuple):
    """The tables of one MovieLens folder.

    ratings: user, item (int32), rating (float32), time (int64 seconds), in the order of the file.
    items: item, title ("Toy Story (1995)"), genres ("Animation|Comedy"; "" for none); None where the file is missing.
    users: user, age, gender, occupation; None where there is no such file.
    files: the files that were read, the ratings first.
    """

    ratings: pd.DataFrame
    items: pd.DataFrame | None
    users: pd.DataFrame | None
    files: tuple[Path, ...]


def read_movielens(folder: Path) -> MovieLens:
    r"""Read whichever layout lies in the folder; the ratings are needed, items and users are read if they are there.

    Raises DataError when there are no ratings, and naming file, line and column where a file is not what it should be.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "ratings.dat").write_text("3::5::4::7\n")
    ...     read_movielens(Path(folder)).ratings.to_dict("records")
    [{'user': 3, 'item': 5, 'rating': 4.0, 'time': 7}]
    """
    for ratings, items, users in _LAYOUTS:
        file = folder / ratings[0]
        if not file.is_file():
            continue
        read = [None if part is None else _if_there(folder / part[0], part[1]) for part in (items, users)]
        present = [part[0] for part, table in zip((items, users), read, strict=True) if part and table is not None]
        return MovieLens(ratings[1](file), read[0], read[1], (file, *(folder / name for name in present)))
    raise DataError(f"{folder} has none of {', '.join(layout[0][0] for layout in _LAYOUTS)}")


def _if_there(path: Path, read: "_Reader") -> pd.DataFrame | None:
    return read(path) if path.is_file() else None


def _ratings(file: Delimited, theirs: tuple[str, ...] = _FIELDS) -> pd.DataFrame:
    """Numbers straight from the text; when something is no number, once more as text to name the line."""
    if file.path.stat().st_size == 0:
        raise DataError(f"{file.path} is empty")
    _require(file, theirs)
    kinds = dict(zip(theirs, _TYPES, strict=True))
    try:
        table = file.read(theirs, kinds)
    except pa.ArrowInvalid:
        table = file.read(theirs)
    if table.num_rows == 0:
        raise DataError(f"{file.path} is empty: it names columns, but has no rows")
    return checked(table, Columns(*theirs), lambda row: f"{file.path}, line {file.line(row)}")


def _texts(file: Delimited, names: dict[str, str]) -> pd.DataFrame:
    """Columns as text, under our names."""
    _require(file, tuple(names))
    frame: pd.DataFrame = file.read(list(names)).to_pandas()
    return frame.astype("str").rename(columns=names)


def _require(file: Delimited, names: tuple[str, ...]) -> None:
    found = file.header()
    for name in names:
        if name not in found:
            raise DataError(f"{file.path}, line 1: there is no column {name!r}; the columns are {found}")


def _double_colons(path: Path, names: tuple[str, ...]) -> pd.DataFrame:
    """The small .dat files; ml-1m wrote them in latin-1, ml-10m in utf-8."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    # not splitlines(): it also breaks at control characters that latin-1 titles may hold
    rows = [line.rstrip("\r").split("::") for line in text.rstrip("\n").split("\n")]
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise DataError(f"{path}, line {number}: {len(row)} fields between '::', but {len(names)} columns")
    return pd.DataFrame(rows, columns=list(names), dtype="str")


def _numbered(path: Path, frame: pd.DataFrame, kept: tuple[str, ...]) -> pd.DataFrame:
    """Choose columns, trim them, and turn ids (the first) and ages into numbers."""
    frame = pd.DataFrame({name: frame[name].str.strip() for name in kept})
    for name in {kept[0], "age"} & set(kept):
        numbers = pd.to_numeric(frame[name], errors="coerce")
        if numbers.isna().any():
            wrong = frame[name].iloc[int(numbers.isna().to_numpy().argmax())]
            raise DataError(f"{path}, column {name!r}: {wrong!r} is not a number")
        frame[name] = numbers.astype("int32")
    return frame


def _u_data(path: Path) -> pd.DataFrame:
    return _ratings(Delimited(path, "\t", names=_FIELDS, quotes=False))


def _u_item(path: Path) -> pd.DataFrame:
    names = ("item", "title", "released", "video", "url", *_GENRES_100K)
    frame = _texts(Delimited(path, "|", "latin-1", names, quotes=False), {name: name for name in names})
    flags = frame[_GENRES_100K].to_numpy() == "1"
    frame["genres"] = ["|".join(compress(_GENRES_100K, row)) for row in flags]
    return _numbered(path, frame, _ITEM)


def _u_user(path: Path) -> pd.DataFrame:
    names = ("user", "age", "gender", "occupation", "zip")
    frame = _texts(Delimited(path, "|", "latin-1", names, quotes=False), {name: name for name in names})
    return _numbered(path, frame, _USER)


def _ratings_dat(path: Path) -> pd.DataFrame:
    # Two colons are one colon, nothing, and one colon: arrow's parser then reads the file as it is.
    names = ("user", "_1", "item", "_2", "rating", "_3", "time")
    return _ratings(Delimited(path, ":", names=names, quotes=False))


def _movies_dat(path: Path) -> pd.DataFrame:
    return _numbered(path, _double_colons(path, _ITEM), _ITEM)


def _users_dat(path: Path) -> pd.DataFrame:
    return _numbered(path, _double_colons(path, ("user", "gender", "age", "occupation", "zip")), _USER)


def _ratings_csv(path: Path) -> pd.DataFrame:
    return _ratings(Delimited(path), ("userId", "movieId", "rating", "timestamp"))


def _movies_csv(path: Path) -> pd.DataFrame:
    frame = _texts(Delimited(path), {"movieId": "item", "title": "title", "genres": "genres"})
    frame["genres"] = frame["genres"].replace("(no genres listed)", "")
    return _numbered(path, frame, _ITEM)


def _inter(path: Path) -> pd.DataFrame:
    return _ratings(
        Delimited(path, "\t", quotes=False), ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
    )


def _atomic_item(path: Path) -> pd.DataFrame:
    names = {"item_id:token": "item", "movie_title:token_seq": "title", "release_year:token": "year"}
    frame = _texts(Delimited(path, "\t", quotes=False), {**names, "class:token_seq": "genres"})
    frame["genres"] = frame["genres"].str.replace(" ", "|")
    # What stood in the title's last brackets, mostly the year, was cut from it; the film without a year is misspelt.
    titles = frame["title"] + " (" + frame["year"] + ")"
    frame["title"] = titles.replace("unkonwn (unkonwn)", "unknown")
    return _numbered(path, frame, _ITEM)


def _atomic_user(path: Path) -> pd.DataFrame:
    names = {"user_id:token": "user", "age:token": "age", "gender:token": "gender", "occupation:token": "occupation"}
    return _numbered(path, _texts(Delimited(path, "\t", quotes=False), names), _USER)


_Reader = Callable[[Path], pd.DataFrame]
_LAYOUTS: tuple[tuple[tuple[str, _Reader], tuple[str, _Reader], tuple[str, _Reader] | None], ...] = (
    (("u.data", _u_data), ("u.item", _u_item), ("u.user", _u_user)),
    (("ratings.dat", _ratings_dat), ("movies.dat", _movies_dat), ("users.dat", _users_dat)),
    (("ratings.csv", _ratings_csv), ("movies.csv", _movies_csv), None),
    (("ml-100k.inter", _inter), ("ml-100k.item", _atomic_item), ("ml-100k.user", _atomic_user)),
)
