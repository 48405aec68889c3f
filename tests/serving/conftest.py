import pandas as pd
import pytest
import torch

from recattn.data import Encoders, Interactions, encode, leave_one_out
from recattn.models import TargetAttention
from recattn.serving import Artefact

# Users 100 .. 106 walk round a ring of 13 items, 1000 .. 1012; user 7 has a single event, of an item nobody else took.
RING = 13


def interactions() -> Interactions:
    rows = [
        (100 + user, 1000 + (3 * user + step) % RING, step % 5 + 1.0, 50_000 * user + 60 * step)
        for user in range(7)
        for step in range(11)
    ]
    frame = pd.DataFrame([*rows, (7, 2000, 3.0, 17)], columns=["user", "item", "rating", "time"])
    return Interactions.from_frame(frame, rating_column="rating", time_column="time", name="ring")


@pytest.fixture
def artefact() -> Artefact:
    table = interactions()
    encoded = encode(table)
    split = leave_one_out(encoded.histories)
    torch.manual_seed(5)
    model = TargetAttention(encoded.histories.num_items, dim=8, rating_levels=(1.0, 2.0, 3.0, 4.0, 5.0), dropout=0.0)
    size = model.num_items + 1
    # What comes next on the ring was counted; the learned part is as it starts.
    pairs = torch.tensor(sorted(item * size + item % RING + 1 for item in range(1, RING + 1)))
    assert model.transition_head is not None
    model.transition_head.set_counts(pairs, torch.ones(len(pairs)))
    manifest = {
        "data": "ring",
        "split": {"name": split.name, "arguments": dict(split.arguments), "hash": split.hash},
        "ties": "file",
        "seed": 0,
        "training": {"max_epochs": 0},
        "train_seconds": 0.0,
        "peak_rss_mb": None,
        "command": "recattn train",
    }
    return Artefact(model.eval(), encoded.users, encoded.items, encoded.histories, Encoders(), manifest)
