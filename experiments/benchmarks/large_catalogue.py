"""A catalogue of a million items: what training, ranking and recommending take.

    python experiments/benchmarks/large_catalogue.py [--threads 1] [--steps 200]

Made-up histories: 50,000 users with 50 events each. An item's popularity falls as one over its rank; half of the events
are the item one rank below the one before, the others are drawn by popularity, so that HR@10 has a ceiling a little
above .5, and item numbers tell nothing about ranks. SASRec (64 wide, 2 blocks, 50 events) is trained for a fixed number
of steps with `NextItemTask`: a softmax over 1,024 negatives, drawn by popularity. Then the last event of 1,000
users is ranked in the whole catalogue; the model is saved, loaded and recommends.

Times inside a step are medians between Lightning's hooks. "processor_share" is how much of one processor the process
had on average: well below the number of threads, the machine was shared and times are too long.

Writes large_catalogue.json beside this file.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray

from recattn.data import Encoders, Histories, Interactions, Split, Vocabulary, encode
from recattn.data.split import Targets, make_split
from recattn.evaluation import commit, hardware, hit_rate, peak_rss_mb, rank_targets, versions
from recattn.models import SASRec
from recattn.nn import full_softmax_loss
from recattn.serving import Artefact, Recommender, load_artefact, save_artefact
from recattn.training import NextItemTask, SequenceData
from recattn.training.next_item_task import no_negatives

ITEMS, USERS, LENGTH, ASKED, FOLLOWS = 1_000_000, 50_000, 50, 1_000, 0.5
BATCH, NEGATIVES, RANKED, SKIPPED = 256, 1_024, 16, 5


def draw(seed: int) -> NDArray[np.int32]:
    """(USERS, LENGTH) item numbers. exp(u ln n) of a uniform u has the distribution of 1 / rank."""
    random = np.random.default_rng(seed)
    number = random.permutation(ITEMS).astype(np.int32) + 1
    jumps = np.exp(random.random((USERS, LENGTH)) * np.log(ITEMS)).astype(np.int64) - 1
    follows = random.random((USERS, LENGTH)) < FOLLOWS
    ranks = jumps
    for step in range(1, LENGTH):
        ranks[:, step] = np.where(follows[:, step], (ranks[:, step - 1] + 1) % ITEMS, jumps[:, step])
    return number[ranks]


def split_of(items: NDArray[np.int32]) -> Split:
    """The last two events of the first ASKED users are targets; all else trains."""
    histories = Histories(items.reshape(-1), np.arange(USERS + 1) * LENGTH, ITEMS)
    users = np.arange(ASKED)
    asked = (np.arange(USERS) < ASKED).astype(np.int64)
    targets = [Targets(users, np.full(ASKED, LENGTH - back)) for back in (2, 1)]
    return make_split(histories, LENGTH - 2 * asked, LENGTH - asked, *targets, "made up", {})


class Clock(pl.Callback):
    """Seconds of the parts of each step, and how many targets it had."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def _lap(self, name: str) -> None:
        now = time.perf_counter()
        self.row[name], self.last = now - self.last, now

    def on_train_batch_start(self, _trainer: pl.Trainer, _task: pl.LightningModule, batch: object, _: int) -> None:
        self.row, self.last = {"targets": int(batch.mask.sum()), "sequences": len(batch.mask)}, time.perf_counter()

    def on_before_backward(self, *_: object) -> None:
        self._lap("forward")

    def on_before_optimizer_step(self, *_: object) -> None:
        self._lap("backward")

    def on_train_batch_end(self, *_: object) -> None:
        self._lap("optimiser")
        self.rows.append(self.row)


def train(task: NextItemTask, data: SequenceData, steps: int, folder: str) -> dict[str, float]:
    clock = Clock()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        limit_val_batches=0,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    began = time.perf_counter()
    trainer.fit(task, data)
    seconds = time.perf_counter() - began
    rows = clock.rows[SKIPPED:]
    parts = {name: statistics.median(row[name] for row in rows) for name in ("forward", "backward", "optimiser")}
    whole = sum(sum(row[name] for name in parts) for row in rows)
    return {
        "seconds": seconds,
        "steps": len(clock.rows),
        "sequences_per_second": sum(row["sequences"] for row in rows) / whole,
        "targets_per_second": sum(row["targets"] for row in rows) / whole,
        **{f"{name}_seconds": value for name, value in parts.items()},
        "loss": float(trainer.callback_metrics["loss"]),
        "peak_rss_mb": peak_rss_mb(),
    }


def timed(function: Callable[[], object], repeats: int = 5) -> float:
    """Median seconds."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


@torch.no_grad()
def parts(task: NextItemTask, data: SequenceData) -> dict[str, float]:
    """Seconds of what a step does once, on a full batch."""
    batch = next(batch for batch in data.train_dataloader() if len(batch.mask) == BATCH)
    targets = batch.history.items.gather(1, batch.positions)[batch.mask]
    drawn = torch.multinomial(task.chances, NEGATIVES, replacement=True).unique()
    table = task.model.item_embeddings()
    states = torch.randn(RANKED, table.shape[1], requires_grad=True)

    def full() -> None:
        with torch.enable_grad():
            full_softmax_loss(states, table[1:], torch.arange(RANKED)).backward()

    return {
        "draw_negatives_seconds": timed(lambda: torch.multinomial(task.chances, NEGATIVES, replacement=True)),
        "seen_negatives_seconds": timed(lambda: no_negatives(batch, targets, drawn)),
        "full_softmax_targets_per_second": RANKED / timed(full, 2),
    }


def data_path(items: NDArray[np.int32], split: Split) -> dict[str, float]:
    frame = pd.DataFrame({"user": np.repeat(np.arange(USERS), LENGTH), "item": items.reshape(-1)})
    began = time.perf_counter()
    encoded = encode(Interactions.from_frame(frame))
    seconds = time.perf_counter() - began
    loader = SequenceData(split, batch_size=BATCH, positions=LENGTH // 2, context=LENGTH // 2).train_dataloader()
    return {
        "events": items.size,
        "encode_seconds": seconds,
        "items_that_occur": len(encoded.items),
        "batches_per_second": len(loader) / timed(lambda: sum(1 for _ in loader), 1),
    }


def use(model: SASRec, split: Split, folder: str) -> dict[str, float]:
    """Save, load, recommend."""
    manifest = {"data": "made up", "split": {"name": split.name, "arguments": {}, "hash": split.hash}}
    users, items = (Vocabulary(np.arange(count), [str(number) for number in range(count)]) for count in (USERS, ITEMS))
    artefact = Artefact(model, users, items, split.histories, Encoders(), manifest)
    place = Path(folder) / "model"
    save = timed(lambda: save_artefact(place, artefact), 1)
    load = timed(lambda: load_artefact(place), 1)
    recommender = Recommender(artefact)
    return {
        "save_seconds": save,
        "saved_mb": sum(file.stat().st_size for file in place.iterdir()) / 2**20,
        "load_seconds": load,
        "top_10_seconds": timed(lambda: recommender.recommend(user=7, k=10, num_reasons=0)),
        "top_10_with_reasons_seconds": timed(lambda: recommender.recommend(user=7, k=10)),
        "peak_rss_mb": peak_rss_mb(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    began = time.perf_counter()
    items = draw(0)
    split = split_of(items)
    result: dict[str, object] = {"data": data_path(items, split)}
    print(result, flush=True)
    torch.manual_seed(0)
    model = SASRec(ITEMS, dim=64, num_layers=2, max_length=LENGTH, dropout=0.1)
    counts = torch.bincount(torch.from_numpy(split.train.items).long(), minlength=ITEMS + 1)
    task = NextItemTask(model, num_negatives=NEGATIVES, item_counts=counts, learning_rate=3e-3)
    data = SequenceData(split, batch_size=BATCH, positions=LENGTH // 2, context=LENGTH // 2)
    with tempfile.TemporaryDirectory() as folder:
        result["training"] = train(task, data, options.steps, folder)
        print(result["training"], flush=True)
        model.eval()
        ranking = time.perf_counter()
        ranks = rank_targets(model.score_all, split, batch_size=RANKED)
        seconds = time.perf_counter() - ranking
        popular = rank_targets(lambda history, _: counts.float().expand(len(history.items), -1), split, batch_size=128)
        result["ranking"] = {
            "users_per_second": ASKED / seconds,
            "hr@10": float(hit_rate(ranks, 10).mean()),
            "popularity_hr@10": float(hit_rate(popular, 10).mean()),
            "peak_rss_mb": peak_rss_mb(),
        }
        print(result["ranking"], flush=True)
        result["use"] = use(model, split, folder)
        print(result["use"], flush=True)
    task.zero_grad()
    result["parts"] = parts(task, data)
    print(result["parts"], flush=True)
    result |= {
        "what": "SASRec on a catalogue of 1,000,000 items: training, ranking and recommending",
        "command": "python experiments/benchmarks/large_catalogue.py "
        f"--threads {options.threads} --steps {options.steps}",
        "items": ITEMS,
        "users": USERS,
        "peak_rss_mb": peak_rss_mb(),
        "processor_share": time.process_time() / (time.perf_counter() - began),
        "threads": options.threads,
        "hardware": hardware(),
        "versions": versions(),
        "commit": commit(),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
