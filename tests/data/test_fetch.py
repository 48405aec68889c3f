import hashlib
import http.server
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace

import pytest

from recattn.data import sources
from recattn.data.fetch import data_folder, fetch
from recattn.data.movielens import read_movielens
from recattn.data.sources import SOURCES, Archive, Member
from recattn.errors import DataError

RATINGS = "".join(f"{user}\t{item}\t{1 + (user + item) % 5}\t{880000000 + 7 * user + item}\n" for user in range(1, 4)
                  for item in range(1, 6)).encode()  # fmt: skip
ITEMS = "".join(f"{item}|Film {item} (199{item})|01-Jan-1995||url|{'|'.join('01' * 9)}|0\n" for item in range(1, 6))
USERS = "1|24|M|technician|85711\n2|53|F|other|94043\n3|23|M|writer|32067\n"
ORIGINAL = {"u.data": RATINGS, "u.item": ITEMS.encode(), "u.user": USERS.encode()}
PADDING = bytes(range(256)) * 997  # makes the archive larger than one packet; never read


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def zipped(path, folder, members, extra=()):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{folder}/{name}" if folder else name, data)
        for name, data in extra:
            archive.writestr(name, data)
    return path.read_bytes()


def described(file, folder, members, data):
    parts = tuple(Member(name, len(content), sha256=sha256(content)) for name, content in members.items())
    return Archive(file, folder, parts, size=len(data), sha256=sha256(data))


class Server:
    """Serves one archive; ``breaks`` transfers stop half way, ``ranges`` says whether Range is honoured."""

    def __init__(self):
        self.data, self.breaks, self.ranges, self.status, self.asked = b"", 0, True, None, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers.get("Range")
                outer.asked.append(asked)
                start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and outer.ranges else 0
                self.send_response(outer.status or (206 if start else 200))
                body = b"" if outer.status else outer.data[start:]
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if outer.breaks:
                    outer.breaks -= 1
                    body = body[: len(body) // 2]
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.http = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})


@pytest.fixture
def server():
    server = Server()
    server.thread.start()
    yield server
    server.http.shutdown()
    server.thread.join()
    server.http.server_close()


@pytest.fixture
def small(tmp_path, monkeypatch, server):
    """A tiny data set called ml-100k whose official URL is the local server; no package index can be reached."""
    data = zipped(tmp_path / "made.zip", "ml-100k", ORIGINAL, [("ml-100k/padding", PADDING), ("../evil", b"!")])
    source = replace(
        SOURCES["ml-100k"], archive=described("ml-100k.zip", "ml-100k", ORIGINAL, data), wheel=None, rows=15
    )
    monkeypatch.setitem(SOURCES, "ml-100k", source)
    monkeypatch.setattr(sources, "_GROUPLENS", server.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("RECATTN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    server.data = data
    return source


def test_a_download_is_unpacked_verified_and_found_again(small, server, tmp_path):
    said, seen = [], []
    folder = fetch("ml-100k", say=said.append, progress=lambda done, size: seen.append((done, size)))
    assert folder == tmp_path / "data" / "ml-100k"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == ORIGINAL
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["ml-100k"]
    assert seen[-1] == (len(server.data), len(server.data))
    assert len(said) == 1
    assert "no redistribution" in said[0]
    assert "10.1145/2827872" in said[0]
    assert fetch("ml-100k", say=said.append) == folder
    assert len(server.asked) == len(said) == 1


def test_a_broken_transfer_is_resumed_where_it_stopped(small, server):
    server.breaks = 2
    folder = fetch("ml-100k")
    first, *later = server.asked
    assert first is None
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in later]
    assert 0 < starts[0] < starts[1] < len(server.data)
    assert (folder / "u.data").read_bytes() == RATINGS


def test_a_later_call_resumes_what_an_earlier_one_left(small, server, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ml-100k.zip.part").write_bytes(server.data[:4099])
    fetch("ml-100k")
    assert server.asked == ["bytes=4099-"]


def test_a_server_that_ignores_the_range_sends_everything_anew(small, server):
    server.ranges, server.breaks = False, 1
    assert (fetch("ml-100k") / "u.data").read_bytes() == RATINGS


def test_a_wrong_checksum_names_both_sums_and_leaves_nothing(small, server, tmp_path):
    wrong = server.data[:-1] + b"x"
    server.data = wrong
    with pytest.raises(DataError, match=f"{sha256(wrong)}, published is {small.archive.sha256}") as caught:
        fetch("ml-100k")
    assert "Try again" in str(caught.value)
    assert list((tmp_path / "data").iterdir()) == []


def test_everything_tried_is_listed_with_what_to_do(small, server, tmp_path):
    server.status = 503
    with pytest.raises(DataError) as caught:
        fetch("ml-100k")
    message = str(caught.value)
    assert f"(1) {tmp_path / 'data'} has neither ml-100k/u.data nor ml-100k.zip" in message
    assert "503 Server Error" in message
    assert f"put ml-100k.zip into {tmp_path / 'data'}" in message
    assert "source= (--source)" in message


def test_an_unreachable_server_is_one_of_the_reasons(small, monkeypatch):
    monkeypatch.setattr(sources, "_GROUPLENS", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"ml-100k.zip: .*refused"):
        fetch("ml-100k")


def test_an_archive_put_into_the_data_folder_is_used(small, server, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ml-100k.zip").write_bytes(server.data)
    assert (fetch("ml-100k") / "u.user").read_bytes() == ORIGINAL["u.user"]
    assert server.asked == []
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", ["folder", "archive", "repacked", "file"])
def test_a_named_place_is_used_before_the_network(small, server, tmp_path, kind):
    mine = tmp_path / "mine"
    mine.mkdir()
    if kind in {"folder", "file"}:
        for name, data in ORIGINAL.items():
            if kind == "folder" or name == "u.data":
                (mine / name).write_bytes(data)
    elif kind == "archive":
        (mine / "any.zip").write_bytes(server.data)
    else:
        zipped(mine / "any.zip", "", ORIGINAL)
    place = {"folder": mine, "file": mine / "u.data"}.get(kind, mine / "any.zip")
    folder = fetch("ml-100k", source=place)
    assert (folder / "u.data").read_bytes() == RATINGS
    assert (folder == mine) == (kind in {"folder", "file"})
    assert server.asked == []


def test_the_data_folder_comes_before_the_named_place_and_says_so(small, tmp_path):
    folder = fetch("ml-100k")
    said = []
    assert fetch("ml-100k", source=tmp_path / "made.zip", say=said.append) == folder
    assert "is used, not" in said[0]


def test_other_bytes_need_an_opt_in_and_are_reported(small, tmp_path):
    for name, data in ORIGINAL.items():
        (tmp_path / name).write_bytes(data + b"4\t1\t5\t880000000\n" if name == "u.data" else data)
    with pytest.raises(DataError, match=f"u.data has .* bytes, published are {len(RATINGS)}.*verify=False"):
        fetch("ml-100k", source=tmp_path)
    said = []
    assert fetch("ml-100k", source=tmp_path, verify=False, say=said.append) == tmp_path
    assert "NOT the published bytes" in said[0]
    same_size = RATINGS[:-2] + b"9\n"
    (tmp_path / "u.data").write_bytes(same_size)
    with pytest.raises(DataError, match=f"has the sha256 {sha256(same_size)}, published is {sha256(RATINGS)}"):
        fetch("ml-100k", source=tmp_path)


def test_another_edition_can_be_downloaded_with_an_opt_in(small, server, tmp_path):
    server.data = zipped(tmp_path / "new.zip", "ml-100k", ORIGINAL | {"u.data": RATINGS * 2})
    said = []
    assert (fetch("ml-100k", verify=False, say=said.append) / "u.data").read_bytes() == RATINGS * 2
    assert "NOT the published bytes" in said[0]


def test_a_damaged_archive_is_named(small, server, tmp_path):
    path = tmp_path / "cut.zip"
    path.write_bytes(server.data[: len(server.data) // 2])
    with pytest.raises(DataError, match=r"cut.zip has \d+ bytes, published are"):
        fetch("ml-100k", source=path)
    with pytest.raises(DataError, match=r"cut.zip is damaged or was cut off"):
        fetch("ml-100k", source=path, verify=False)
    broken = bytearray(server.data)
    broken[100] ^= 1  # inside of the ratings: the directory is whole, the content is not
    path.write_bytes(broken)
    with pytest.raises(DataError, match=r"cut.zip is damaged or was cut off"):
        fetch("ml-100k", source=path, verify=False)
    assert not (tmp_path / "data" / "ml-100k").exists()


def test_an_archive_without_the_ratings_is_named(small, tmp_path):
    zipped(tmp_path / "other.zip", "x", {"readme": b"hello"})
    with pytest.raises(DataError, match=r"other.zip should hold ml-100k/u.data, but has only x/readme"):
        fetch("ml-100k", source=tmp_path / "other.zip", verify=False)


def test_a_folder_without_titles_needs_an_opt_in(small, tmp_path):
    (tmp_path / "u.data").write_bytes(RATINGS)
    with pytest.raises(DataError, match=r"u.item is missing"):
        fetch("ml-100k", source=tmp_path)
    assert fetch("ml-100k", source=tmp_path, verify=False) == tmp_path


def test_places_that_cannot_be_used_are_named(small, tmp_path):
    with pytest.raises(DataError, match="nowhere: there is no such file or folder"):
        fetch("ml-100k", source=tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"the folder has no u.data"):
        fetch("ml-100k", source=tmp_path)
    (tmp_path / "events.csv").write_text("user,item\n")
    with pytest.raises(DataError, match="loaded by its path instead"):
        fetch("ml-100k", source=tmp_path / "events.csv")
    with pytest.raises(DataError, match="no data set is named 'ml-2m'; there are ml-100k, ml-1m"):
        fetch("ml-2m")


def test_the_data_folder_is_named_by_argument_environment_or_habit(monkeypatch):
    monkeypatch.setenv("RECATTN_DATA", "/some/where")
    assert str(data_folder()) == "/some/where"
    assert str(data_folder("here")) == "here"
    monkeypatch.delenv("RECATTN_DATA")
    assert str(data_folder()) == "data"


ATOMIC = {
    "ml-100k.inter": b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + RATINGS,
    "ml-100k.item": (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        + "".join(
            f"{item}\tFilm {item}\t199{item}\tAction Animation Comedy Documentary Fantasy Horror Mystery Sci-Fi War\n"
            for item in range(1, 6)
        )
    ).encode(),
    "ml-100k.user": (
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n" + USERS.replace("|", "\t")
    ).encode(),
}


@pytest.fixture
def wheel(small, server, tmp_path, monkeypatch):
    """A wheel with the atomic files, found by pip in a local folder; the official URL answers 404."""
    server.status = 404
    index = tmp_path / "index"
    index.mkdir()
    about = [
        ("recbole-1.2.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n"),
        ("recbole-1.2.1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
        ("recbole-1.2.1.dist-info/RECORD", ""),
    ]
    folder = "recbole/dataset_example/ml-100k"
    path = index / "recbole-1.2.1-py3-none-any.whl"
    data = zipped(path, folder, ATOMIC, about)
    source = replace(small, wheel=described(path.name, folder, ATOMIC, data))
    monkeypatch.setitem(SOURCES, "ml-100k", source)
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return path


def test_the_copy_on_the_package_index_gives_the_same_tables(wheel, tmp_path):
    said = []
    folder = fetch("ml-100k", say=said.append)
    assert sorted(path.name for path in folder.iterdir()) == sorted(ATOMIC)
    assert "read the copy inside of recbole-1.2.1" in said[-1]
    original = tmp_path / "original"
    original.mkdir()
    for name, data in ORIGINAL.items():
        (original / name).write_bytes(data)
    for ours, theirs in zip(read_movielens(folder)[:3], read_movielens(original)[:3], strict=True):
        assert ours.equals(theirs)
        assert ours.dtypes.equals(theirs.dtypes)
    assert fetch("ml-100k") == folder


def test_the_wheel_is_never_installed_and_may_be_named(wheel):
    assert (fetch("ml-100k", source=wheel) / "ml-100k.inter").is_file()
    done = subprocess.run([sys.executable, "-c", "import recbole"], capture_output=True, check=False)
    assert done.returncode != 0


def test_another_wheel_on_the_index_is_refused(wheel, tmp_path):
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("recbole/more", "x")
    with pytest.raises(DataError, match=r"pip download recbole==1.2.1: the package index sent a file that has"):
        fetch("ml-100k")
    assert not (tmp_path / "data" / "ml-100k").exists()


def test_what_pip_says_is_one_of_the_reasons(wheel, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "data"))
    with pytest.raises(DataError, match=r"404 Client Error.*\(3\) pip download recbole==1.2.1: ERROR: No matching"):
        fetch("ml-100k")


@pytest.mark.parametrize("name", ["ml-100k", "ml-latest-small"])
def test_the_sums_in_the_table_are_those_of_the_real_files(shared_data, name, tmp_path):
    assert fetch(name, source=shared_data(name), data_dir=tmp_path) == shared_data(name)
