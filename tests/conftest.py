"""Fixtures that tests of several folders share."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch

_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Give the folder of a real data set kept beside the repository (or in RECATTN_TEST_DATA), or skip the test."""
    root = Path(os.environ.get("RECATTN_TEST_DATA") or _ROOT.parent / "shared" / "data")

    def find(name: str) -> Path:
        folder = root / name
        if not folder.is_dir():
            pytest.skip(f"no {name} in {root} (set RECATTN_TEST_DATA to a folder that has it)")
        return folder

    return find


@pytest.fixture
def interrupted_validation() -> Callable[[type, int], AbstractContextManager[None]]:
    """Inside ``with interrupted_validation(task, n)`` ctrl-C strikes where the n-th validation of such a task ends."""

    @contextmanager
    def at(task: type, number: int) -> Iterator[None]:
        real, calls = task.on_validation_epoch_end, []

        def interrupted(self):
            calls.append(1)
            if len(calls) == number:
                raise KeyboardInterrupt
            real(self)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(task, "on_validation_epoch_end", interrupted)
            yield

    return at


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    """These tensors are tiny: threads that wait for a processor would take most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
