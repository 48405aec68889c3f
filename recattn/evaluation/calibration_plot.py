"""The reliability curve as a picture."""

from pathlib import Path

from recattn.data.whole_file import whole_file
from recattn.errors import ConfigError
from recattn.evaluation.result import Result


def plot_calibration(path: str | Path, result: Result) -> None:
    """Draw the observed share of positives over the expected one, a point for each bin of equally many samples.

    On the diagonal probabilities are calibrated. path: with an ending that matplotlib knows (.png, .svg, .pdf); written
    whole or not at all.
    Raises ConfigError for a result without a reliability curve and for an ending that is not known.
    """
    from matplotlib.figure import Figure  # takes a second: only where something is drawn

    path = Path(path)
    if result.clicks is None:
        raise ConfigError(f"the result of {result.model} has no reliability curve: it was measured on ranks")
    figure = Figure(figsize=(4.0, 4.2), layout="constrained")
    known = figure.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".") not in known:
        raise ConfigError(f"plot is {str(path)!r}: its name must end in one of .{', .'.join(sorted(known))}")
    expected, observed, counts = (result.clicks["reliability"][name] for name in ("expected", "observed", "counts"))
    axes = figure.add_subplot()
    top = min(1.0, 1.08 * max(*expected, *observed))  # rates of clicks are often far below 1
    axes.plot([0, top], [0, top], color="0.7", linewidth=1)
    axes.plot(expected, observed, marker="o", markersize=4, linewidth=1.2)
    axes.set(xlim=(0, top), ylim=(0, top), xlabel="expected: mean probability", ylabel="observed: share of positives")
    axes.set_aspect("equal")
    axes.set_title(
        f"{result.label} on {result.data}\n{result.clicks['labels']}\n{len(counts)} bins of {min(counts):,} samples, "
        f"expected / observed in all {result.metrics['calibration']['mean']:.3f}",
        fontsize=8,
    )
    axes.spines[["top", "right"]].set_visible(False)
    with whole_file(path) as fresh:
        figure.savefig(fresh, dpi=160)
