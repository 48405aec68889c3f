"""The picture of attention.py: time and memory against the length of the history. Alone it draws attention.json again.

python experiments/benchmarks/attention_plot.py
"""

import json
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).parent
TARGET = {
    "additive, a call per pair": "#7a1f1f",
    "DIN's unit": "#d9793d",
    "additive, factored": "#c9a227",
    "scaled dot, softmax": "#2f6690",
    "SimHashSearch": "#8d6a9f",
    "ClusterPooling": "#9aa5ad",
    "LinearAttention, elu": "#4f8a6d",
    "BucketHashPooling": "#5aa9a3",
}
SEQUENCE = {
    "MultiHeadAttention, causal": "#2f6690",
    "HSTUAttention, causal": "#d9793d",
    "ReformerAttention": "#8d6a9f",
    "LinearAttention, elu, causal": "#4f8a6d",
    "LinformerAttention": "#9aa5ad",
}


def lines(axes: Axes, rows: dict[str, dict], chosen: dict[str, str], key: str, unit: float) -> None:
    for name, colour in chosen.items():
        points = {int(length): unit * value for length, value in rows[name][key].items()}
        axes.plot(list(points), list(points.values()), color=colour, marker="o", markersize=4, linewidth=2, label=name)
        if key == "seconds" and rows[name]["kept_seconds"]:
            kept = {int(length): unit * value for length, value in rows[name]["kept_seconds"].items()}
            axes.plot(list(kept), list(kept.values()), color=colour, linewidth=2, linestyle=":")
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.grid(color="#e4e8ea", linewidth=0.8)
    axes.set_axisbelow(True)


def draw(result: dict) -> Figure:
    mpl.rcParams.update({"font.size": 12, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "path"})
    figure = Figure(figsize=(12, 9), layout="constrained")
    (time_target, time_sequence), (memory_target, memory_sequence) = figure.subplots(2, 2, sharex=True)
    target, sequence = result["target"]["64"], result["sequence"]
    lines(time_target, target, TARGET, "seconds", 1e3)
    lines(time_sequence, sequence, SEQUENCE, "seconds", 1e3)
    lines(memory_target, target, TARGET, "peak_bytes", 1e-6)
    lines(memory_sequence, sequence, SEQUENCE, "peak_bytes", 1e-6)
    time_target.set_title("64 candidates ask one history", loc="left")
    time_sequence.set_title("a history asks itself", loc="left")
    time_target.set_ylabel("milliseconds (dotted: history's part kept)")
    memory_target.set_ylabel("megabytes at the peak")
    for axes in (memory_target, memory_sequence):
        axes.set_xlabel("events in the history")
        axes.legend(frameon=False, fontsize=11, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
    return figure


def main() -> None:
    result = json.loads((HERE / "attention.json").read_text(encoding="utf-8"))
    draw(result).savefig(HERE / "attention.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
