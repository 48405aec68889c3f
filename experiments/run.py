"""Train one configuration with several seeds, measure them together and keep the results beside it.

    python experiments/run.py experiments/ml-100k/target-attention.yaml --baselines [--seeds 0,1,2] [-- --source FOLDER]

writes target-attention.json (the mean over the seeds) and, with --baselines, one JSON for each floor. What stands
behind ``--`` goes to ``recattn train`` as it is.
"""

import argparse
import subprocess
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--baselines", action="store_true")
    known, rest = parser.parse_known_args()
    further = [argument for argument in rest if argument != "--"]
    recattn = [sys.executable, "-m", "recattn.cli"]
    runs = []
    for seed in known.seeds.split(","):
        folder = Path("runs") / known.config.parent.name / f"{known.config.stem}-{seed}" / known.config.stem
        arguments = ["--config", str(known.config), "--output", str(folder), "--seed", seed, "--overwrite", *further]
        subprocess.run([*recattn, "train", *arguments], check=True)
        runs.append(str(folder))
    baselines = ["--baselines"] if known.baselines else []
    subprocess.run([*recattn, "evaluate", *runs, *baselines, "--output", str(known.config.parent)], check=True)


if __name__ == "__main__":
    main()
