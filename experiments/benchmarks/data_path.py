"""How many batches a second the data path makes, beside how many TargetAttention's training takes.

    python experiments/benchmarks/data_path.py [--source FOLDER]

Both in one process on MovieLens-100K, alternating, medians of five rounds; writes data_path.json beside this script.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from recattn.data import encode, leave_one_out, load_interactions
from recattn.data.windows import SequenceLoader
from recattn.evaluation import commit, hardware, versions
from recattn.models import TargetAttention
from recattn.training import RankingTask, data_arguments
from recattn.training.fit import count_into

ROUNDS, STEPS = 5, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source")
    source = parser.parse_args().source
    split = leave_one_out(encode(load_interactions("ml-100k", source=source)).histories)
    torch.manual_seed(0)
    model = TargetAttention(**data_arguments("recattn.models.TargetAttention", split.histories), max_length=50)
    count_into(model, split)
    task = RankingTask(model)
    task.log = lambda *_, **__: None  # type: ignore[method-assign] # no Trainer here
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    batches = list(SequenceLoader(split.train, batch_size=8, positions=48, context=50))

    def data() -> float:
        began = time.perf_counter()
        made = sum(1 for _ in SequenceLoader(split.train, batch_size=8, positions=48, context=50))
        return made / (time.perf_counter() - began)

    def training() -> float:
        began = time.perf_counter()
        for batch in batches[:STEPS]:
            optimiser.zero_grad()
            task.training_step(batch, 0).backward()
            optimiser.step()
        return STEPS / (time.perf_counter() - began)

    data(), training()
    rounds = [(data(), training()) for _ in range(ROUNDS)]
    made, taken = (statistics.median(column) for column in zip(*rounds, strict=True))
    result = {
        "data_batches_per_second": round(made, 1),
        "training_batches_per_second": round(taken, 2),
        "ratio": round(made / taken, 1),
        "seconds_per_epoch": round(len(batches) / taken, 1),
        "threads": torch.get_num_threads(),
        "rounds": [[round(value, 2) for value in row] for row in rounds],
        "hardware": hardware(),
        "versions": versions(),
        "commit": commit(),
    }
    text = json.dumps(result, indent=2)
    Path(__file__).with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
