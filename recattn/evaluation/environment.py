"""Where a number was made: machine, versions, commit, memory."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import torch

_PACKAGES = ("recattn", "torch", "numpy", "scipy", "pandas", "scikit-learn", "pytorch-lightning")


def hardware() -> dict[str, object]:
    """Processor, number of logical processors this process may use, memory in GB, and the GPU's name or None.

    >>> sorted(hardware())
    ['cpu', 'cpus', 'gpu', 'memory_gb']
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = None
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": _cpu_name(), "cpus": cpus, "memory_gb": memory, "gpu": gpu}


def _cpu_name() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on, as far as they are installed.

    >>> {"python", "torch", "numpy"} <= set(versions())
    True
    """
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The git hash of the checkout that recattn runs from, with "-dirty" behind it where tracked files were changed.

    None where recattn is not run from its own checkout, git is missing, or nothing is committed yet.
    """
    root = Path(__file__).resolve().parents[2]
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    described = subprocess.run(  # noqa: S603 the program is git, the arguments are ours
        [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or None if described.returncode == 0 else None


def peak_rss_mb() -> float | None:
    """The most memory this process has held so far, in MB (2**20 bytes); None where the system does not say.

    >>> peak_rss_mb() is None or peak_rss_mb() > 1
    True
    """
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 2**20 if sys.platform == "darwin" else peak / 2**10, 1)
