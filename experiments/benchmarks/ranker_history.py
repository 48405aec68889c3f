"""What rankers cost over histories of 100 to 100,000 events, and how much of exact attention their searches recover.

    python experiments/benchmarks/ranker_history.py [--source FOLDER] [--no-verify]

- ``seconds``: one user, 64 candidates, the whole model from item numbers to logits, without gradients; medians over
  alternating runs. 64 wide; the catalogue has 20,000 items in 100 categories whose sizes fall as 1 / rank. Weights are
  as drawn. ``slope``: d log(time) / d log(length) over 1,000 events and more.
- ``mass``: each model is trained on ml-1m for one epoch (clicks, rating >= 4, the last 200 events, ratings read), then
  asked about the 200 users with the longest training histories (1,000 events and more of them), 64 candidates each:
  sum_j min(exact_j, its_j), where exact_j are the weights of the very same attention without the search in front.

``exact`` is TargetRanker's own attention; SIM finds by dot product (``soft``) or by the first genre (``hard``), ETA by
hash codes, TWIN by the attention's scores, each 50 events; SDIM sums hash buckets. DIN asks its unit for every pair.
Writes ranker_history.json and .svg beside this file.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from attention import repeats_for, seconds, slope
from matplotlib.figure import Figure
from torch import Tensor, nn

from recattn.batch import History, RankingBatch
from recattn.data import Split, encode, leave_last, load_interactions, make_clicks, with_features
from recattn.data.batches import pad_histories
from recattn.evaluation import commit, hardware, versions
from recattn.models import DIN, ETA, SDIM, SIM, TWIN, Ranker, TargetRanker
from recattn.models.item_embedding import ItemEmbedding
from recattn.nn import SearchedAttention, recovered_mass
from recattn.training import ClickTask, fit

HERE = Path(__file__).parent
LENGTHS, CANDIDATES, ITEMS, CATEGORIES, FOUND = (100, 1_000, 10_000, 100_000), 64, 20_000, 100, 50
MODELS: dict[str, Callable[..., Ranker]] = {
    "exact": TargetRanker,
    "SIM, soft": partial(SIM, k=FOUND),
    "SIM, hard": partial(SIM, form="hard", k=FOUND),
    "ETA": partial(ETA, k=FOUND),
    "TWIN": partial(TWIN, k=FOUND, num_heads=2),
    "SDIM": SDIM,
    "DIN": partial(DIN, softmax=True),
}
COLOURS = ("#2f6690", "#d9793d", "#c9a227", "#8d6a9f", "#4f8a6d", "#5aa9a3", "#7a1f1f")


def cost(options: argparse.Namespace) -> dict[str, dict[str, object]]:
    """Seconds for each model and length, all models in turn at each length."""
    random = torch.Generator().manual_seed(options.seed)
    codes = 1 + torch.multinomial(1 / torch.arange(1.0, CATEGORIES + 1), ITEMS + 1, replacement=True, generator=random)
    codes[0] = 0
    models = {}
    for name, make in MODELS.items():
        model = make(ITEMS, max_length=max(options.lengths), feature_sizes=(CATEGORIES + 1,)).eval()
        for part in model.modules():
            if isinstance(part, ItemEmbedding):
                part.set_features(codes[:, None], torch.ones(ITEMS + 1, dtype=torch.bool))
        models[name] = model
    times: dict[str, dict[int, float]] = {name: {} for name in models}
    for length in options.lengths:
        items = torch.randint(1, ITEMS + 1, (1, length), generator=random)
        candidates = torch.randint(1, ITEMS + 1, (1, CANDIDATES), generator=random)
        batch = RankingBatch(History(items, torch.tensor([length])), candidates)
        calls = {name: partial(model, batch) for name, model in models.items()}
        repeats = {name: repeats_for(call) for name, call in calls.items()}
        readings: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(options.rounds):
            for name, call in calls.items():
                readings[name].append(seconds(call, repeats[name]))
        for name, some in readings.items():
            times[name][length] = statistics.median(some)
        print(length, {name: f"{1e3 * found[length]:.2f} ms" for name, found in times.items()}, file=sys.stderr)
    return {name: {"seconds": found, "slope": slope(found)} for name, found in times.items()}


def mass(options: argparse.Namespace) -> dict[str, float]:
    """The mean over users, heads and candidates, for each model that stands in for exact attention."""
    interactions = load_interactions("ml-1m", source=options.source, verify=options.verify)
    split, _ = with_features(leave_last(encode(interactions).histories), interactions)
    clicks = make_clicks(split, threshold=4)
    lengths = split.train_lengths
    users = lengths.argsort()[::-1][:200].copy()
    found = {}
    for name, make in MODELS.items():
        if name in {"exact", "DIN"}:
            continue
        torch.manual_seed(options.seed)
        histories = split.histories
        model = make(
            histories.num_items,
            dim=32,
            max_length=200,
            recency=False,
            separate_tables=True,
            rating_levels=(1, 2, 3, 4, 5),
            feature_sizes=histories.feature_sizes,
            feature_widths=histories.feature_widths,
        )
        with tempfile.TemporaryDirectory() as folder:
            task = ClickTask(model, learning_rate=4e-3)
            fit(model, split, folder=folder, task=task, clicks=clicks, batch_size=2048, max_epochs=1, progress=False)
        model.max_length = int(lengths.max())
        found[name] = recovered(model, split, users, options.seed)
        print(name, found[name], file=sys.stderr)
    return found


@torch.no_grad()
def recovered(model: TargetRanker, split: Split, users: np.ndarray, seed: int) -> float:
    """What the model's long layer weighs, beside what it would weigh without a search."""
    random = torch.Generator().manual_seed(seed)
    rows = []
    for user in users[:, None]:
        history = pad_histories(split.histories, user, split.train_lengths[user])
        candidates = torch.randint(1, split.histories.num_items + 1, (1, CANDIDATES), generator=random)
        batch = RankingBatch(history, candidates)
        its = model.attention(batch)[0]
        rows.append(recovered_mass(exact_weights(model, batch), normalised(its)).mean())
    return float(torch.stack(rows).mean())


def exact_weights(model: TargetRanker, batch: RankingBatch) -> Tensor:
    """The weights of the attention behind the search; SDIM's, which has none, are of its expectation.

    That is (1 - angle / pi)^num_bits, normalised (Cao et al. 2022, equation 8).
    """
    layer = model.attention_layer
    if isinstance(layer, SearchedAttention):
        model.long.layer = layer.attention
        weights = model.attention(batch)[0]
        model.long.layer = layer
        return weights
    query, keys = model.matching.items(batch.candidates), model.matching(batch.history)
    cosine = nn.functional.normalize(query, dim=-1) @ nn.functional.normalize(keys, dim=-1).mT
    return normalised((1 - cosine.clamp(-1, 1).acos() / torch.pi) ** layer.num_bits)


def normalised(weights: Tensor) -> Tensor:
    weights = weights.clamp(min=0)
    return weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)


def draw(result: dict) -> Figure:
    mpl.rcParams.update({"font.size": 12, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "path"})
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    for (name, row), colour in zip(result["models"].items(), COLOURS, strict=True):
        points = {int(length): 1e3 * value for length, value in row["seconds"].items()}
        label = name if row.get("mass") is None else f"{name} ({row['mass']:.0%} of exact)"
        axes.plot(list(points), list(points.values()), color=colour, marker="o", markersize=4, linewidth=2, label=label)
    axes.set(xscale="log", yscale="log", xlabel="events in the history", ylabel="milliseconds for 64 candidates")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.grid(color="#e4e8ea", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", help="folder of ml-1m; downloaded otherwise")
    parser.add_argument("--no-verify", dest="verify", action="store_false", help="take another edition of ml-1m")
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE / "ranker_history.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    with torch.inference_mode():
        models = cost(options)
    for name, share in mass(options).items():
        models[name]["mass"] = share
    result = {
        "what": f"{CANDIDATES} candidates ask one history, 64 wide, {FOUND} events found",
        "command": f"python experiments/benchmarks/ranker_history.py --rounds {options.rounds} --threads "
        f"{options.threads} --seed {options.seed}",
        "verified": options.verify,
        "models": models,
        "hardware": hardware(),
        "versions": versions(),
        "commit": commit(),
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(result).savefig(options.output.with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
