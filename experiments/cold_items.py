"""Rank items that training never met by what is known about them.

A tenth of MovieLens' films is taken out of the data, events and all, but for genres and year. A SASRec that reads
features (ids dropped for a share of the look-ups) trains on the rest. Then each user's last event on a withheld film is
asked for, after what the user did before it, among the withheld films that the user had not seen. Beside it: chance,
and the order of the withheld films by how often they were rated by all, which no recommender could know.

    python experiments/cold_items.py [--data ml-1m] [--source FOLDER] [--epochs 8] [--id-dropout 0.1] [--seeds 0,1,2]

Writes cold_items.json beside this file.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from recattn.data import encode, leave_one_out, load_interactions, with_features
from recattn.data.batches import pad_histories
from recattn.data.histories import Histories
from recattn.data.split import Split
from recattn.evaluation import bootstrap_interval, commit, hardware, hit_rate, ndcg, versions
from recattn.models import SASRec
from recattn.training import NextItemTask, fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="ml-1m")
    parser.add_argument("--source")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--id-dropout", type=float, default=0.1)
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    interactions = load_interactions(options.data, source=options.source, verify=False)
    histories = encode(interactions).histories
    rows = []
    for seed in map(int, options.seeds.split(",")):
        rng = np.random.default_rng(seed)
        withheld = np.zeros(histories.num_items + 1, bool)
        withheld[1 + rng.permutation(histories.num_items)[: histories.num_items // 10]] = True
        kept, moments = without(histories, withheld)
        split, _ = with_features(leave_one_out(kept), interactions)
        model = train(split, options.epochs, options.id_dropout, seed)
        users, before, targets = asked(histories, withheld, moments)
        ranks = rank(model, split.histories, users, before, targets, withheld, histories)
        rows.append(ranks | {"targets": len(targets), "withheld": int(withheld.sum())})
        print(json.dumps(rows[-1]), flush=True)
    result = {"data": options.data, "epochs": options.epochs, "id_dropout": options.id_dropout, "rows": rows}
    result |= {"hardware": hardware(), "versions": versions(), "commit": commit()}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def without(histories: Histories, withheld: np.ndarray) -> tuple[Histories, np.ndarray]:
    """The histories less the events of withheld items, and how many of a user's events are left before each event."""
    keep = ~withheld[histories.items]
    left = np.concatenate([[0], np.cumsum(keep)])
    offsets = left[histories.offsets]
    users = np.repeat(np.arange(histories.num_users), histories.lengths)
    kept = Histories(histories.items[keep], offsets, histories.num_items, times=histories.times[keep])
    return kept, left[:-1] - offsets[users]


def train(split: Split, epochs: int, id_dropout: float, seed: int) -> SASRec:
    torch.manual_seed(seed)
    histories = split.histories
    model = SASRec(
        histories.num_items,
        dim=64,
        dropout=0.1,
        feature_sizes=histories.feature_sizes,
        feature_widths=histories.feature_widths,
        id_dropout=id_dropout,
    )
    task = NextItemTask(model, learning_rate=2e-3)
    with tempfile.TemporaryDirectory() as folder:
        fit(model, split, folder=folder, task=task, batch_size=64, positions=170, max_epochs=epochs, seed=seed)
    return model


def asked(histories: Histories, withheld: np.ndarray, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each user's last event on a withheld item, if something else came before it: user, events before, item."""
    users = np.repeat(np.arange(histories.num_users), histories.lengths)
    events = np.flatnonzero(withheld[histories.items] & (moments > 0))
    last = events[np.append(users[events][1:] != users[events][:-1], True)]
    return users[last], moments[last], histories.items[last]


def rank(
    model: SASRec,
    kept: Histories,
    users: np.ndarray,
    before: np.ndarray,
    targets: np.ndarray,
    withheld: np.ndarray,
    whole: Histories,
) -> dict[str, object]:
    """HR@10, NDCG@10 and the mean share of the withheld items that are ranked below the target, for each order."""
    popular = np.bincount(whole.items, minlength=len(withheld)).astype(np.float32)
    scores = {"features": np.empty((len(users), len(withheld)), np.float32)}
    with torch.no_grad():
        for rows in np.array_split(np.arange(len(users)), len(users) // 128 + 1):
            history = pad_histories(kept, users[rows], before[rows], max_length=model.max_length)
            scores["features"][rows] = model.score_all(history).numpy()
    scores["popularity of all times"] = np.tile(popular, (len(users), 1))
    scores["chance"] = np.random.default_rng(0).random((len(users), len(withheld)), np.float32)
    allowed = np.tile(withheld, (len(users), 1))
    for row, (user, target) in enumerate(zip(users, targets, strict=True)):
        allowed[row, whole.of(user)] = False
        allowed[row, target] = True
    found: dict[str, object] = {}
    for name, values in scores.items():
        own = values[np.arange(len(users)), targets][:, None]
        above = ((values >= own) & allowed).sum(1)  # the target itself among them
        below = 1 - (above - 1) / np.maximum(1, allowed.sum(1) - 1)
        found[name] = {
            metric: dict(zip(("mean", "low", "high"), bootstrap_interval(x), strict=True))
            for metric, x in (("hr@10", hit_rate(above, 10)), ("ndcg@10", ndcg(above, 10)), ("below", below))
        }
    return found


if __name__ == "__main__":
    main()
