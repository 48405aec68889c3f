"""The page runs and prints what it shows; experiments/page.py, which runs it, has known answers."""

import importlib.util
import re
from pathlib import Path

import matplotlib as mpl
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "experiments" / "keys-queries-values.md"
FIGURES = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8"))

_spec = importlib.util.spec_from_file_location("page", ROOT / "experiments" / "page.py")
page = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(page)

TEXT = (
    "Begin\n\n```python\nx = 3\nprint(x)\n```\n\n```text\n3\n```\n\n"
    "```python\ny = x\n```\n\n```text varies\nno\n```\nEnd\n"
)


def test_the_page_does_what_it_shows(shared_data, tmp_path):
    data = shared_data("ml-100k").parent
    with mpl.rc_context():
        namespace, printed = page.run_blocks(PAGE, {"data_dir": data, "figures": tmp_path, "epochs": 1})
    blocks = page.read_blocks(PAGE.read_text(encoding="utf-8"))
    assert sum(block.shown is not None for block in blocks) > 10
    for block, output in zip(blocks, printed, strict=True):
        assert page.differences(block, output) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(Path(figure).name for figure in FIGURES)
    # What the last section says in words: each candidate looks at films of its kind.
    animated = namespace["animated"]
    snow_white, confidential = namespace["weights"][0][:, : len(animated)]
    assert snow_white[animated].sum() > 0.5 > snow_white[~animated].sum()
    assert confidential[~animated].sum() > 0.5 > confidential[animated].sum()


def test_each_figure_is_there_and_small():
    kept = (PAGE.parent / PAGE.stem).iterdir()
    assert sorted(path.relative_to(PAGE.parent).as_posix() for path in kept) == sorted(FIGURES)
    for figure in FIGURES:
        data = (PAGE.parent / figure).read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) < 100_000


def test_blocks_have_their_code_line_and_output():
    assert page.read_blocks(TEXT) == [
        page.Block("x = 3\nprint(x)\n", 4, "3\n", varies=False),
        page.Block("y = x\n", 13, "no\n", varies=True),
    ]
    assert page.read_blocks("```python\n1\n```\n\nwords\n\n```text\n2\n```\n")[0].shown is None
    assert page.read_blocks("```bash\nls\n```\n\n    python\n") == []


def test_blocks_share_a_namespace_and_settings_come_after_the_first(tmp_path):
    path = tmp_path / "some.md"
    path.write_text(
        "```python\na = 1\nprint(a)\n```\n\n```python\na += 1\nprint(a)\n```\n\n```python\nprint(a, __name__)\n```\n",
        encoding="utf-8",
    )
    namespace, printed = page.run_blocks(path)
    assert printed == ["1\n", "2\n", "2 some\n"]
    assert namespace["a"] == 2
    assert page.run_blocks(path, {"a": 10})[1] == ["1\n", "11\n", "11 some\n"]


def test_an_error_names_the_line_of_the_page(tmp_path):
    path = tmp_path / "wrong.md"
    path.write_text("words\n\n```python\nx = 1\n1 / 0\n```\n", encoding="utf-8")
    with pytest.raises(ZeroDivisionError) as caught:
        page.run_blocks(path)
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno + 1) == (path, 5)


@pytest.mark.parametrize(
    ("shown", "printed", "varies", "same"),
    [
        ("a  3.50\n", "a 3.51", False, True),
        ("a 3.50", "a 3.80", False, False),
        ("a 3.50", "a 3.80", True, True),
        ("a 3.50", "b 3.50", True, False),
        ("a 1,000", "a 1,015", False, True),
        ("a 1,000", "a 1,025", False, False),
        ("0.010", "-0.005", False, True),
        ("a 1\nb 2", "a 1", True, False),
        ("a 1", "a 1 2", True, False),
        (None, "", False, True),
        (None, "forgotten", False, False),
    ],
)
def test_differences_are_words_and_numbers_beyond_the_tolerance(shown, printed, varies, same):
    assert (page.differences(page.Block("", 7, shown, varies), printed) == []) is same


def test_a_difference_names_line_and_numbers():
    assert page.differences(page.Block("", 7, "1 2 3", varies=False), "1 5 3") == ["line 7: printed is 5.0, shown 2.0"]


def test_outputs_are_written_where_the_page_shows_some():
    text = TEXT.replace("y = x\n```\n\n```text varies\nno\n", "y = x\n")  # the second block now shows nothing
    assert page.write_outputs(text, ["7\n", ""]) == text.replace("text\n3\n", "text\n7\n")
    assert page.write_outputs(TEXT, ["3\n", "\\1 yes\n"]) == TEXT.replace("no\n", "\\1 yes\n")
