import math

import pytest
import torch

from recattn.batch import History, RankingBatch
from recattn.errors import ConfigError
from recattn.models import BERT4Rec

NUM_ITEMS = 13
HISTORY = History(torch.tensor([[3, 5, 7, 2, 9], [4, 6, 0, 0, 0], [0, 0, 0, 0, 0]]), torch.tensor([5, 2, 0]))


def make(**more):
    torch.manual_seed(1)
    model = BERT4Rec(NUM_ITEMS, **({"dim": 6, "num_layers": 2, "max_length": 5} | more)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
        model.item_table.weight[0] = 0
    return model


def gaps(*places):
    """Of the first history alone."""
    masked = torch.zeros(1, 5, dtype=torch.bool)
    masked[0, list(places)] = True
    return History(HISTORY.items[:1], HISTORY.lengths[:1]), masked


def test_logits_are_equation_seven_of_a_mask_after_the_last_event():
    model = make()
    table, places = model.item_table.weight, model.position.table
    for row, events in enumerate(([3, 5, 7, 2, 9], [4, 6])):
        # From the end: [mask] is place 0, and the oldest of max_length events has no place of its own.
        tokens = torch.stack([*table[events], model.mask_vector])
        tokens = tokens + places[torch.arange(len(events), -1, -1).clamp(max=4)]
        hidden = model.projection(model.encoder(tokens[None]).output[0, -1])
        state = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        expected = table @ state + model.item_bias[:, 0]
        torch.testing.assert_close(model.score_all(HISTORY)[row, 1:], expected[1:].float())


def test_a_gap_is_told_from_both_sides_and_not_from_what_was_in_it():
    model = make()
    history, masked = gaps(2)
    plain = model.masked_states(history, masked)
    assert plain.shape == (1, 6 + 1)
    for place in range(5):
        items = history.items.clone()
        items[0, place] = 11
        changed = model.masked_states(history._replace(items=items), masked)
        assert torch.allclose(changed, plain) == (place == 2)


def test_gaps_come_row_by_row_and_do_not_read_each_other():
    model = make()
    history, masked = gaps(1, 3)
    both = model.masked_states(history, masked)
    assert both.shape == (2, 6 + 1)
    items = torch.tensor([[3, 12, 7, 11, 9]])
    torch.testing.assert_close(model.masked_states(history._replace(items=items), masked), both)
    alone = model.masked_states(*gaps(1))
    assert not torch.allclose(alone, both[:1])  # without the other gap there is an event to read


def test_a_gap_at_the_end_asks_what_a_recommendation_asks():
    model = make()
    before = History(HISTORY.items[:1, :4], torch.tensor([4]))
    torch.testing.assert_close(model.masked_states(*gaps(4)), model.states(before)[:, 3])


def test_sequences_of_max_length_train_every_place():
    """A place that is read when recommending and never in training would be noise."""
    model = make()
    model.masked_states(*gaps(0, 4)).sum().backward()
    assert (model.position.table.grad != 0).any(1).all()
    assert (model.mask_vector.grad != 0).any()


def test_weights_are_those_of_the_mask_on_the_events_before_it():
    model = make()
    found = model.weights(HISTORY)
    assert [layer.shape for layer in found] == [(3, 2, 5, 5)] * 2
    for moment in range(5):
        tokens = torch.cat([model.item_table.weight[HISTORY.items[0, : moment + 1]], model.mask_vector[None]])
        places = model.position.table[torch.arange(moment + 1, -1, -1).clamp(max=4)]
        encoded = model.encoder((tokens + places)[None], need_weights=True)
        for layer, expected in zip(found, encoded.weights, strict=True):
            torch.testing.assert_close(layer[0, :, moment, : moment + 1], expected[0, :, -1, :-1])
            assert (layer[0, :, moment].sum(-1) < 1).all()
            assert (layer[0, :, moment, moment + 1 :] == 0).all()
            assert (layer[1, :, 2:] == 0).all()
            assert (layer[2] == 0).all()


def test_the_bias_of_an_item_moves_its_own_logit_alone():
    model = make()
    batch = RankingBatch(HISTORY, torch.tensor([[1, 8], [8, 1], [8, 1]]))
    before = model(batch)
    with torch.no_grad():
        model.item_bias[8] += 2.5
    expected = torch.tensor([[0, 2.5], [2.5, 0], [0, 0]], dtype=torch.float64)  # nothing seen: all logits are 0
    torch.testing.assert_close(model(batch) - before, expected)


def test_only_the_catalogue_can_be_recommended():
    model = make()
    assert model.item_embeddings().shape == (NUM_ITEMS + 1, 6 + 1)
    assert model.score_all(HISTORY).shape == (3, NUM_ITEMS + 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_items": 0}, "num_items must be an integer >= 1, got 0"),
        ({"dim": 9}, "num_heads"),
        ({"num_layers": 0}, "num_layers must be an integer >= 1, got 0"),
        ({"max_length": 1}, "max_length must be an integer >= 2, got 1"),
        ({"norm": "mid"}, "norm must be one of pre, post, got 'mid'"),
        ({"feed_forward": "tanh"}, "feed_forward must be one of"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"embedding_std": 0.0}, "embedding_std must be a finite number > 0, got 0.0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        BERT4Rec(**({"num_items": NUM_ITEMS} | arguments))
