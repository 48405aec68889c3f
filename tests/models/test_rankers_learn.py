"""Planted data with a known answer: is an item of the candidate's category in the history?"""

import pytest
import torch
from torch.nn import functional as F

from recattn.batch import History, RankingBatch
from recattn.models import BST, DIEN, DIN, ETA, SDIM, SIM, STCA, TWIN, MeanPooling

CATEGORIES, NUM_ITEMS, LENGTH, ROWS, CANDIDATES, DIM = 24, 240, 8, 48, 16, 16


def sample(generator):
    """Histories of 8 items of 24 categories, candidates of which half have a relative there."""
    items = torch.randint(1, NUM_ITEMS + 1, (ROWS, LENGTH), generator=generator)
    lengths = torch.randint(3, LENGTH + 1, (ROWS,), generator=generator)
    items = items * (torch.arange(LENGTH) < lengths[:, None])
    chosen = (torch.rand(ROWS, CANDIDATES, generator=generator) * lengths[:, None]).long()
    step = CATEGORIES * torch.randint(0, 10, (ROWS, CANDIDATES), generator=generator)
    relatives = (items.gather(1, chosen) - 1 + step) % NUM_ITEMS + 1
    others = torch.randint(1, NUM_ITEMS + 1, (ROWS, CANDIDATES), generator=generator)
    candidates = torch.where(torch.rand(ROWS, CANDIDATES, generator=generator) < 0.5, relatives, others)
    same = (items[:, None] % CATEGORIES == candidates[..., None] % CATEGORIES) & (items[:, None] != 0)
    return RankingBatch(History(items, lengths), candidates, same.any(-1).float())


def categories(model):
    """Give the model the items' categories, where it reads some."""
    for part in model.modules():
        if getattr(part, "feature_sizes", ()) and hasattr(part, "set_features"):
            codes = torch.arange(NUM_ITEMS + 1)[:, None] % CATEGORIES + 1
            codes[0] = 0
            part.set_features(codes, torch.ones(NUM_ITEMS + 1, dtype=torch.bool))
    return model


def auc(model, *, steps=100, learning_rate=0.02):
    """Of the trained model on data that it has not seen."""
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    for _ in range(steps):
        batch = sample(generator)
        loss = F.binary_cross_entropy_with_logits(model.train()(batch), batch.labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    batch = sample(generator)
    with torch.no_grad():
        logits = model.eval()(batch).flatten()
    labels = batch.labels.flatten().bool()
    return float((logits[labels][:, None] > logits[~labels]).double().mean())


def make(preset, **more):
    torch.manual_seed(0)
    arguments = {"dim": DIM, "readout_dims": (32,), "feature_sizes": (CATEGORIES + 1,), "embedding_std": 0.3}
    return categories(preset(NUM_ITEMS, **arguments | more))


MODELS = {
    "DIN": (DIN, {}),
    "SIM": (SIM, {"k": 4, "short_length": 2}),
    "SIM-hard": (SIM, {"k": 4, "short_length": 2, "form": "hard"}),
    "ETA": (ETA, {"k": 4, "short_length": 2}),
    "SDIM": (SDIM, {"num_bits": 4, "short_length": 2}),
    "TWIN": (TWIN, {"k": 4, "short_length": 2}),
    "STCA": (STCA, {}),
    "DIEN": (DIEN, {}),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", MODELS)
def test_a_candidate_that_asks_finds_its_relative(name):
    preset, more = MODELS[name]
    assert auc(make(preset, **more)) > 0.9


def test_a_mean_that_nobody_asks_does_not():
    assert auc(make(MeanPooling)) < 0.85


def test_bst_finds_it_too_with_more_steps():
    """Attention of all to all starts slower. The mean comes to 0.90 with as many."""
    assert auc(make(BST), steps=250, learning_rate=0.01) > 0.97
