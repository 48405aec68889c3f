"""Time to a quality: validation NDCG@10 against minutes of training, SASRec of recattn, RePlay and RecTools on ml-1m.

    python experiments/benchmarks/next_item_speed.py --quality 15 --side recattn [--epochs 20]
    python experiments/benchmarks/next_item_speed.py --quality 15 --side replay --replay-python FOLDER/bin/python

Each side trains the same model with cross-entropy over the catalogue until so many minutes are over, without what is
measured after an epoch. The peers are as next_item_speed.py has them, with their own learning rate of 1e-3. Ours is
what a user of `recattn.training.fit` gets: whole histories, SETTINGS, and a learning rate that ends at 0 after
`--epochs`, so choose those to fit the minutes; each number of epochs is a curve of its own. All are measured on the
last event but one of every user, among the full catalogue, seen items out, ties against the target, by recattn's
ranks. One seed.

Writes next_item_curves.json, where the other curves stay as they were, and draws next_item_curves.svg from it.
"""

import json
import os
import tempfile

from next_item_sides import (
    BLOCKS,
    DIM,
    DROPOUT,
    HEADS,
    LENGTH,
    Course,
    as_histories,
    read_events,
    run_side,
)

SETTINGS = {"learning_rate": 4e-3, "batch_size": 32, "positions": LENGTH}
COLOURS = {"recattn": "#2f6690", "replay": "#d9793d", "rectools": "#8d6a9f"}


def ours(options):
    os.environ["THP_MEM_ALLOC_ENABLE"] = "1"  # read when torch is imported
    import torch

    from recattn.data import leave_one_out
    from recattn.models import SASRec
    from recattn.training import NextItemTask, fit

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    course = Course(options.quality)

    class Watched(NextItemTask):
        """Stops the clock where validation begins, and the training where time is up."""

        def on_train_epoch_start(self):
            course.begin()

        def on_validation_epoch_start(self):
            course.pause()
            super().on_validation_epoch_start()

        def on_train_epoch_end(self):  # validation lies before it
            self.trainer.should_stop = course.record(self.trainer.callback_metrics["ndcg@10"])

    events = read_events(options.events)
    model = SASRec(
        events.num_items,
        dim=DIM,
        num_heads=HEADS,
        num_layers=BLOCKS,
        hidden_dim=DIM,
        max_length=LENGTH,
        dropout=DROPOUT,
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(
            model,
            leave_one_out(as_histories(events)),
            folder=folder,
            task=Watched(model, learning_rate=SETTINGS["learning_rate"]),
            batch_size=SETTINGS["batch_size"],
            positions=SETTINGS["positions"],
            max_epochs=options.epochs,
            patience=options.epochs,
            seed=options.seed,
            progress=False,
        )
    return {"points": course.points, "settings": SETTINGS | {"epochs": options.epochs}}


def record(options, events):
    """Train one side and put its curve beside those of the others."""
    from recattn.evaluation import commit, hardware, versions

    name = options.side
    found = run_side(options, name, events, quality=options.quality, epochs=options.epochs, seed=options.seed)
    found["command"] = (
        f"python experiments/benchmarks/next_item_speed.py --quality {options.quality:g} --side {name} --epochs "
        f"{options.epochs} --threads {options.threads} --ties {options.ties} --seed {options.seed}, the environment"
    )
    found |= {"ties": options.ties, "verified": options.verify, "threads": options.threads}
    found |= {"hardware": hardware(), "versions": versions(), "commit": commit()}
    known = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {}
    known[f"recattn, {options.epochs} epochs" if name == "recattn" else name] = found
    options.output.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    draw(known).savefig(options.output.with_suffix(".svg"), metadata={"Date": None})


def draw(sides):
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"font.size": 12, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "path"})
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    styles = {colour: iter(["solid", "dashed", "dotted"]) for colour in COLOURS.values()}
    for name, found in sorted(sides.items()):
        colour = COLOURS[name.partition(",")[0]]
        minutes, ndcg = ([point[key] for point in found["points"]] for key in ("minutes", "ndcg@10"))
        style = {"linestyle": next(styles[colour]), "linewidth": 2, "marker": "o", "markersize": 4}
        axes.plot(minutes, ndcg, color=colour, label=name, **style)
    axes.set(xlabel="minutes of training", ylabel="NDCG@10, validation", xlim=(0, None), ylim=(0, None))
    axes.grid(color="#e4e8ea", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    return figure
