"""Results -> what a terminal shows of them."""

from collections.abc import Iterable

from recattn.evaluation.result import Result
from recattn.evaluation.table import heading

_RANKS = (("hr@10", "ndcg@10"), ("hr@5", "hr@20", "hr@50", "mrr"))
_CLICKS = (("auc", "gauc", "log_loss", "calibration"), ())


def report_rows(results: Iterable[Result]) -> tuple[list[str], list[list[str]]]:
    """Headings and a row for each result: the main metrics with their intervals, then others without.

    All results are of ranks, or all of clicks. A metric that a result lacks is shown as none.
    """
    results = list(results)
    wide, narrow = _RANKS if results[0].clicks is None else _CLICKS
    rows = []
    for result in results:
        found = [result.metrics.get(name) for name in wide]
        intervals = ["none" if m is None else f"{m['mean']:.4f} ({m['low']:.3f}-{m['high']:.3f})" for m in found]
        rows.append([result.label, *intervals, *(f"{result.metrics[name]['mean']:.4f}" for name in narrow)])
    return ["model", *(f"{heading(name)} (95 %)" for name in wide), *map(heading, narrow)], rows


def report_line(result: Result, part: str) -> str:
    """What was asked of the models, in one line."""
    asked = f"{result.data}, {result.split}, {part} part"
    if result.clicks is None:
        told = result.targets  # an older file does not say
        counts = "" if told is None else f": {told['count']:,} targets of {told['users']:,} users"
        return f"{asked}{counts}; {result.candidates}; ties count against"
    count, users, bare = (result.clicks[name] for name in ("samples", "users", "users_without_both"))
    return (
        f"{asked}: {count:,} samples of {users:,} users, {result.clicks['positives'] / count:.1%} positive; label: "
        f"{result.clicks['labels']}; GAUC weighted by samples, without the {bare:,} users whose labels are all equal"
    )
