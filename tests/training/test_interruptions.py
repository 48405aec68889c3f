"""A training that is killed, interrupted or finds the disk full goes on to the very weights of one that was not.

This file is also the program that is struck down: ``python test_interruptions.py FOLDER``.
"""

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from recattn.data.histories import Histories
from recattn.data.splits import leave_one_out
from recattn.errors import RecattnError
from recattn.models import SASRec
from recattn.training import NextItemTask, checkpoints, fit

RING, USERS, LENGTH = 29, 37, 11
FILES = ["best.ckpt", "last.ckpt", "training.json"]


def train(folder, *, resume=False, seed=0):
    """Three epochs on people who walk round a ring, with dropout and shared negatives."""
    starts = np.random.default_rng(7).integers(RING, size=(USERS, 1))
    items = ((starts + np.arange(LENGTH)) % RING + 1).astype(np.int32)
    split = leave_one_out(Histories(items.reshape(-1), np.arange(USERS + 1) * LENGTH, RING))
    torch.manual_seed(seed)
    model = SASRec(RING, dim=8, num_layers=1, max_length=10, dropout=0.2)
    task = NextItemTask(model, num_negatives=13, learning_rate=0.02, warmup_steps=5)
    fit(model, split, folder=folder, task=task, max_epochs=3, seed=5, resume=resume, progress=False)
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def send(number):
    os.kill(os.getpid(), number)


def in_epoch_2(deed):
    """Do it before a step in the middle of the second of three epochs."""
    step = NextItemTask.training_step

    def struck(self, batch, index):
        if self.current_epoch == 1 and index == 3:
            deed()
        return step(self, batch, index)

    NextItemTask.training_step = struck


def before_write(number, deed):
    write, calls = checkpoints.torch.save, []

    def struck(*arguments):
        calls.append(1)
        if len(calls) == number:
            deed()
        write(*arguments)

    checkpoints.torch.save = struck


def fill_disk(folder):
    """From now on a file ends at half of the smaller checkpoint: the write that goes beyond fails."""
    half = (folder / "best.ckpt").stat().st_size // 2
    resource.setrlimit(resource.RLIMIT_FSIZE, (half, half))


def strike(folder, how):
    if how == "killed":
        in_epoch_2(lambda: send(signal.SIGKILL))
    elif how == "interrupted":
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell runs in the background ignores it
        in_epoch_2(lambda: send(signal.SIGINT))
    elif how == "killed between best and last":
        before_write(4, lambda: send(signal.SIGKILL))
    else:
        in_epoch_2(lambda: fill_disk(folder))
    if how == "killed in a write":  # Python ignores this signal, which kills a process that exceeds the limit
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        train(folder)
    except RecattnError as error:
        sys.exit(f"recattn: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


STRUCK = {  # the status that each ends with, and the epoch, from 0, of its best checkpoint
    "killed": (-signal.SIGKILL, 0),
    "interrupted": (130, 0),
    "killed between best and last": (-signal.SIGKILL, 1),
    "killed in a write": (-signal.SIGXFSZ, 0),
    "disk full": (1, 0),
}


def main(root):
    """Each in a process of its own; forked, as loading torch takes longer than all that they do."""
    torch.set_num_threads(1)
    statuses = {}
    for how in STRUCK:
        process = multiprocessing.get_context("fork").Process(target=strike, args=(root / how, how))
        process.start()
        process.join()
        statuses[how] = process.exitcode
    sys.stdout.write(json.dumps(statuses))


@pytest.fixture(scope="module")
def struck(tmp_path_factory):
    """The folders, the statuses and what was said."""
    root = tmp_path_factory.mktemp("struck")
    done = subprocess.run([sys.executable, __file__, str(root)], capture_output=True, text=True, check=True)
    return root, json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    torch.set_num_threads(1)
    return train(tmp_path_factory.mktemp("whole"))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("how", STRUCK)
def test_a_training_struck_in_epoch_2_keeps_epoch_1_and_ends_as_if_nothing_had_been(how, struck, uninterrupted):
    root, statuses, said = struck
    folder, (status, best) = root / how, STRUCK[how]
    assert statuses[how] == status, said
    epochs = [torch.load(folder / name, weights_only=True)["epoch"] for name in ("last.ckpt", "best.ckpt")]
    assert epochs == [0, best]
    resumed = train(folder, resume=True, seed=1)  # of its own first weights nothing may be left
    assert resumed == uninterrupted
    assert names(folder) == FILES, "what was half-written is gone"


def test_a_full_disk_is_told_in_one_line_and_leaves_nothing_half_written(struck):
    root, _, said = struck
    told = f"recattn: {root}/disk full/best.ckpt could not be written: [Errno 27] File too large; what earlier epochs"
    assert [line for line in said.splitlines() if line.startswith(told)], said
    assert "Traceback" not in said


def test_an_error_that_is_not_the_disks_passes(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("something else")

    monkeypatch.setattr(checkpoints.torch, "save", fail)
    with pytest.raises(RuntimeError, match="something else"):
        checkpoints.WholeCheckpoints().save_checkpoint({}, tmp_path / "last.ckpt")
    assert names(tmp_path) == []


if __name__ == "__main__":
    main(Path(sys.argv[1]))
