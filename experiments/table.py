"""Make the tables of the README files from the JSONs, and from nothing else."""

import json
from pathlib import Path
from typing import Any

from recattn.evaluation import markdown_table, read_result, update_readme_table

ROOT = Path(__file__).parents[1]
FLOORS = ("popularity", "item-knn", "ease", "ease-recency", "transitions")


def din_speed() -> str:
    """Samples per second and AUC of each side of benchmarks/din_speed.json, and how many times as fast ours is."""
    result = read_benchmark("din_speed")
    lines = ["| DIN of | training samples per second | recattn is faster by | AUC |", "|---|---|---|---|"]
    for name, median in result["medians"].items():
        ratio = result["recattn_over"].get(name)
        faster = f"{ratio['samples_per_second']:.1f} times" if ratio else ""
        lines.append(f"| {name} | {median['samples_per_second']:,.0f} | {faster} | {median['auc']:.4f} |")
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


def main() -> None:
    folder = ROOT / "experiments" / "ml-100k"
    results = [read_result(folder / f"{name}.json") for name in (*FLOORS, "target-attention")]
    table = markdown_table(results, ("hr@10", "ndcg@10", "hr@50", "mrr"))
    for page in ("README.md", "experiments/README.md"):
        update_readme_table(ROOT / page, "ml-100k", table)
    for page in ("README.md", "experiments/benchmarks/README.md"):
        update_readme_table(ROOT / page, "din-speed", din_speed())
        update_readme_table(ROOT / page, "data-path", data_path())
    page = ROOT / "experiments" / "benchmarks" / "README.md"
    for name, table in (
        ("attention-claims", attention_claims()),
        ("attention-1", attention("target", "1")),
        ("attention-64", attention("target", "64")),
        ("attention-sequence", attention("sequence")),
        ("attention-peers", attention_peers()),
        ("planted", planted()),
    ):
        update_readme_table(page, name, table)


if __name__ == "__main__":
    main()
