import pytest
import torch

from recattn.batch import History
from recattn.errors import ConfigError
from recattn.models import DIN, HSTU, SIM, SASRec, TargetAttention, TargetRanker, build, describe
from recattn.models.item_embedding import ItemEmbedding

CODES = torch.tensor([[0, 0, 0], [1, 2, 3], [1, 0, 1], [2, 0, 0], [0, 0, 0], [1, 2, 3]])
MET = torch.tensor([False, True, True, False, False, False])


def embedding(**arguments):
    torch.manual_seed(3)
    made = ItemEmbedding(5, 7, feature_sizes=(3, 5), feature_widths=(2, 1), **arguments)
    made.set_features(CODES, MET)
    return made.double()


def test_an_item_is_its_id_and_the_means_of_its_values():
    made = embedding().eval()
    genres, years = (table.weight for table in made.features)
    vectors = made(torch.tensor([[1, 2], [3, 4]]))
    assert torch.allclose(vectors[0, 0], made.weight[1] + (genres[1] + genres[2]) / 2 + years[3])
    assert torch.allclose(vectors[0, 1], made.weight[2] + genres[1] + years[1])
    assert torch.allclose(vectors[1, 0], genres[2])  # never met: its id says nothing
    assert vectors[1, 1].abs().sum() == 0


def test_a_gate_decides_what_the_features_add():
    made = embedding(combine="gate").eval()
    genres, years = (table.weight for table in made.features)
    told = genres[1] + years[1]
    gate = torch.sigmoid(made.gate(torch.cat([made.weight[2], told])))
    assert torch.allclose(made(torch.tensor([2]))[0], made.weight[2] + gate * told)


@pytest.mark.parametrize("combine", ["sum", "gate"])
def test_few_and_many_items_are_looked_up_alike(combine):
    made = embedding(combine=combine).eval()
    many = torch.tensor([[1, 2, 3, 0], [5, 4, 2, 2]])
    assert torch.allclose(made(many), made.all()[many])
    assert torch.allclose(made(many), torch.stack([made(row) for row in many]))
    assert made(torch.tensor([0])).abs().sum() == 0


def test_ids_are_dropped_in_training_alone_and_never_learn_when_not_met():
    made = embedding(id_dropout=0.5).train()
    items = torch.full((4001,), 2)
    vectors = made(items[:1].expand(5))
    assert vectors.shape == (5, 7)
    alone = made.eval()(torch.tensor([2]))[0] - made.weight[2]
    made.train()
    found = torch.stack([made(torch.tensor([2]))[0] for _ in range(400)])
    dropped = (found - alone).abs().sum(1) < 1e-9
    assert 150 < int(dropped.sum()) < 250
    made(torch.tensor([1, 3, 5])).sum().backward()
    assert made.weight.grad[[0, 3, 5]].abs().sum() == 0


def test_padding_gets_no_gradient():
    made = embedding().eval()
    made(torch.tensor([0, 0, 1])).sum().backward()
    assert made.weight.grad[0].abs().sum() == 0
    for table in made.features:
        assert table.weight.grad[0].abs().sum() == 0


def test_without_features_it_is_a_table():
    made = ItemEmbedding(5, 7)
    assert set(made.state_dict()) == {"weight"}
    assert torch.equal(made(torch.tensor([4, 0])), made.weight[[4, 0]])
    assert made.all() is made.weight
    with pytest.raises(ConfigError, match="without feature_sizes"):
        made.set_features(CODES, MET)


def test_wrong_features_are_refused():
    with pytest.raises(ConfigError, match="feature_widths must have 2 numbers"):
        ItemEmbedding(5, 7, feature_sizes=(3, 5), feature_widths=(2,))
    with pytest.raises(ConfigError, match="combine must be one of sum, gate"):
        ItemEmbedding(5, 7, combine="product")
    made = embedding()
    with pytest.raises(ConfigError, match=r"codes must be \(6, 3\)"):
        made.set_features(CODES[:, :2], MET)
    with pytest.raises(ConfigError, match="must be 0 to 2, got 9"):
        made.set_features(CODES.where(CODES != 2, 9), MET)


@pytest.mark.parametrize("kind", [DIN, SIM, TargetAttention])
def test_an_item_that_was_never_met_has_nothing_of_its_own(kind):
    """Not even a bias, which training would only lower."""
    torch.manual_seed(3)
    model = kind(5, dim=8, feature_sizes=(3, 5), feature_widths=(2, 1))
    for part in model.modules():
        if isinstance(part, ItemEmbedding):
            part.set_features(CODES, MET)
    assert all(table.feature_sizes for table in model.modules() if isinstance(table, ItemEmbedding))
    history = History(torch.tensor([[1, 2]]), torch.tensor([2]))
    model.at_positions(history, torch.tensor([[2]]), torch.arange(1, 6)).sum().backward()
    assert (model.item_bias.weight.grad[[3, 4, 5]] == 0).all()
    assert (model.item_bias.weight.grad[[1, 2]] != 0).all()


@pytest.mark.parametrize("kind", [HSTU, SASRec, TargetAttention, TargetRanker])
def test_models_say_how_features_join_the_items_own_vector(kind):
    model = kind(5, dim=6, feature_sizes=(4, 3), combine_features="gate", id_dropout=0.25)
    tables = [part for part in model.modules() if isinstance(part, ItemEmbedding)]
    assert tables
    assert all((table.combine, table.id_dropout) == ("gate", 0.25) for table in tables)
    again = build(describe(model))
    assert again.load_state_dict(model.state_dict()).missing_keys == []
    with pytest.raises(ConfigError, match="combine must be one of"):
        kind(5, dim=6, feature_sizes=(4, 3), combine_features="product")
