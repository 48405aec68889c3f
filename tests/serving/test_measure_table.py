from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from recattn.data import Encoders, FeatureEncoder
from recattn.data.click_tables import read_click_table
from recattn.errors import ConfigError
from recattn.models import DIN
from recattn.serving import Artefact, evaluate_table_runs, find_retriever, load_artefact, save_artefact

HEAD = ["label", "user_id", "item_id", "kind_id", "hour", "item_history", "kind_history"]
ROWS = [
    [1, "a", 30, "k", "day", "10^20", "h^k"],
    [0, "a", 10, "h", "night", "10^20", "h^k"],
    [0, "b", 20, "k", "day", "10", "h"],
    [1, "c", 10, "h", "night", "20^30^10", "k^k^h"],
]


def write(path, rows, columns=HEAD):
    pd.DataFrame(rows, columns=HEAD)[columns].to_csv(path, index=False)
    return path


@pytest.fixture(params=[HEAD, [name for name in HEAD if not name.startswith(("kind", "hour"))]], ids=["all", "ids"])
def columns(request):
    return request.param


@pytest.fixture
def clicked(artefact, tmp_path, columns):
    """A model of a click table, saved beside it."""
    table = read_click_table(write(tmp_path / "train.csv", ROWS, columns))
    vocabulary, histories = table.vocabulary, table.longest_histories()
    items = FeatureEncoder(vocabulary.features) if vocabulary.features else None
    told = {"feature_sizes": histories.feature_sizes, "context_sizes": vocabulary.context.column_sizes}
    torch.manual_seed(0)
    model = DIN(vocabulary.num_items, dim=4, readout_dims=(5,), embedding_std=1.0, **told).eval()
    if items is not None:
        model.value_table.set_features(torch.from_numpy(histories.features), torch.from_numpy(vocabulary.met))
    kept = (vocabulary.users, vocabulary.items, histories, Encoders(items=items))
    found = Artefact(model, *kept, {**artefact.manifest, "data_hash": table.hash}, table=vocabulary)
    save_artefact(tmp_path / "saved", found)
    return found


def test_a_saved_model_gives_the_same_numbers_on_a_table_as_before_it_was_saved(clicked, tmp_path, columns):
    new = [[0, "new", 99, "h", "day", "98^10", "k^h"], [1, "new", 99, "h", "dusk", "98^10", "k^h"]]
    path = write(tmp_path / "test.csv", [*ROWS, *new], columns)
    before = evaluate_table_runs([clicked], path, command="recattn evaluate")
    after = load_artefact(tmp_path / "saved")
    assert evaluate_table_runs([after], path, command="recattn evaluate") == before
    assert (before.users, before.interactions, before.items) == (4, 6, 3)
    assert before.clicks["unknown"] == {"users of histories": 1, "candidates": 2, "events of histories": 1}
    assert after.histories.of(0).tolist() == [1, 2]
    assert after.histories.num_items == clicked.model.num_items
    assert np.array_equal(after.histories.features, clicked.histories.features)


def test_only_a_model_of_a_click_table_is_measured_on_one(clicked, artefact, tmp_path):
    with pytest.raises(ConfigError, match=r"data is 'x.csv', but the model was trained on no click table"):
        evaluate_table_runs([artefact], "x.csv", command="")
    with pytest.raises(ConfigError, match="trained on a click table: there is no split of histories"):
        _ = clicked.split
    with pytest.raises(ConfigError, match="it takes no retriever"):
        find_retriever(tmp_path / "saved", clicked)


def test_trainings_on_different_tables_are_not_averaged(clicked, tmp_path):
    other = replace(clicked, manifest={**clicked.manifest, "data_hash": "x", "seed": 1})
    with pytest.raises(ConfigError, match="only when model, data, split and training are the same"):
        evaluate_table_runs([clicked, other], tmp_path / "train.csv", command="")
