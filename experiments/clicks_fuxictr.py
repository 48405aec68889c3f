"""FuxiCTR's DIN on the very samples that a model of clicks was saved with, measured by the same code.

    python experiments/clicks_fuxictr.py runs/ml-1m-leave-last/din-0/din --python FUXICTR/bin/python \
        --output experiments/ml-1m-leave-last/fuxictr-din.json [--seeds 0,1,2]

The environment: benchmarks/peers-requirements/fuxictr.txt, torch first. Both read item ids, the last events' item ids
and the profile's fields; widths, batch size, learning rate and epochs are those of the saved model. After each epoch
the validation samples are scored, and the epoch of the best GAUC (computed here) is the one that is tested.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from recattn.evaluation import evaluate_clicks, write_result
from recattn.serving import load_artefact
from recattn.serving.measure import make_result

WORKER = Path(__file__).with_name("clicks_fuxictr_worker.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--python", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    artefact = load_artefact(options.run)
    clicks, histories, training = artefact.clicks, artefact.histories, artefact.manifest["training"]
    if clicks is None:
        sys.exit(f"{options.run} was not trained on clicks")
    settings = {
        "dim": artefact.model.dim,
        "length": artefact.model.max_length,
        "units": ",".join(map(str, artefact.model.readout_dims)),
        "batch-size": training["batch_size"],
        "learning-rate": training["learning_rate"],
        "epochs": training["max_epochs"],
    }
    logits, seconds = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = {
            f"{part}_{key}": getattr(getattr(clicks, part), key)
            for part in ("train", "validation", "test")
            for key in ("users", "visible", "items", "labels")
        }
        profile = histories.profile if artefact.model.profile_sizes else np.zeros((histories.num_users, 0), np.int32)
        sizes = np.asarray(artefact.model.profile_sizes, np.int64)
        np.savez(
            folder / "clicks.npz",
            offsets=histories.offsets,
            events=histories.items,
            profile=profile,
            sizes=sizes,
            **parts,
        )
        for seed in options.seeds.split(","):
            command = [options.python, str(WORKER), str(folder), "--seed", seed]
            for key, value in settings.items():
                command += [f"--{key}", str(value)]
            subprocess.run(command, check=True, env=os.environ)
            found = np.load(folder / f"predicted-{seed}.npz")
            logits.append(found["logits"])
            seconds.append(float(found["seconds"]))
    asked = clicks.test
    measured = evaluate_clicks(asked.labels, asked.users, logits)
    result = make_result(
        artefact,
        candidates=f"labelled samples ({clicks.labels})",
        time_aware=False,
        model="FuxiCTR 2.3.10 DIN",
        arguments=settings,
        seeds=[int(seed) for seed in options.seeds.split(",")],
        metrics=measured.metrics,
        train_seconds=float(np.mean(seconds)),
        peak_rss_mb=None,
        command=f"python experiments/clicks_fuxictr.py {options.run} --python FUXICTR/bin/python "
        f"--output {options.output} --seeds {options.seeds}",
        clicks={"labels": clicks.labels, "samples_hash": asked.hash, **measured.about},
    )
    write_result(options.output, result)
    print({name: round(value["mean"], 4) for name, value in measured.metrics.items()})


if __name__ == "__main__":
    main()
