"""Make the tables of the README files from the JSONs, and from nothing else."""

import json
from pathlib import Path

from recattn.evaluation import markdown_table, read_result, update_readme_table

ROOT = Path(__file__).parents[1]
FLOORS = ("popularity", "item-knn", "ease", "ease-recency", "transitions")


def din_speed() -> str:
    """Samples per second and AUC of each side of benchmarks/din_speed.json, and how many times as fast ours is."""
    result = json.loads((ROOT / "experiments" / "benchmarks" / "din_speed.json").read_text(encoding="utf-8"))
    lines = ["| DIN of | training samples per second | recattn is faster by | AUC |", "|---|---|---|---|"]
    for name, median in result["medians"].items():
        ratio = result["recattn_over"].get(name)
        faster = f"{ratio['samples_per_second']:.1f} times" if ratio else ""
        lines.append(f"| {name} | {median['samples_per_second']:,.0f} | {faster} | {median['auc']:.4f} |")
    return "\n".join(lines)


def data_path() -> str:
    """One row: what the data path makes, what training takes."""
    result = json.loads((ROOT / "experiments" / "benchmarks" / "data_path.json").read_text(encoding="utf-8"))
    made, taken = result["data_batches_per_second"], result["training_batches_per_second"]
    row = f"| {made:,.0f} | {taken:,.1f} | {result['ratio']:,.0f} | {result['seconds_per_epoch']:.0f} s |"
    return "| batches made per second | batches trained on | ratio | an epoch |\n|---|---|---|---|\n" + row


def main() -> None:
    folder = ROOT / "experiments" / "ml-100k"
    results = [read_result(folder / f"{name}.json") for name in (*FLOORS, "target-attention")]
    table = markdown_table(results, ("hr@10", "ndcg@10", "hr@50", "mrr"))
    for page in ("README.md", "experiments/README.md"):
        update_readme_table(ROOT / page, "ml-100k", table)
    for page in ("README.md", "experiments/benchmarks/README.md"):
        update_readme_table(ROOT / page, "din-speed", din_speed())
        update_readme_table(ROOT / page, "data-path", data_path())


if __name__ == "__main__":
    main()
