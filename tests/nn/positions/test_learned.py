import pytest
import torch

from recattn.errors import ConfigError
from recattn.nn import LearnedPosition


def numbered(num_positions=5, **more):
    """Row r of the table holds r + 1 everywhere."""
    position = LearnedPosition(num_positions, 3, **more)
    position.table.data = torch.arange(1.0, num_positions + 1)[:, None].repeat(1, 3)
    return position


def places(position, mask):
    return (position(mask)[..., 0] - 1).tolist()


def test_counted_back_from_the_most_recent_event():
    mask = torch.tensor([[True, True, True, False], [True, False, False, False], [False] * 4])
    assert places(numbered(), mask) == [[2, 1, 0, -1], [0, -1, -1, -1], [-1, -1, -1, -1]]


def test_counted_from_the_first_event():
    mask = torch.tensor([[True, True, True, False], [False, True, False, True]])
    assert places(numbered(from_end=False), mask) == [[0, 1, 2, -1], [-1, 0, -1, 1]]


@pytest.mark.parametrize("from_end", [True, False])
def test_what_lies_beyond_the_table_shares_its_last_row(from_end):
    expected = [3, 3, 3, 2, 1, 0] if from_end else [0, 1, 2, 3, 3, 3]
    assert places(numbered(4, from_end=from_end), torch.ones(1, 6, dtype=torch.bool)) == [expected]


@pytest.mark.parametrize("from_end", [True, False])
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_neither_shifts_nor_trains_a_place(from_end, side):
    position = LearnedPosition(50, 3, from_end=from_end)
    mask = torch.ones(1, 4, dtype=torch.bool)
    padding = [mask, torch.zeros(1, 6, dtype=torch.bool)]
    padded = torch.cat(padding if side == "right" else padding[::-1], 1)
    rows = position(padded)
    assert torch.equal(rows[padded], position(mask)[0])
    assert (rows[~padded] == 0).all()
    rows.sum().backward()
    assert torch.equal(position.table.grad, (torch.arange(50) < 4).float()[:, None].expand(50, 3))


def test_a_mask_for_each_query_gives_places_for_each_query():
    mask = torch.tensor([[[True, True, False], [True, True, True]]])
    assert places(numbered(), mask) == [[[1, 0, -1], [2, 1, 0]]]


def test_places_from_the_start_do_not_know_how_much_is_to_come():
    position, mask = LearnedPosition(9, 3, from_end=False), torch.arange(7)[None] < 7
    shorter = torch.arange(7)[None] < 4
    assert torch.equal(position(mask)[:, :4], position(shorter)[:, :4])
    assert not torch.equal(*(LearnedPosition(9, 3)(x)[:, :4] for x in (mask, shorter)))


def test_rows_start_small_and_follow_to_half_precision():
    position = LearnedPosition(500, 31)
    assert position.table.std().item() == pytest.approx(0.02, rel=0.05)
    assert position.half()(torch.ones(2, 7, dtype=torch.bool)).dtype == torch.float16


def test_an_empty_history_gives_nothing():
    position = LearnedPosition(5, 3)
    assert position(torch.zeros(2, 0, dtype=torch.bool)).shape == (2, 0, 3)
    position(torch.zeros(2, 7, dtype=torch.bool)).sum().backward()
    assert (position.table.grad == 0).all()


def test_wrong_arguments_are_named():
    with pytest.raises(ConfigError, match="num_positions must be an integer >= 1, got 0"):
        LearnedPosition(0, 3)
    with pytest.raises(ConfigError, match="dim must be an integer >= 1, got 0"):
        LearnedPosition(5, 0)
