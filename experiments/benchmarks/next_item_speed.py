"""SASRec's clocks beside RePlay's and RecTools', on the same sequences of ml-1m: training, memory, top-10.

Each peer has an environment of its own, torch first (or several GB of GPU packages come along):

    python -m venv FOLDER && FOLDER/bin/pip install torch==2.13.0
    FOLDER/bin/pip install -r experiments/benchmarks/peers-requirements/replay.txt

    python experiments/benchmarks/next_item_speed.py --replay-python FOLDER/bin/python --rectools-python ...
    python experiments/benchmarks/next_item_speed.py --quality 15 --side replay --replay-python FOLDER/bin/python

Width 64, 2 blocks of 2 heads, feed-forward 64 wide, dropout 0.2, length 200, 128 sequences a batch, Adam 1e-3. A user
is one sequence, the last 201 events of the training part of leave-one-out, so 200 targets at most; each side counts
the targets of its epoch, and the counts must agree. Every side trains under Lightning's Trainer, the peers with their
defaults: batches padded to 200, dropout on the attention as well, which ours does not have.

The sides run in turn, one process at a time, `--rounds` times over, with the same number of threads. A step's time is
from the end of the step before it, so that fetching its batch counts; the first steps are left out. An epoch takes
what the `--batches` steps timed took, by targets. Ratios, ours / the peer's, are taken within a round; then the median.
`train_peak_mb` and `peak_mb` are the most memory that the process held, after training and after ranking. Top-10: all
users' histories but for the last event, seen items out, 256 users at once. `bce` has one negative: RecTools draws it
for each target, ours for each sequence; `sampled` has 1,024 that some sequences share. Ours asks torch for huge pages
of memory.

Writes next_item_speed.json beside this file. `--quality MINUTES` is the time to a quality: see next_item_curves.py.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import next_item_curves
import numpy as np
from next_item_sides import (
    BATCH,
    BLOCKS,
    DIM,
    DROPOUT,
    HEADS,
    HERE,
    LEARNING_RATE,
    LENGTH,
    RANKED_AT_ONCE,
    WARM_STEPS,
    Clock,
    K,
    as_histories,
    read_events,
    run_side,
    side,
    stopwatch,
    time_ranking,
    trainer_settings,
    training_part,
    without_last,
    worker_arguments,
)

ONE_SEQUENCE = 2**40
"""Targets a sequence may have: a user's first one ends after a random number of so many, which is the user's end."""
LOSSES = {
    "softmax": {"loss": "softmax"},
    "bce": {"loss": "bce", "num_negatives": 1},
    "sampled": {"loss": "softmax", "num_negatives": 1024},
}
RUNS = (
    ("recattn", "softmax"),
    ("replay", "softmax"),
    ("rectools", "softmax"),
    ("recattn", "bce"),
    ("rectools", "bce"),
    ("recattn", "sampled"),
)
PAIRS = (
    ("softmax", "replay", "softmax"),
    ("softmax", "rectools", "softmax"),
    ("bce", "rectools", "bce"),
    ("sampled", "rectools", "bce"),
)
COMPARED = ("seconds_per_epoch", "cpu_seconds_per_epoch", "train_peak_mb", "peak_mb", "users_per_second")


def prepare(options, folder):
    """What all sides read: every user's events, oldest first, in one order."""
    from recattn.data import encode, load_interactions

    interactions = load_interactions("ml-1m", source=options.source, verify=options.verify)
    histories = encode(interactions, ties=options.ties, seed=0).histories
    path = folder / "events.npz"
    np.savez(path, items=histories.items, offsets=histories.offsets, num_items=histories.num_items)
    return path


def ours(options):
    os.environ["THP_MEM_ALLOC_ENABLE"] = "1"  # read when torch is imported
    import pytorch_lightning as pl
    import torch

    from recattn.data.windows import SequenceLoader
    from recattn.models import SASRec
    from recattn.training import NextItemTask

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    events = read_events(options.events)
    sequences = as_histories(training_part(events))
    model = SASRec(
        events.num_items,
        dim=DIM,
        num_heads=HEADS,
        num_layers=BLOCKS,
        hidden_dim=DIM,
        max_length=LENGTH,
        dropout=DROPOUT,
    )
    task = NextItemTask(model, learning_rate=LEARNING_RATE, **LOSSES[options.loss])

    def loader(epoch):
        return SequenceLoader(
            sequences, batch_size=BATCH, positions=ONE_SEQUENCE, context=1, seed=options.seed, epoch=epoch
        )

    def targets(batch):
        return int(batch.mask.sum())

    clock = Clock()
    watch = stopwatch(pl.Callback, clock, targets)
    trainer = pl.Trainer(**trainer_settings(callbacks=[watch], max_epochs=-1, max_steps=WARM_STEPS + options.batches))
    trainer.fit(task, train_dataloaders=loader(0))
    result = clock.result(sum(targets(batch) for batch in loader(0)))
    result["sequences"] = sum(len(batch.mask) for batch in loader(0))
    began = time.perf_counter()
    made = sum(1 for epoch in range(10) for _ in loader(epoch))
    result["data_batches_per_second"] = made / (time.perf_counter() - began)
    result["data_over_training"] = result["data_batches_per_second"] / result["batches_per_second"]
    return result | time_ranking(lambda: top_items(model, events), lambda top: top, events)


def top_items(model, events):
    """The best items of each user that are not in the history, the last event of which is kept back: (users, 10)."""
    from recattn.data import Encoders, Vocabulary
    from recattn.serving import Artefact, Recommender

    histories = as_histories(without_last(events, 1))
    users, items = (Vocabulary(np.arange(1, count + 1)) for count in (histories.num_users, events.num_items))
    recommender = Recommender(Artefact(model.eval(), users, items, histories, Encoders(), {}))
    found = recommender.recommend_many(k=K, batch_size=RANKED_AT_ONCE)
    return found["item"].to_numpy(np.int64).reshape(-1, K)


def compare(options, events):
    from recattn.evaluation import commit, hardware, versions

    runs = {(name, loss): [] for name, loss in RUNS if side(options, name)}
    for number in range(options.rounds):
        for (name, loss), some in runs.items():
            load = os.getloadavg()[0]
            found = run_side(options, name, events, loss=loss, batches=options.batches, seed=options.seed + number)
            some.append(found | {"load_before": round(load, 2)})
            print(name, loss, json.dumps(some[-1]), file=sys.stderr, flush=True)
    targets = {run["targets"] for some in runs.values() for run in some}
    if len(targets) != 1:
        raise SystemExit(f"the sides train on different numbers of targets: {targets}")
    medians = {}
    for (name, loss), some in runs.items():
        numbers = {key: statistics.median(run[key] for run in some) for key in some[0] if key != "version"}
        medians.setdefault(name, {})[loss] = numbers
    result = {
        "what": f"SASRec, {DIM} wide, feed-forward {DIM} wide, {BLOCKS} blocks, {HEADS} heads, dropout {DROPOUT}, "
        f"length {LENGTH}, {BATCH} sequences a batch, one sequence a user, ml-1m leave-one-out",
        "command": f"python experiments/benchmarks/next_item_speed.py --rounds {options.rounds} --batches "
        f"{options.batches} --threads {options.threads} --ties {options.ties} --seed {options.seed}, the environments",
        "ties": options.ties,
        "verified": options.verify,
        "targets": targets.pop(),
        "losses": LOSSES,
        "medians": medians,
        "recattn_over": [
            {"loss": loss, "peer": peer, "peer_loss": theirs} | ratios(runs["recattn", loss], runs[peer, theirs])
            for loss, peer, theirs in PAIRS
            if (peer, theirs) in runs
        ],
        "peers": {name: some[0]["version"] for (name, _), some in runs.items() if "version" in some[0]},
        "runs": {f"{name} {loss}": some for (name, loss), some in runs.items()},
        "hardware": hardware(),
        "versions": versions(),
        "commit": commit(),
    }
    text = json.dumps(result, indent=1)
    print(text)
    options.output.write_text(text + "\n", encoding="utf-8")


def ratios(ours, theirs):
    """Ours / theirs, round by round; the medians."""
    rounds = list(zip(ours, theirs, strict=True))
    return {key: statistics.median(one[key] / other[key] for one, other in rounds) for key in COMPARED}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    worker_arguments(parser)
    parser.add_argument("--source", help="folder of ml-1m; downloaded otherwise")
    parser.add_argument("--no-verify", dest="verify", action="store_false", help="take another edition of ml-1m")
    parser.add_argument("--ties", choices=("file", "random"), default="file", help="order within a second")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=("recattn", "replay", "rectools"), default="recattn", help="of --quality")
    parser.add_argument("--replay-python", help="python of an environment with peers-requirements/replay.txt")
    parser.add_argument("--rectools-python", help="python of an environment with peers-requirements/rectools.txt")
    parser.add_argument("--output", type=Path, help="by default next_item_speed.json or next_item_curves.json")
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(next_item_curves.ours(options) if options.quality else ours(options)))
        return
    mode = next_item_curves.record if options.quality else compare
    options.output = options.output or HERE / f"next_item_{'curves' if options.quality else 'speed'}.json"
    with tempfile.TemporaryDirectory() as folder:
        mode(options, prepare(options, Path(folder)))


if __name__ == "__main__":
    main()
