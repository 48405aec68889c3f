"""What the sides of next_item_speed.py have in common; it runs in the peers' environments too."""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np

HERE = Path(__file__).parent
LENGTH, DIM, BLOCKS, HEADS, DROPOUT, BATCH, LEARNING_RATE = 200, 64, 2, 2, 0.2, 128, 1e-3
K, RANKED_AT_ONCE = 10, 256
WARM_STEPS, RANKINGS = 3, 3


def worker_arguments(parser):
    parser.add_argument("--worker", action="store_true", help="be one side of the comparison")
    parser.add_argument("--events", type=Path)
    parser.add_argument("--loss", default="softmax", help="of a worker: softmax, bce or sampled")
    parser.add_argument("--batches", type=int, default=12, help="steps timed; an epoch has 48")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quality", type=float, metavar="MINUTES", help="train one side so long, record each epoch")
    parser.add_argument("--epochs", type=int, default=20, help="of --quality, for recattn: its learning rate ends at 0")


def read_events(path):
    """The events as arrays: items (1 to num_items) and offsets, as in recattn.data.Histories."""
    events = np.load(path)
    return SimpleNamespace(items=events["items"], offsets=events["offsets"], num_items=int(events["num_items"]))


def without_last(events, left_out, most=None):
    """Each user's last ``most`` events before the ``left_out`` last ones, as events of their own."""
    ends = events.offsets[1:] - left_out
    starts = events.offsets[:-1] if most is None else np.maximum(events.offsets[:-1], ends - most)
    offsets = np.concatenate([[0], np.cumsum(ends - starts)])
    rows = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], ends - starts)
    return SimpleNamespace(items=events.items[rows], offsets=offsets, num_items=events.num_items)


def training_part(events):
    """What is trained on: each user's last 201 events but for the validation's and the test's."""
    return without_last(events, 2, LENGTH + 1)


def left_padded(events, users, width):
    """The last ``width`` items of these users, (users, width), 0 in front where there are fewer."""
    places = events.offsets[users + 1][:, None] - np.arange(width, 0, -1)
    real = places >= events.offsets[users][:, None]
    return np.where(real, events.items[np.where(real, places, 0)], 0).astype(np.int64)


def as_histories(events):
    from recattn.data import Histories

    return Histories(events.items, events.offsets, num_items=events.num_items)


def side(options, name):
    """Python and script of a side, None where there is no environment for it."""
    if name == "recattn":
        return sys.executable, HERE / "next_item_speed.py"
    python = {"replay": options.replay_python, "rectools": options.rectools_python}[name]
    return (python, HERE / f"next_item_speed_{name}.py") if python else None


def run_side(options, name, events, **arguments):
    """What the side's process says on its last line."""
    command = [*side(options, name), "--worker", "--events", events, "--threads", options.threads]
    for key, value in arguments.items():
        command += [f"--{key}", value]
    done = subprocess.run(
        [str(part) for part in command],
        check=False,  # what went wrong is shown below
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(options.threads)},
    )
    if done.returncode:
        raise SystemExit(f"{name}, {arguments}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


class Clock:
    """Wall and processor seconds of each step, and its targets."""

    def __init__(self):
        self.steps = []

    def start(self):
        self.last = time.perf_counter(), time.process_time()

    def tick(self, targets):
        now = time.perf_counter(), time.process_time()
        self.steps.append((now[0] - self.last[0], now[1] - self.last[1], int(targets)))
        self.last = now

    def result(self, targets):
        """targets: of a whole epoch."""
        wall, cpu, seen = (sum(column) for column in zip(*self.steps[WARM_STEPS:], strict=True))
        count = len(self.steps) - WARM_STEPS
        return {
            "seconds_per_epoch": wall / seen * targets,
            "cpu_seconds_per_epoch": cpu / seen * targets,
            "targets_per_second": seen / wall,
            "batches_per_second": count / wall,
            "batches_timed": count,
            "targets": int(targets),
            "train_peak_mb": peak_mb(),
        }


def stopwatch(callback, clock, targets):
    """A Lightning callback, of either of its packages, that runs the clock; ``targets(batch)`` counts a batch's."""

    class Stopwatch(callback):
        def on_train_epoch_start(self, *_):
            clock.start()

        def on_train_batch_end(self, _trainer, _module, _outputs, batch, _index):
            clock.tick(targets(batch))

    return Stopwatch()


def trainer_settings(**more):
    """What every side's Trainer gets."""
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    return (
        {"accelerator": "cpu", "limit_val_batches": 0, "num_sanity_val_steps": 0} | dict.fromkeys(quiet, False) | more
    )


def time_ranking(rank, items, events):
    """Users per second of ``rank()``; ``items`` makes (users, 10) item numbers of what it gives, users in order."""
    seconds = []
    for _ in range(RANKINGS):
        began = time.perf_counter()
        found = rank()
        seconds.append(time.perf_counter() - began)
    history = without_last(events, 1)
    users = len(history.offsets) - 1
    seen = np.zeros((users, events.num_items + 1), bool)
    seen[np.repeat(np.arange(users), np.diff(history.offsets)), history.items] = True
    top = np.asarray(items(found), np.int64)
    if top.shape != (users, K) or top.min() < 1 or np.take_along_axis(seen, top, 1).any():
        raise RuntimeError(f"the top-10 has shape {top.shape}, or holds padding or what was seen")
    return {"users_per_second": users / statistics.median(seconds), "peak_mb": peak_mb()}


def peak_mb():
    """The most memory this process has held. getrusage would begin with what its parent held."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10, 1)


@cache
def borrowed(name):
    """The module recattn.evaluation.NAME without its package, whose other modules need newer versions than peers do."""
    root = HERE.parents[1]
    if str(root) not in sys.path:
        sys.path.append(str(root))
    specification = importlib.util.spec_from_file_location(name, root / "recattn" / "evaluation" / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


class Course:
    """Minutes of training, without what is measured between epochs, and the NDCG@10 that each epoch reached."""

    def __init__(self, minutes):
        self.limit, self.seconds, self.points = 60 * minutes, 0.0, []

    def begin(self):
        self.since = time.perf_counter()

    def pause(self):
        self.seconds += time.perf_counter() - self.since

    def record(self, ndcg):
        """Returns whether time is up."""
        self.points.append({"minutes": self.seconds / 60, "ndcg@10": float(ndcg)})
        print(f"epoch {len(self.points)}: {self.points[-1]}", file=sys.stderr, flush=True)
        return self.seconds >= self.limit


def watcher(callback, course, events, score):
    """A Lightning callback that measures each epoch on the validation targets and stops when time is up.

    score: (users, 200) item numbers, left-padded with 0 -> scores (users, num_items + 1).
    """
    borrowed("ranks"), borrowed("metrics")  # what is not there is missed now, not after an epoch

    class Watcher(callback):
        def on_train_epoch_start(self, *_):
            course.begin()

        def on_train_epoch_end(self, trainer, module):
            course.pause()
            module.eval()
            trainer.should_stop = course.record(validation_ndcg(score, events))
            module.train()

    return Watcher()


def validation_ndcg(score, events):
    """NDCG@10 of the last event but one in the whole catalogue, seen out, ties against it: recattn's own ranks."""
    import torch

    ranks, metrics = borrowed("ranks"), borrowed("metrics")
    history, found = without_last(events, 2), []
    with torch.no_grad():
        for users in np.array_split(np.arange(len(history.offsets) - 1), 24):
            targets = torch.from_numpy(events.items[events.offsets[users + 1] - 2].astype(np.int64))
            seen = left_padded(history, users, int(np.diff(history.offsets)[users].max()))
            scores = score(torch.from_numpy(left_padded(history, users, LENGTH)))
            found.append(ranks.target_ranks(scores, targets, torch.from_numpy(seen)).numpy())
    return metrics.ndcg(np.concatenate(found), K).mean()
