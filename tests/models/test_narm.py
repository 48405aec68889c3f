import pytest
import torch

from recattn.batch import History
from recattn.errors import ConfigError
from recattn.models import NARM

HISTORY = History(torch.tensor([[3, 5, 7, 2], [4, 6, 0, 0]]), torch.tensor([4, 2]))


def test_the_states_are_the_papers_formula_step_by_step():
    model = NARM(11, dim=6, hidden_dim=5).double().eval()
    states = model.states(HISTORY)
    w_ir, w_iz, w_in = model.gru.weight_ih_l0.chunk(3)
    w_hr, w_hz, w_hn = model.gru.weight_hh_l0.chunk(3)
    b_ir, b_iz, b_in = model.gru.bias_ih_l0.chunk(3)
    b_hr, b_hz, b_hn = model.gru.bias_hh_l0.chunk(3)
    scorer = model.scorer
    for row, length in enumerate(HISTORY.lengths.tolist()):
        hidden, h = [], torch.zeros(5, dtype=torch.float64)
        for t in range(length):
            e = model.item_table.weight[HISTORY.items[row, t]]
            r = torch.sigmoid(w_ir @ e + b_ir + w_hr @ h + b_hr)
            z = torch.sigmoid(w_iz @ e + b_iz + w_hz @ h + b_hz)
            n = torch.tanh(w_in @ e + b_in + r * (w_hn @ h + b_hn))
            h = (1 - z) * n + z * h
            hidden.append(h)
            local = torch.zeros(5, dtype=torch.float64)
            for earlier in hidden:
                inside = scorer.query_projection(h) + scorer.key_projection(earlier)
                local = local + (scorer.direction @ torch.sigmoid(inside)) * earlier
            expected = model.projection.weight @ torch.cat([h, local])
            torch.testing.assert_close(states[row, t], expected)


def test_weights_are_gates_over_what_came_before():
    (gates,) = NARM(11, dim=6).eval().weights(HISTORY)
    assert gates.shape == (2, 4, 4)
    assert (gates.triu(1) == 0).all()
    assert (gates[1, :, 2:] == 0).all()
    assert (gates[0].diagonal() != 0).all()


def test_dropout_acts_in_training_alone():
    model = NARM(11, dim=6)
    assert not torch.equal(model.states(HISTORY), model.states(HISTORY))
    model.eval()
    assert torch.equal(model.states(HISTORY), model.states(HISTORY))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_items": 0}, "num_items must be an integer >= 1, got 0"),
        ({"dim": 0}, "dim must be an integer >= 1, got 0"),
        ({"hidden_dim": 0}, "hidden_dim must be an integer >= 1, got 0"),
        ({"max_length": 1}, "max_length must be an integer >= 2, got 1"),
        ({"dropout": 1.0}, "^dropout must be in"),
        ({"state_dropout": -1.0}, "state_dropout must be in"),
        ({"embedding_std": 0.0}, "embedding_std must be a finite number > 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        NARM(**{"num_items": 11, **arguments})
