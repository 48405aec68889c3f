import numpy as np
import pandas as pd
import pytest
import torch

from recattn.batch import History
from recattn.data import Interactions, encode, leave_one_out, with_features
from recattn.data.batches import pad_histories
from recattn.data.split import Split
from recattn.models import SASRec, TargetAttention
from recattn.training import fit, task_for

MAKERS, EACH, USERS = 5, 7, 60


@pytest.fixture(scope="module")
def split() -> Split:
    """Users who take films of one maker; one film a maker is taken by nobody until the test, and then by all."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(USERS):
        maker = min(user % (MAKERS + 2), MAKERS - 1)  # the last one's films are three times as popular
        films = maker * 100 + rng.choice(EACH, 6, replace=False)
        rows += [(user, int(film), step) for step, film in enumerate([*films, maker * 100 + EACH])]
    events = pd.DataFrame(rows, columns=["user", "item", "time"])
    catalogue = pd.DataFrame({"item": sorted(events["item"].unique())})
    catalogue["maker"] = [f"maker {film // 100}" for film in catalogue["item"]]
    interactions = Interactions.from_frame(events, time_column="time", items=catalogue)
    return with_features(leave_one_out(encode(interactions).histories), interactions)[0]


@pytest.mark.parametrize("kind", [SASRec, TargetAttention])
def test_films_that_training_never_met_are_ranked_by_their_maker(split, kind, tmp_path):
    histories, test = split.histories, split.test
    cold = np.setdiff1d(np.arange(1, histories.num_items + 1), split.train.items)
    assert len(cold) == MAKERS
    torch.manual_seed(0)
    model = kind(
        histories.num_items,
        dim=16,
        dropout=0.1,
        feature_sizes=histories.feature_sizes,
        feature_widths=histories.feature_widths,
    )
    task = task_for(model, learning_rate=0.02, warmup_steps=5)
    fit(model, split, folder=tmp_path, task=task, max_epochs=8, patience=8, progress=False)
    history: History = pad_histories(histories, test.users, test.positions)
    with torch.no_grad():
        scores = model.score_all(history)[:, torch.from_numpy(cold)]
    found = cold[scores.argmax(1)] == test.items(histories)
    most_popular = np.bincount(test.items(histories)).max() / len(found)
    assert found.mean() > 0.9 > most_popular > 1 / MAKERS  # better than by popularity among themselves, and than chance
