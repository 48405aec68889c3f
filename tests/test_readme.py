import inspect
import re
from pathlib import Path

import pytest
from torch import nn

import recattn.nn as rnn

ROOT = Path(__file__).resolve().parents[1]
LAYERS_PAGE = "recattn/nn/README.md"
PAGES = (
    "README.md",
    "DESIGN.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "experiments/README.md",
    "experiments/benchmarks/README.md",
    "experiments/keys-queries-values.md",
    "data/README.md",
    LAYERS_PAGE,
)


def blocks() -> list[str]:
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", LAYERS_PAGE))
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", blocks())
def test_the_readmes_code_runs(block):
    exec(compile(block, "README.md", "exec"), {})  # noqa: S102 - our own page


def test_the_readme_shows_the_layer():
    assert any("AttentionPooling" in block for block in blocks())


def test_the_layers_page_names_every_module_that_one_can_import():
    text = (ROOT / LAYERS_PAGE).read_text(encoding="utf-8")
    for name in rnn.__all__:
        if inspect.isclass(getattr(rnn, name)) and issubclass(getattr(rnn, name), nn.Module):
            assert f"`{name}" in text, f"{LAYERS_PAGE} does not name {name}"


@pytest.mark.parametrize("page", PAGES)
def test_links_inside_the_repository_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


def test_make_targets_named_in_the_pages_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        for target in re.findall(r"(?:^ {4}|`)make ([a-z]+)", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page} names make {target}"
