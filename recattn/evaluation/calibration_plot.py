"""The reliability curve as a picture."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recattn.errors import ConfigError
from recattn.evaluation.result import Result


def plot_calibration(path: str | Path, results: Sequence[Result]) -> None:
    """Draw observed shares over expected probabilities, a line for each result, and the diagonal.

    A point is a bin of equally many samples. path: with an ending that matplotlib knows (.png, .svg, .pdf); written
    whole or not at all.
    Raises ConfigError for results without a reliability curve and for an ending that is not known.
    """
    from matplotlib.figure import Figure  # takes a second: only where something is drawn

    curves = [_curve(result) for result in results]
    path = Path(path)
    figure = Figure(figsize=(4.2, 4.0), layout="constrained")
    known = figure.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".") not in known:
        raise ConfigError(f"plot is {str(path)!r}: its name must end in one of .{', .'.join(sorted(known))}")
    axes = figure.add_subplot()
    # Rates of clicks are often far below 1: show the part of the square that the points fill.
    top = min(1.0, 1.08 * max(max(curve[side]) for curve in curves for side in ("expected", "observed")))
    axes.plot([0, top], [0, top], color="0.7", linewidth=1, zorder=1)
    for result, curve in zip(results, curves, strict=True):
        ratio = result.metrics["calibration"]["mean"]
        label = f"{result.label} (expected / observed {ratio:.3f})"
        axes.plot(curve["expected"], curve["observed"], marker="o", markersize=4, linewidth=1.2, label=label)
    axes.set(xlim=(0, top), ylim=(0, top), xlabel="expected: mean probability", ylabel="observed: share of positives")
    axes.set_aspect("equal")
    axes.set_title(f"{results[0].data}, {(results[0].clicks or {})['labels']}", fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        fresh = Path(folder) / path.name
        figure.savefig(fresh, dpi=160)
        fresh.replace(path)


def _curve(result: Result) -> Mapping[str, Any]:
    if result.clicks is None:
        raise ConfigError(f"the result of {result.model} has no reliability curve: it was measured on ranks")
    curve: Mapping[str, Any] = result.clicks["reliability"]
    return curve
