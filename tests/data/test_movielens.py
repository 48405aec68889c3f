import pytest

from recattn.data.movielens import read_movielens
from recattn.errors import DataError


def folder(path, **files):
    for name, text in files.items():
        (path / name.replace("_", ".", 1)).write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_two_colons_divide_fields_and_one_does_not(tmp_path):
    tables = read_movielens(
        folder(
            tmp_path,
            ratings_dat="1::50::5::978300760\n2::7::3.5::978300761\n",
            movies_dat="7::Alien: Resurrection (1997)::Horror|Sci-Fi\n50::Misérables, Les (1998)::Drama\n".encode(
                "latin-1"
            ),
            users_dat="1::F::18::10::48067\n2::M::56::16::70072\n",
        )
    )
    assert tables.ratings.to_dict("list") == {
        "user": [1, 2],
        "item": [50, 7],
        "rating": [5.0, 3.5],
        "time": [978300760, 978300761],
    }
    assert tables.items.title.tolist() == ["Alien: Resurrection (1997)", "Misérables, Les (1998)"]
    assert tables.items.genres.tolist() == ["Horror|Sci-Fi", "Drama"]
    assert tables.users.to_dict("list") == {
        "user": [1, 2],
        "age": [18, 56],
        "gender": ["F", "M"],
        "occupation": ["10", "16"],
    }
    assert [path.name for path in tables.files] == ["ratings.dat", "movies.dat", "users.dat"]


def test_dat_titles_in_utf8_are_read_too(tmp_path):
    tables = read_movielens(folder(tmp_path, ratings_dat="1::7::5::9\n", movies_dat="7::Amélie (2001)::Romance\n"))
    assert tables.items.title.tolist() == ["Amélie (2001)"]
    assert tables.users is None


def test_csv_titles_may_hold_commas_and_genres_may_be_missing(tmp_path):
    tables = read_movielens(
        folder(
            tmp_path,
            ratings_csv="userId,movieId,rating,timestamp\r\n1,11,4.5,1112486027\r\n",
            movies_csv='movieId,title,genres\r\n11,"American President, The (1995)",(no genres listed)\r\n',
        )
    )
    assert tables.ratings.rating.tolist() == [4.5]
    assert tables.items.to_dict("records") == [{"item": 11, "title": "American President, The (1995)", "genres": ""}]


def test_u_item_is_latin_1_with_one_flag_a_genre(tmp_path):
    flags = ["0"] * 19
    flags[8], flags[17] = "1", "1"
    line = f"7|Misérables, Les (1995) |01-Jan-1995||url|{'|'.join(flags)}\n"
    tables = read_movielens(folder(tmp_path, u_data="1\t7\t5\t9\n", u_item=line.encode("latin-1")))
    assert tables.items.to_dict("records") == [{"item": 7, "title": "Misérables, Les (1995)", "genres": "Drama|War"}]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has none of u.data, ratings.dat, ratings.csv, ml-100k.inter"),
        ({"u_data": ""}, "u.data is empty"),
        ({"u_data": "1\t7\t5\t9\n1\tx7\t5\n"}, r"u.data, line 2: 3 fields split at '\\t', not 4"),
        ({"u_data": "1\t7\t5\t9\n1\t\t5\t9\n"}, "u.data, line 2, column 'item': the id is missing"),
        (
            {"u_data": "1\t7\t5\t9\n1\t7\tgood\t9\n"},
            "u.data, line 2, column 'rating': the rating 'good' is not a number",
        ),
        ({"u_data": "1\t7\tnan\t9\n"}, "u.data, line 1, column 'rating': the rating is missing"),
        ({"u_data": "1\t7\t5\t9\n1\t7\t5\t-9\n"}, "u.data, line 2, column 'time': the time -9 is negative"),
        ({"u_data": "1\t7\t5\tlater\n"}, "u.data, line 1, column 'time': the time 'later' is neither"),
        ({"ratings_dat": "1::7::5::9\n1::7::5::-9\n"}, "ratings.dat, line 2, column 'time': the time -9"),
        ({"ratings_dat": "1::7::5::9\n1::7::5\n"}, "ratings.dat, line 2: 5 fields split at ':', not 7"),
        ({"ratings_csv": "userId,movieId,rating\n1,7,5\n"}, "ratings.csv, line 1: there is no column 'timestamp'"),
        ({"ratings_csv": "userId,movieId,rating,timestamp\n"}, "ratings.csv is empty: it names columns"),
        ({"ratings_csv": "userId,movieId,rating,timestamp\n1,7,5,x\n"}, "ratings.csv, line 2, column 'timestamp'"),
        (
            {"ratings_dat": "1::7::5::9\n", "movies_dat": "7::Title\n"},
            "movies.dat, line 1: 2 fields between '::', but 3",
        ),
        ({"ratings_dat": "1::7::5::9\n", "movies_dat": "x::T::D\n"}, "movies.dat, column 'item': 'x' is not a number"),
    ],
)
def test_damaged_files_are_named_by_line_and_column(tmp_path, files, message):
    with pytest.raises(DataError, match=message):
        read_movielens(folder(tmp_path, **files))


@pytest.mark.parametrize(
    ("name", "rows", "users", "items", "catalogue"),
    [
        ("ml-100k", 100_000, 943, 1_682, 1_682),
        ("ml-1m", 1_000_209, 6_040, 3_706, 3_883),
        ("ml-latest-small", 100_836, 610, 9_724, 9_742),
    ],
)
def test_real_counts_are_the_published_ones(shared_data, name, rows, users, items, catalogue):
    tables = read_movielens(shared_data(name))
    assert len(tables.ratings) == rows
    assert tables.ratings.user.nunique() == users
    assert tables.ratings.item.nunique() == items
    assert len(tables.items) == catalogue
    assert [str(kind) for kind in tables.ratings.dtypes] == ["int32", "int32", "float32", "int64"]
    assert tables.items.title.str.endswith(")").mean() > 0.99
    assert (tables.users is None) == (name == "ml-latest-small")
