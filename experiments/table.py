"""Make the tables of README.md and experiments/README.md from the JSONs, and from nothing else."""

from pathlib import Path

from recattn.evaluation import markdown_table, read_result, update_readme_table

ROOT = Path(__file__).parents[1]
FLOORS = ("popularity", "item-knn", "ease", "ease-recency", "transitions")


def main() -> None:
    folder = ROOT / "experiments" / "ml-100k"
    results = [read_result(folder / f"{name}.json") for name in (*FLOORS, "target-attention")]
    table = markdown_table(results, ("hr@10", "ndcg@10", "hr@50", "mrr"))
    for page in ("README.md", "experiments/README.md"):
        update_readme_table(ROOT / page, "ml-100k", table)


if __name__ == "__main__":
    main()
