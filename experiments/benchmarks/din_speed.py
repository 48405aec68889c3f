"""Training samples per second of DIN, ours beside FuxiCTR's and torch-rechub's, on the same samples of ml-100k.

Each peer has an environment of its own, torch first (or several GB of GPU packages come along):

    python -m venv FOLDER && FOLDER/bin/pip install torch==2.13.0
    FOLDER/bin/pip install -r experiments/benchmarks/peers-requirements/fuxictr.txt

    python experiments/benchmarks/din_speed.py --fuxictr-python FOLDER/bin/python [--rechub-python ...] [--source ...]

The sides run in turn, one process at a time, `--rounds` times over, with the same number of threads. A sample is an
event with at least one earlier event of its user; its label is rating >= 4, its history the user's last events before
it, 100 at most; the last tenth of each user's samples is the test. Embedding 64, attention MLP of one hidden layer of
64 with Dice and no softmax, DNN 256-128-64, the user id as a feature, binary cross-entropy, Adam 1e-3, 4,096 samples a
step. `scoring_ms`: 1,000 candidates for the user of the longest history, the median forward pass; the peers get 1,000
rows that repeat the history.

A step's time is from the end of the step before it, so that fetching its batch counts; the first steps are left out.
`samples_per_second` is samples over the median step; `samples_per_cpu_second` counts the processor time of all
threads, which other load on the machine disturbs less. Writes din_speed.json beside this file.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
WARM_STEPS = 3
CANDIDATES = 1000


def prepare(source, folder):
    """What all sides read: events in one order (ties at random), and where each user's test begins."""
    from recattn.data import encode, load_interactions

    histories = encode(load_interactions("ml-100k", source=source), ties="random", seed=0).histories
    lengths = histories.lengths
    cut = lengths - np.maximum(1, (lengths * 0.1).astype(np.int64))
    path = folder / "events.npz"
    np.savez(path, items=histories.items, offsets=histories.offsets, ratings=histories.ratings, cut=np.maximum(cut, 1))
    return path


def build(path):
    from recattn.data.histories import Histories

    events = np.load(path)
    users = len(events["offsets"]) - 1
    return (
        Histories(
            events["items"],
            events["offsets"],
            num_items=int(events["items"].max()),
            ratings=events["ratings"],
            profile=np.arange(1, users + 1, dtype=np.int32)[:, None],
            profile_sizes=(users + 1,),
        ),
        events["cut"],
    )


def ours(options):
    import torch
    from sklearn.metrics import roc_auc_score
    from torch.nn import functional as F

    from recattn.batch import RankingBatch
    from recattn.data.batches import pad_histories
    from recattn.data.click_samples import label_by_rating
    from recattn.data.clicks import ClickLoader
    from recattn.data.split import events_between
    from recattn.models import DIN

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    histories, cut = build(options.events)
    trained = label_by_rating(histories, events_between(np.ones_like(cut), cut))
    tested = label_by_rating(histories, events_between(cut, histories.lengths))
    model = DIN(
        histories.num_items,
        dim=64,
        form="paper",
        hidden_dims=(64,),
        readout_dims=(256, 128, 64),
        max_length=options.history,
        readout_activation="relu",
        embedding_std=1e-4,  # FuxiCTR's start
        profile_sizes=histories.profile_sizes,
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def loader(epoch):
        return ClickLoader(
            histories,
            trained,
            batch_size=options.batch_size,
            context=options.history,
            seed=options.seed,
            epoch=epoch,
        )

    model.train()
    clock = Clock()
    for epoch in range(options.epochs):
        clock.start()
        for batch in loader(epoch):
            real = batch.candidates != 0
            loss = F.binary_cross_entropy_with_logits(model(batch)[real], batch.labels[real])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            clock.tick(int(real.sum()))
    model.eval()
    logits, labels = [], []
    with torch.no_grad():
        for batch in ClickLoader(
            histories, tested, batch_size=options.batch_size, context=options.history, shuffle=False
        ):
            real = batch.candidates != 0
            logits.append(model(batch)[real])
            labels.append(batch.labels[real])
    result = clock.result()
    longest = np.array([histories.lengths.argmax()])
    history = pad_histories(histories, longest, histories.lengths[longest], max_length=options.history)
    asked = RankingBatch(history, torch.arange(1, CANDIDATES + 1)[None])
    with torch.no_grad():
        result["scoring_ms"] = milliseconds(lambda: model(asked))
    begin = time.perf_counter()
    batches = sum(1 for epoch in range(10) for _ in loader(epoch))
    result["data_batches_per_second"] = batches / (time.perf_counter() - begin)
    result["data_over_consumed"] = result["data_batches_per_second"] * options.batch_size / result["samples_per_second"]
    result["auc"] = float(roc_auc_score(torch.cat(labels), torch.cat(logits)))
    result["test_samples"] = len(torch.cat(labels))
    return result


def milliseconds(call, rounds=30):
    """The median time of a call."""
    found = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        found.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(found)


class Clock:
    """Wall and processor seconds of each full step."""

    def __init__(self):
        self.wall, self.cpu, self.samples = [], [], []

    def start(self):
        self.last = time.perf_counter(), time.process_time()

    def tick(self, samples):
        now = time.perf_counter(), time.process_time()
        self.wall.append(now[0] - self.last[0])
        self.cpu.append(now[1] - self.last[1])
        self.samples.append(samples)
        self.last = now

    def result(self):
        full = [i for i, n in enumerate(self.samples) if n == max(self.samples) and i >= WARM_STEPS]
        return {
            "samples_per_second": max(self.samples) / statistics.median(self.wall[i] for i in full),
            "best_samples_per_second": max(self.samples) / min(self.wall[i] for i in full),
            "samples_per_cpu_second": max(self.samples) / statistics.median(self.cpu[i] for i in full),
            "steps_timed": len(full),
            "train_samples": sum(self.samples),
        }


def compare(options):
    sides = {"recattn": (sys.executable, Path(__file__))}
    if options.fuxictr_python:
        sides["fuxictr"] = (options.fuxictr_python, HERE / "din_speed_fuxictr.py")
    if options.rechub_python:
        sides["torch-rechub"] = (options.rechub_python, HERE / "din_speed_rechub.py")
    runs = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as folder:
        events = prepare(options.source, Path(folder))
        for number in range(options.rounds):
            for name, (python, script) in sides.items():
                command = [python, script, "--worker", "--events", events]
                for key in ("epochs", "threads", "batch_size", "history"):
                    command += ["--" + key.replace("_", "-"), getattr(options, key)]
                command += ["--seed", options.seed + number]
                load = os.getloadavg()[0]
                environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
                done = subprocess.run(
                    [str(part) for part in command], check=True, capture_output=True, text=True, env=environment
                )
                runs[name].append(json.loads(done.stdout.splitlines()[-1]) | {"load_before": round(load, 2)})
                print(name, json.dumps(runs[name][-1]), file=sys.stderr, flush=True)
    medians = {
        name: {
            key: statistics.median(run[key] for run in some)
            for key in ("samples_per_second", "best_samples_per_second", "samples_per_cpu_second", "auc", "scoring_ms")
        }
        for name, some in runs.items()
    }
    ratios = {
        name: {key: medians["recattn"][key] / medians[name][key] for key in medians[name] if "samples" in key}
        | {"scoring": medians[name]["scoring_ms"] / medians["recattn"]["scoring_ms"]}
        for name in medians
        if name != "recattn"
    }
    result = {
        "what": f"DIN, embedding 64, history {options.history}, ml-100k",
        "command": f"python experiments/benchmarks/din_speed.py --rounds {options.rounds} --epochs {options.epochs} "
        f"--threads {options.threads} --batch-size {options.batch_size} --history {options.history} "
        f"--seed {options.seed}, and the environments",
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "threads": options.threads,
        "processor": processor(),
        "medians": medians,
        "recattn_over": ratios,
        "runs": runs,
    }
    text = json.dumps(result, indent=1)
    print(text)
    options.output.write_text(text + "\n")


def processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    known = dict(line.split(":", 1) for line in lines if ":" in line)
    known = {key.strip(): value.strip() for key, value in known.items()}
    flags = known.get("flags", "").split()
    wide = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{os.cpu_count()} x {known.get('model name', '?')} family {known.get('cpu family')} {' '.join(wide)}"


def worker_arguments(parser):
    parser.add_argument("--worker", action="store_true", help="be one side of the comparison")
    parser.add_argument("--events", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--history", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    worker_arguments(parser)
    parser.add_argument("--source", help="folder of ml-100k; downloaded otherwise")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--fuxictr-python", help="python of an environment with peers-requirements/fuxictr.txt")
    parser.add_argument("--rechub-python", help="python of an environment with peers-requirements/torch-rechub.txt")
    parser.add_argument("--output", type=Path, default=HERE / "din_speed.json")
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(ours(options)))
    else:
        compare(options)


if __name__ == "__main__":
    main()
