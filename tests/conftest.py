"""Fixtures that tests of several folders share."""

import os
from collections.abc import Callable
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


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    """These tensors are tiny: threads that wait for a processor would take most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
