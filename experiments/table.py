"""Make the tables of the README files from the JSONs, and from nothing else."""

import json
from pathlib import Path
from typing import Any

from recattn.evaluation import FLOORS, Result, markdown_table, read_result, update_readme_table

ROOT = Path(__file__).parents[1]
STEP_PARTS = ("forward", "backward", "optimiser")
ML_1M = ("hstu-events", "hstu-request-hour", "hstu-request", "hstu-request-large")
PUBLISHED = {
    "ml-1m/sasrec": ("SASRec, cross-entropy over the catalogue", 0.3152, 0.1821),
    "ml-1m/esasrec": ("eSASRec, LiGR blocks, 256 negatives", 0.3133, 0.1772),
    "ml-1m/gsasrec": ("gSASRec, gBCE, 256 negatives", 0.3003, 0.1726),
    "ml-1m/bert4rec": ("BERT4Rec, cross-entropy over the catalogue", 0.2843, 0.1537),
    "ml-1m/hstu-published": ("HSTU, 128 negatives (time-aware)", 0.3226, 0.1880),
}
"""Of the experiments: what it is, and HR@10 and NDCG@10 as published on the same protocol."""
FLOORS_OF_ITEMS = {3416: "ml-1m-five-or-more", 3706: "ml-1m"}
"""Of MovieLens-1M by the size of the catalogue: the folder that has the floors."""


def din_speed() -> str:
    """Samples per second and AUC of each side of benchmarks/din_speed.json, and how many times as fast ours is."""
    result = read_benchmark("din_speed")
    head = (
        "| DIN of | training samples per second | recattn is faster by | 1,000 candidates scored in | faster by | AUC |"
    )
    lines = [head, "|---|---:|---:|---:|---:|---:|"]
    for name, median in result["medians"].items():
        ratio = result["recattn_over"].get(name)
        faster, sooner = (f"{ratio[key]:.1f} times" if ratio else "" for key in ("samples_per_second", "scoring"))
        scored = f"{median['scoring_ms']:.1f} ms | {sooner}"
        lines.append(f"| {name} | {median['samples_per_second']:,.0f} | {faster} | {scored} | {median['auc']:.4f} |")
    return "\n".join(lines)


def data_path() -> str:
    """One row: what the data path makes, what training takes."""
    result = read_benchmark("data_path")
    made, taken = result["data_batches_per_second"], result["training_batches_per_second"]
    row = f"| {made:,.0f} | {taken:,.1f} | {result['ratio']:,.0f} | {result['seconds_per_epoch']:.0f} s |"
    return "| batches made per second | batches trained on | ratio | an epoch |\n|---|---|---|---|\n" + row


def read_benchmark(name: str) -> dict[str, Any]:
    """The JSON that a script of experiments/benchmarks wrote."""
    return json.loads((ROOT / "experiments" / "benchmarks" / f"{name}.json").read_text(encoding="utf-8"))


def attention(setting: str, queries: str | None = None) -> str:
    """A row for each mechanism of benchmarks/attention.json: its time at each length, slope, memory, recovered mass."""
    rows = read_benchmark("attention")[setting]
    rows = rows if queries is None else rows[queries]
    lengths = sorted({length for row in rows.values() for length in row["seconds"]}, key=int)
    longest, kept, compared = lengths[-1], setting == "target", queries != "1"
    head = [
        "mechanism",
        *(f"{int(length):,}" for length in lengths),
        *["kept"] * kept,
        "slope",
        "MB",
        *["mass"] * compared,
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for name, row in rows.items():
        cells = [milliseconds(row["seconds"].get(length)) for length in lengths]
        if kept:
            cells.append(milliseconds(row["kept_seconds"].get(longest)))
        peak = row["peak_bytes"].get(longest)
        cells += ["" if row["slope"] is None else f"{row['slope']:.2f}", "" if peak is None else f"{peak / 1e6:,.1f}"]
        if compared:
            mass = list(row["mass"].values())
            cells.append(f"{mass[-1]:.2f}" if mass else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def milliseconds(seconds: float | None) -> str:
    """Three digits of a time.

    >>> milliseconds(0.0123), milliseconds(2.5), milliseconds(None)
    ('12.3', '2,500', '')
    """
    if seconds is None:
        return ""
    ms = 1e3 * seconds
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}" if ms >= 0.1 else f"{ms:.3f}"


def attention_claims() -> str:
    """The pairs of benchmarks/attention.json that were measured in turn."""
    lines = ["| | first | second | second / first |", "|---|---:|---:|---:|"]
    for name, found in read_benchmark("attention")["claims"].items():
        first, second = (milliseconds(found[key] / 1e3) for key in ("first_ms", "second_ms"))
        lines.append(f"| {name} | {first} ms | {second} ms | {found['ratio']:.2f} |")
    return "\n".join(lines)


def attention_peers() -> str:
    """A row for each pair of benchmarks/attention_peers.json."""
    lines = [
        "| recattn | peer | setting | forward, peer | ours | faster by | step, peer | ours | faster by |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in read_benchmark("attention_peers")["rows"]:
        cells = [row["layer"], row["peer"], row["setting"]]
        for kind in ("forward", "step"):
            found = row[kind]
            cells += [
                milliseconds(found["theirs_ms"] / 1e3),
                milliseconds(found["ours_ms"] / 1e3),
                f"{found['ratio']:.1f}",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ranker_history() -> str:
    """A row for each model of benchmarks/ranker_history.json: its time at each length, slope, recovered mass."""
    models = read_benchmark("ranker_history")["models"]
    lengths = list(next(iter(models.values()))["seconds"])
    head = ["model", *(f"{int(length):,}" for length in lengths), "slope", "mass"]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for name, row in models.items():
        mass = f"{row['mass']:.2f}" if "mass" in row else ""
        cells = [*(milliseconds(row["seconds"][length]) for length in lengths), f"{row['slope']:.2f}", mass]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def planted() -> str:
    """A row for each weighting of benchmarks/planted.json and each length that it was trained at."""
    rows = read_benchmark("planted")["rows"]
    lengths = list(rows[0]["mean"])
    head = ["trained at", "weighting", *(f"{int(length):,}" for length in lengths)]
    lines = ["| " + " | ".join(head) + " |", "|---:|---" + "|---:" * len(lengths) + "|"]
    for row in rows:
        found = [f"{100 * row['mean'][length]:.1f}" for length in lengths]
        lines.append("| " + " | ".join([f"{row['trained_at']:,}", row["weighting"], *found]) + " |")
    return "\n".join(lines)


def next_items(folder: str) -> str:
    """A row for each floor and model of a folder of experiments, called as its file; models by NDCG@10, rising.

    A model that does not reach the best floor's NDCG@10 says so. What is in PUBLISHED has a table of its own.
    """
    results = {path.stem: read_result(path) for path in (ROOT / "experiments" / folder).glob("*.json")}
    models = [name for name in results if name not in FLOORS and f"{folder}/{name}" not in PUBLISHED]
    models.sort(key=lambda name: results[name].metrics["ndcg@10"]["mean"])
    names = [*(name for name in FLOORS if name in results), *models]
    best = best_floor(folder)
    labels = [name if name in FLOORS else label(name, results[name], best) for name in names]
    return markdown_table([results[name] for name in names], ("hr@10", "ndcg@10", "hr@50", "mrr"), labels=labels)


def best_floor(folder: str) -> tuple[str, float]:
    """The floor of the folder that reaches the highest NDCG@10, and what it reaches."""
    paths = (ROOT / "experiments" / folder / f"{name}.json" for name in FLOORS)
    reached = {path.stem: read_result(path).metrics["ndcg@10"]["mean"] for path in paths if path.exists()}
    return max(reached.items(), key=lambda item: item[1], default=("none", 0.0))


def label(name: str, result: Result, floor: tuple[str, float]) -> str:
    """The name, and what the reader of its row must know."""
    notes = ["time-aware"] if result.time_aware else []
    notes += [f"below {floor[0]}"] if result.metrics["ndcg@10"]["mean"] < floor[1] else []
    return f"{name} ({', '.join(notes)})" if notes else name


def ml_1m_costs() -> str:
    """What the trainings of experiments/ml-1m took."""
    lines = ["| model | seeds | minutes of training | MB at the peak | trained on |", "|---|---:|---:|---:|---|"]
    for name in ML_1M:
        result = read_result(ROOT / "experiments" / "ml-1m" / f"{name}.json")
        minutes, peak = (result.train_seconds or 0.0) / 60, result.peak_rss_mb or 0.0
        machine = result.hardware["gpu"] or result.hardware["cpu"]
        lines.append(f"| {name} | {len(result.seeds)} | {minutes:.0f} | {peak:,.0f} | {machine} |")
    return "\n".join(lines)


def replications() -> str:
    """A row for each published setting that was trained: HR@10 and NDCG@10 as published, and ours."""
    lines = [
        "| model | items | published | ours | of the published NDCG@10 | best floor |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for name, (what, hit, gain) in PUBLISHED.items():
        path = ROOT / "experiments" / f"{name}.json"
        if not path.exists():
            continue
        result = read_result(path)
        found, reached = result.metrics["hr@10"], result.metrics["ndcg@10"]
        ours = (
            f"{found['mean']:.4f} [{found['low']:.4f}, {found['high']:.4f}] / "
            f"{reached['mean']:.4f} [{reached['low']:.4f}, {reached['high']:.4f}]"
        )
        floor, height = best_floor(FLOORS_OF_ITEMS[result.items])
        side = "below" if reached["mean"] < height else "above"
        cells = [what, f"{result.items:,}", f"{hit:.4f} / {gain:.4f}", ours, f"{reached['mean'] / gain:.1%}"]
        lines.append("| " + " | ".join([*cells, f"{side} {floor}, {height:.4f}"]) + " |")
    return "\n".join(lines)


def cold_items() -> str:
    """The orders of cold_items.json, the mean over its seeds."""
    rows = json.loads((ROOT / "experiments" / "cold_items.json").read_text(encoding="utf-8"))["rows"]
    lines = ["| order of the withheld films | HR@10 | NDCG@10 | share ranked below |", "|---|---:|---:|---:|"]
    for name in ("chance", "features", "popularity of all times"):
        means = [sum(row[name][metric]["mean"] for row in rows) / len(rows) for metric in ("hr@10", "ndcg@10", "below")]
        lines.append(f"| {name} | " + " | ".join(f"{mean:.4f}" for mean in means) + " |")
    return "\n".join(lines)


def clicks(folder: str) -> str:
    """A row for each result of clicks in a folder of experiments, called as its file, the lowest GAUC first."""
    results = {path.stem: read_result(path) for path in (ROOT / "experiments" / folder).glob("*.json")}
    asked = {name: result for name, result in results.items() if result.clicks is not None}
    names = sorted(asked, key=lambda name: asked[name].metrics["gauc"]["mean"])
    return markdown_table([asked[name] for name in names], ("auc", "gauc", "log_loss", "calibration"), labels=names)


def large_catalogue() -> str:
    """What training, ranking and using a model of benchmarks/large_catalogue.json took."""
    result = read_benchmark("large_catalogue")
    training, ranking, use, parts = (result[name] for name in ("training", "ranking", "use", "parts"))
    rows = {
        "training, sequences (targets) per second": f"{training['sequences_per_second']:,.0f} "
        f"({training['targets_per_second']:,.0f})",
        **{f"a step: {name}": f"{milliseconds(training[f'{name}_seconds'])} ms" for name in STEP_PARTS},
        "of it: drawing 1,024 negatives": f"{milliseconds(parts['draw_negatives_seconds'])} ms",
        "of it: which negatives a user has already": f"{milliseconds(parts['seen_negatives_seconds'])} ms",
        "full softmax in place of the sample, targets per second": f"{parts['full_softmax_targets_per_second']:,.1f}",
        "ranking the whole catalogue, users per second": f"{ranking['users_per_second']:,.1f}",
        f"HR@10 after {training['steps']:,} steps (popularity)": f"{ranking['hr@10']:.3f} "
        f"({ranking['popularity_hr@10']:.3f})",
        "saving, loading": f"{use['save_seconds']:.1f} s, {use['load_seconds']:.1f} s, {use['saved_mb']:,.0f} MB",
        "recommending 10 items": f"{milliseconds(use['top_10_seconds'])} ms",
        "peak memory": f"{result['peak_rss_mb'] / 1024:.1f} GB",
    }
    return "\n".join(["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows.items())])


def next_item_speed() -> str:
    """A row for each pair of benchmarks/next_item_speed.json: seconds an epoch and the most memory of both sides."""
    result = read_benchmark("next_item_speed")
    lines = [
        "| recattn | peer | seconds an epoch, peer | ours | ours / peer | MB at the peak, peer | ours | ours / peer |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["recattn_over"]:
        ours, theirs = (
            result["medians"][side][row[loss]] for side, loss in (("recattn", "loss"), (row["peer"], "peer_loss"))
        )
        cells = [row["loss"], f"{row['peer']} {row['peer_loss']}"]
        for key in ("seconds_per_epoch", "peak_mb"):
            digits = 1 if key == "seconds_per_epoch" else 0
            cells += [f"{theirs[key]:,.{digits}f}", f"{ours[key]:,.{digits}f}", f"{row[key]:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def next_item_top10() -> str:
    """Users per second to whom each side of benchmarks/next_item_speed.json gives ten items, and ours over theirs."""
    result = read_benchmark("next_item_speed")
    times = {row["peer"]: row["users_per_second"] for row in result["recattn_over"] if row["loss"] == "softmax"}
    lines = ["| top-10 of | users per second | recattn is faster by |", "|---|---:|---:|"]
    for name, medians in result["medians"].items():
        faster = f"{times[name]:.1f} times" if name in times else ""
        lines.append(f"| {name} | {medians['softmax']['users_per_second']:,.0f} | {faster} |")
    return "\n".join(lines)


def next_item_curves() -> str:
    """For each side of benchmarks/next_item_curves.json: minutes until an epoch reached a quality, and the best one."""
    wanted = (0.15, 0.16, 0.17)
    head = ["SASRec of", *(f"minutes to {value:.2f}" for value in wanted), "best NDCG@10", "in minute", "of"]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for name, side in read_benchmark("next_item_curves").items():
        points = side["points"]
        reached = (next((p["minutes"] for p in points if p["ndcg@10"] >= value), None) for value in wanted)
        best = max(points, key=lambda point: point["ndcg@10"])
        cells = ["not reached" if minutes is None else f"{minutes:.1f}" for minutes in reached]
        cells += [f"{best['ndcg@10']:.4f}", f"{best['minutes']:.1f}", f"{points[-1]['minutes']:.1f}"]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def next_item_data_path() -> str:
    """A row for each loss: batches that the data path of benchmarks/next_item_speed.json makes, batches trained on."""
    lines = ["| loss | batches made per second | batches trained on | ratio |", "|---|---:|---:|---:|"]
    for loss, found in read_benchmark("next_item_speed")["medians"]["recattn"].items():
        made, taken = found["data_batches_per_second"], found["batches_per_second"]
        lines.append(f"| {loss} | {made:,.0f} | {taken:,.2f} | {found['data_over_training']:,.0f} |")
    return "\n".join(lines)


def main() -> None:
    folder = ROOT / "experiments" / "ml-100k"
    results = [read_result(folder / f"{name}.json") for name in (*FLOORS, "target-attention")]
    table = markdown_table(results, ("hr@10", "ndcg@10", "hr@50", "mrr"))
    for page in ("README.md", "experiments/README.md"):
        update_readme_table(ROOT / page, "ml-100k", table)
    for page in ("README.md", "experiments/README.md"):
        update_readme_table(ROOT / page, "ml-1m", next_items("ml-1m"))
        update_readme_table(ROOT / page, "amazon-beauty", next_items("amazon-beauty"))
    update_readme_table(ROOT / "experiments" / "README.md", "ml-1m-costs", ml_1m_costs())
    for folder in ("ml-1m-global-time", "ml-1m-global-time-last", "ml-latest-small-global-time"):
        update_readme_table(ROOT / "experiments" / "README.md", folder, next_items(folder))
    for page in ("README.md", "experiments/README.md"):
        update_readme_table(ROOT / page, "replications", replications())
        update_readme_table(ROOT / page, "clicks", clicks("ml-1m-leave-last"))
        update_readme_table(ROOT / page, "clicks-by-time", clicks("ml-1m-clicks-global-time"))
    update_readme_table(ROOT / "experiments" / "README.md", "cold-items", cold_items())
    for page in ("README.md", "experiments/benchmarks/README.md"):
        update_readme_table(ROOT / page, "din-speed", din_speed())
        update_readme_table(ROOT / page, "data-path", data_path())
        update_readme_table(ROOT / page, "next-item-speed", next_item_speed())
    page = ROOT / "experiments" / "benchmarks" / "README.md"
    for name, table in (
        ("attention-claims", attention_claims()),
        ("attention-1", attention("target", "1")),
        ("attention-64", attention("target", "64")),
        ("attention-sequence", attention("sequence")),
        ("attention-peers", attention_peers()),
        ("planted", planted()),
        ("ranker-history", ranker_history()),
        ("next-item-top10", next_item_top10()),
        ("next-item-data-path", next_item_data_path()),
        ("next-item-curves", next_item_curves()),
        ("large-catalogue", large_catalogue()),
    ):
        update_readme_table(page, name, table)


if __name__ == "__main__":
    main()
