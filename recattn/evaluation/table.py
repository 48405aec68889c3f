"""Results -> the tables of the README."""

import math
from collections.abc import Sequence
from pathlib import Path

from recattn.errors import ConfigError, DataError
from recattn.evaluation.result import Result, write_text_atomic


def markdown_table(
    results: Sequence[Result], metrics: Sequence[str] = ("hr@10", "ndcg@10"), labels: Sequence[str] | None = None
) -> str:
    """One row a result: the model, then each metric as ``mean [low, high]``, the best mean of a column in bold.

    The best is the highest, but the lowest of a loss and of a calibration the nearest to 1.

    The rows stand in the given order.
    labels: what to call the rows, by default as `Result.label` does.
    Raises ConfigError for no results, another number of labels, a metric that a result lacks, or results that are not
    comparable: another data set, split, part, tie rule, set of candidates or of clicks.

    >>> from recattn.evaluation.table import markdown_table
    >>> markdown_table([])
    Traceback (most recent call last):
    ...
    recattn.errors.ConfigError: results is empty: a table needs at least one
    """
    if not results:
        raise ConfigError("results is empty: a table needs at least one")
    if labels is None:
        labels = [result.label for result in results]
    if len(labels) != len(results):
        raise ConfigError(f"labels must be one for each of the {len(results)} results, got {len(labels)}")
    asked = [(result.targets or {}).get("part") for result in results]
    compared = {"part": {str(part) for part in asked if part is not None}}  # older results do not tell theirs
    compared["samples"] = {str((result.clicks or {}).get("samples_hash")) for result in results}
    for name in ("data", "split", "split_hash", "ties", "candidates"):
        compared[name] = {str(getattr(result, name)) for result in results}
    for name, values in compared.items():
        if len(values) > 1:
            raise ConfigError(
                f"results differ in {name} ({', '.join(sorted(values))}): one table compares like with like"
            )
    for result in results:
        missing = [name for name in metrics if name not in result.metrics]
        if missing:
            raise ConfigError(f"the result of {result.model} lacks {missing}: it has {sorted(result.metrics)}")
    best = {name: _digits(_best(name, [result.metrics[name]["mean"] for result in results])) for name in metrics}
    lines = [
        "| model | " + " | ".join(heading(name) for name in metrics) + " |",
        "|---" * (len(metrics) + 1) + "|",
    ]
    for result, called in zip(results, labels, strict=True):
        label = called.replace("|", "\\|")
        cells = []
        for name in metrics:
            mean, low, high = (_digits(result.metrics[name][part]) for part in ("mean", "low", "high"))
            cells.append(f"{f'**{mean}**' if mean == best[name] else mean} [{low}, {high}]")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def update_readme_table(path: str | Path, name: str, table: str) -> bool:
    """Put the table between ``<!-- table:NAME -->`` and ``<!-- /table:NAME -->``; the rest of the file stays as it is.

    Returns whether the file had to change (a check can then say that a README is out of date).
    Raises DataError where the file is missing or does not hold the two markers once each, in this order.
    """
    opening, closing = f"<!-- table:{name} -->", f"<!-- /table:{name} -->"
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if text.count(opening) != 1 or text.count(closing) != 1 or text.index(opening) > text.index(closing):
        raise DataError(f"{path}: needs {opening} and then {closing}, once each")
    before, rest = text.split(opening)
    after = rest.split(closing)[1]
    updated = f"{before}{opening}\n{table.strip()}\n{closing}{after}"
    if updated == text:
        return False
    write_text_atomic(path, updated)
    return True


def _digits(value: float) -> str:
    return f"{value:.4f}"


def _best(metric: str, means: Sequence[float]) -> float:
    if metric == "calibration":
        return min(means, key=lambda mean: abs(math.log(max(mean, 1e-12))))
    return min(means) if metric == "log_loss" else max(means)


def heading(metric: str) -> str:
    """What a table calls a metric.

    >>> heading("ndcg@10"), heading("log_loss")
    ('NDCG@10', 'log-loss')
    """
    return _HEADINGS.get(metric, metric.upper().replace("RECALL", "Recall"))


_HEADINGS = {"log_loss": "log-loss", "calibration": "calibration", "gauc_users": "GAUC, users alike"}
