"""One event of the history answers, all others distract: which weighting finds it, and at which lengths.

    python experiments/benchmarks/planted.py

A history has `length` events, each with a key (a random direction of 16 dimensions) and one of 8 labels. One of them,
at a random place, is asked for: the query is its key, turned by a hidden rotation that is the same for all histories.
The target is that event's label, and the label is all that a model is told. A model is an `AttentionPooling` with
`BilinearScorer` over embedded labels and a linear readout. Scorer, embeddings and readout start at random and are
learned together: cross-entropy, Adam at .02, 600 steps, fresh histories in each. A guess is right one time in eight.

Each weighting is trained at one length and measured at 10, 100, 1,000 and 10,000, on histories that it has not seen.

The schedule that works: train SHORT. From 10 events HardRetrieval learns by its own straight-through gradient, from a
random start, without a warm-up by a softmax or a falling temperature, and is right at every length, as a look-up does
not care how much else there is. From 100 and 1,000 it is not reliable: the events tell it too little in the steps that
it has, and a seed learns the rotation or nothing.

Writes planted.json beside this file.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import recattn.nn as rnn
from recattn.evaluation import commit, hardware, versions

HERE = Path(__file__).parent
DIM, LABELS, STEPS, BATCH, RATE = 16, 8, 600, 64, 0.02
TRAINED, MEASURED, ASKED = (10, 100, 1_000), (10, 100, 1_000, 10_000), 256
WEIGHTINGS: dict[str, Callable[[], nn.Module]] = {
    "HardRetrieval": rnn.HardRetrieval,
    "HardRetrieval, Gumbel": lambda: rnn.HardRetrieval(gradient="gumbel"),
    "Sparsemax": rnn.Sparsemax,
    "Entmax15": rnn.Entmax15,
    "TopK(4)": lambda: rnn.TopK(4),
    "Softmax": rnn.Softmax,
    "Sigmoid": rnn.Sigmoid,
}


class Planted(NamedTuple):
    """query: (batch, DIM); keys: (batch, length, DIM); labels: (batch, length); target: (batch,)."""

    query: Tensor
    keys: Tensor
    labels: Tensor
    target: Tensor


def draw(batch: int, length: int, random: torch.Generator) -> Planted:
    hidden = torch.linalg.qr(torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(0))).Q
    keys = F.normalize(torch.randn(batch, length, DIM, generator=random), dim=-1)
    labels = torch.randint(LABELS, (batch, length), generator=random)
    row, place = torch.arange(batch), torch.randint(length, (batch,), generator=random)
    return Planted(keys[row, place] @ hidden, keys, labels, labels[row, place])


class Reader(nn.Module):
    """Logits of the labels from what the query retrieves."""

    def __init__(self, weighting: nn.Module) -> None:
        super().__init__()
        self.attention = rnn.AttentionPooling(rnn.BilinearScorer(DIM, DIM), weighting)
        self.embedding = nn.Embedding(LABELS, LABELS)
        self.readout = nn.Linear(LABELS, LABELS)
        nn.init.xavier_uniform_(self.attention.scorer.weight)  # in place of the identity, which is a guess

    def forward(self, query: Tensor, keys: Tensor, labels: Tensor) -> Tensor:
        return self.readout(self.attention(query, keys, self.embedding(labels)).output)


def train(weighting: nn.Module, length: int, seed: int) -> Reader:
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(1_000 + seed)
    model = Reader(weighting)
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
    for _ in range(STEPS):
        query, keys, labels, target = draw(BATCH if length < 1_000 else BATCH // 2, length, random)
        optimiser.zero_grad()
        F.cross_entropy(model(query, keys, labels), target).backward()
        optimiser.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: Reader, length: int, seed: int) -> float:
    random = torch.Generator().manual_seed(2_000 + seed)
    right, batch = 0, 32
    for _ in range(ASKED // batch):
        query, keys, labels, target = draw(batch, length, random)
        right += int((model(query, keys, labels).argmax(-1) == target).sum())
    return right / ASKED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.perf_counter()
    rows = []
    for length in TRAINED:
        for name, weighting in WEIGHTINGS.items():
            runs = []
            for seed in range(options.seeds):
                model = train(weighting(), length, seed)
                runs.append({str(asked): accuracy(model, asked, seed) for asked in MEASURED})
            mean = {asked: statistics.mean(run[asked] for run in runs) for asked in runs[0]}
            rows.append({"weighting": name, "trained_at": length, "mean": mean, "runs": runs})
            print(
                f"{name:24}trained at {length:5}", {asked: f"{100 * x:.1f}%" for asked, x in mean.items()}, flush=True
            )
    result = {
        "what": "accuracy of retrieving the one event that answers, by the length trained at and the length asked at",
        "command": f"python experiments/benchmarks/planted.py --seeds {options.seeds}",
        "seeds": list(range(options.seeds)),
        "steps": STEPS,
        "asked": ASKED,
        "threads": 1,
        "seconds": round(time.perf_counter() - begin, 1),
        "rows": rows,
        "hardware": hardware(),
        "versions": versions(),
        "commit": commit(),
    }
    (HERE / "planted.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
