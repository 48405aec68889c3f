"""Run the code of a page, block after block in one namespace, and write what it prints and draws into the page.

    python experiments/page.py experiments/keys-queries-values.md

A fence ``text`` after a fence ``python`` holds what that block prints. In one marked ``text varies`` (times, results of
a training) only the words have to be reproduced, elsewhere the numbers as well.
"""

import contextlib
import io
import math
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

FENCES = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```text(?P<varies> varies)?\n(?P<shown>.*?)^```\n)?", re.M | re.S
)
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")


class Block(NamedTuple):
    """One fence of code and the output that the page shows for it.

    line: of the page, at which the code begins. shown: None where the page shows no output. varies: see the module.
    """

    code: str
    line: int
    shown: str | None
    varies: bool


def read_blocks(text: str) -> list[Block]:
    r"""Find the blocks of a page.

    >>> read_blocks("Hello\n\n```python\nprint(3)\n```\n\n```text\n3\n```\n")
    [Block(code='print(3)\n', line=4, shown='3\n', varies=False)]
    """
    return [
        Block(found["code"], text[: found.start("code")].count("\n") + 1, found["shown"], found["varies"] is not None)
        for found in FENCES.finditer(text)
    ]


def run_blocks(page: Path, settings: dict[str, Any] | None = None) -> tuple[dict[str, Any], list[str]]:
    """Run the blocks in order; return their namespace and what each printed.

    settings: names that are put into the namespace after the first block, which sets them for readers.
    """
    namespace: dict[str, Any] = {"__name__": page.stem}
    printed = []
    for block in read_blocks(page.read_text(encoding="utf-8")):
        out = io.StringIO()
        code = "\n" * (block.line - 1) + block.code  # a traceback then names the line of the page
        with contextlib.redirect_stdout(out):
            exec(compile(code, str(page), "exec"), namespace)  # noqa: S102 - our own page
        if not printed:
            namespace.update(settings or {})
        printed.append(out.getvalue())
    return namespace, printed


def differences(block: Block, printed: str) -> list[str]:
    """What a reader would find otherwise than shown; numbers may be 2 % or 0.02 off, the count of spaces is free."""
    shown = block.shown or ""
    if _words(printed) != _words(shown):
        return [f"line {block.line}: printed is\n{printed}\nshown is\n{shown}"]
    if block.varies:
        return []
    numbers = zip(_numbers(printed), _numbers(shown), strict=True)  # the same words hold the same count of numbers
    return [
        f"line {block.line}: printed is {have}, shown {want}"
        for have, want in numbers
        if not math.isclose(have, want, rel_tol=0.02, abs_tol=0.02)
    ]


def write_outputs(text: str, printed: list[str]) -> str:
    """The page with each output that it shows replaced by what was printed."""
    outputs = iter(printed)

    def renew(found: re.Match[str]) -> str:
        output = next(outputs)
        if found["shown"] is None:
            return found[0]
        start, end = found.start("shown") - found.start(), found.end("shown") - found.start()
        return found[0][:start] + output + found[0][end:]

    return FENCES.sub(renew, text)


def _words(text: str) -> list[str]:
    """The lines with # for each number and single spaces."""
    return [" ".join(NUMBER.sub("#", line).split()) for line in text.strip().splitlines()]


def _numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


def main() -> None:
    for name in sys.argv[1:]:
        page = Path(name)
        _, printed = run_blocks(page)
        page.write_text(write_outputs(page.read_text(encoding="utf-8"), printed), encoding="utf-8")


if __name__ == "__main__":
    main()
