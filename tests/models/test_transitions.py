"""The head of counted keys: its counts, its leave-one-out in training, its two ways to look counts up."""

import pytest
import torch

from recattn.batch import History, RankingBatch
from recattn.errors import ConfigError
from recattn.models import TargetAttention
from recattn.models import transitions as module
from recattn.models.transitions import TransitionHead

NUM_ITEMS = 11


def count(*rows, horizon, leave_out=None):
    """C by the double loop; leave_out = (row, place): pairs that end at that event are not counted."""
    counts = torch.zeros(NUM_ITEMS + 1, NUM_ITEMS + 1, dtype=torch.float64)
    for number, row in enumerate(rows):
        for late in range(len(row)):
            for early in range(max(0, late - horizon), late):
                if (number, late) != leave_out:
                    counts[row[early], row[late]] += 1 / (late - early)
    return counts


def fill(head, counts):
    pairs = counts.flatten().nonzero().squeeze(1)
    head.set_counts(pairs, counts.flatten()[pairs])
    return head


def head_of(*rows, horizon=3):
    return fill(TransitionHead(NUM_ITEMS, horizon=horizon).double(), count(*rows, horizon=horizon))


def mass_of(logits, head):
    floor = torch.nn.functional.softplus(head.raw_floor)
    return (logits / head.scale).exp() - floor


CATALOGUE = torch.arange(1, NUM_ITEMS + 1)
ROWS = ([1, 2, 3, 4, 2, 5], [2, 5, 1, 2, 3], [7, 8], [9])


def at(head, row, place, weights=None):
    """The mass of every item for someone who did what stands before ``place`` in ``row``."""
    items, visible = torch.tensor([row]), torch.tensor([[place]])
    log_weights = torch.zeros(1, 1, len(row), dtype=torch.float64) if weights is None else weights.log()
    log_weights = log_weights.masked_fill(torch.arange(len(row)) >= place, -torch.inf)
    target = torch.tensor([[row[place]]])
    return mass_of(head(log_weights, items, visible, CATALOGUE, target), head)[0, 0].detach()


def test_by_hand():
    """After 1: 2 at distance 1 and 3 at distance 2, so that 1 says 2/3 : 1/3."""
    head = head_of([1, 2, 3], horizon=2).eval()
    assert at(head, [1, 4], 1)[:3].tolist() == pytest.approx([0, 2 / 3, 1 / 3], abs=1e-9)
    weights = torch.tensor([[[0.5, 2.0, 1.0]]], dtype=torch.float64)
    mixed = at(head, [1, 2, 9], 2, weights)  # 2 is always followed by 3
    assert mixed[:3].tolist() == pytest.approx([0, 0.5 * 2 / 3, 0.5 / 3 + 2.0], abs=1e-9)


def test_the_logit_is_the_scaled_logarithm_of_floor_plus_mass():
    head = TransitionHead(NUM_ITEMS).double()
    with torch.no_grad():
        head.scale.fill_(0.7)
        head.raw_floor.fill_(-1.3)
    mass = torch.tensor([0.0, 0.4, -1e-9], dtype=torch.float64)
    floor = torch.log1p(torch.exp(torch.tensor(-1.3, dtype=torch.float64)))
    expected = 0.7 * torch.log(floor + mass.clamp(min=0))
    torch.testing.assert_close(head.logits(mass), expected)


@pytest.mark.parametrize(("row", "place"), [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 1)])
def test_leaving_the_own_pair_out_equals_counting_without_it(row, place):
    head = head_of(*ROWS).train()
    without = fill(
        TransitionHead(NUM_ITEMS, horizon=3).double(), count(*ROWS, horizon=3, leave_out=(row, place))
    ).eval()
    weights = torch.rand(1, 1, len(ROWS[row]), dtype=torch.float64) + 0.5
    torch.testing.assert_close(at(head, ROWS[row], place, weights), at(without, ROWS[row], place, weights))


@pytest.mark.parametrize(("row", "place"), [(0, 5), (1, 4), (3, 1), (3, 3), (3, 4), (3, 5)])
def test_items_that_come_again_before_the_target_are_left_out_each_time(row, place):
    rows = (*ROWS[:3], [6, 6, 2, 6, 2, 6])
    head = head_of(*rows).train()
    without = fill(
        TransitionHead(NUM_ITEMS, horizon=3).double(), count(*rows, horizon=3, leave_out=(row, place))
    ).eval()
    torch.testing.assert_close(at(head, rows[row], place), at(without, rows[row], place))


def test_bf16_products_do_not_give_the_target_away():
    """A target with no pairs but its own has mass 0: what rounding leaves of a difference would be its label."""
    random = torch.Generator().manual_seed(0)
    rows = [torch.randint(1, NUM_ITEMS - 1, (9,), generator=random).tolist() for _ in range(7)]
    rows.append([1, 2, 3, 1, 2, 4, 5, 6, NUM_ITEMS])
    head = fill(TransitionHead(NUM_ITEMS, horizon=9), count(*rows, horizon=9)).train()
    items, visible, target = torch.tensor([rows[-1]]), torch.tensor([[8]]), torch.tensor([[NUM_ITEMS]])
    log_weights = torch.randn(1, 1, 9, generator=random).masked_fill(torch.arange(9) >= 8, -torch.inf)
    arguments = (log_weights, items, visible)
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(*arguments, CATALOGUE, target)
        shares = head.shares(*arguments, CATALOGUE[None], target)
    torch.testing.assert_close(logits, head(*arguments, CATALOGUE, target))
    torch.testing.assert_close(shares, head.shares(*arguments, CATALOGUE[None], target))
    assert logits[0, 0, -1].item() == pytest.approx(head.logits(torch.zeros(())).item(), abs=1e-2)


def test_nothing_is_left_out_in_evaluation():
    head = head_of([1, 2, 3])
    assert at(head.eval(), [1, 2], 1)[1] == pytest.approx(2 / 3)
    assert at(head.train(), [1, 2], 1)[1].item() == pytest.approx(0, abs=1e-9)


def test_an_item_followed_by_the_target_alone_has_nothing_left_to_say():
    head = head_of([7, 8])
    assert at(head.train(), [7, 8], 1).abs().max() < 1e-9
    assert at(head.eval(), [7, 8], 1)[7].item() == pytest.approx(1)


def test_where_no_target_is_known_nothing_is_left_out():
    """A history that ends where it is asked: a table of clicks, or recommending while still in training mode."""
    model = TargetAttention(NUM_ITEMS, dim=4, transitions=3, dropout=0.0).double()
    fill(model.transition_head, count(*ROWS, horizon=3))
    history = History(torch.tensor([[1, 2, 3], [2, 5, 0]]), torch.tensor([3, 2]))
    batch = RankingBatch(history, CATALOGUE.expand(2, -1))
    expected = model.eval()(batch)
    torch.testing.assert_close(model.train()(batch), expected)
    torch.testing.assert_close(model.at_positions(history, history.lengths[:, None], CATALOGUE)[:, 0], expected)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("candidates", [CATALOGUE, torch.tensor([3, 1, 3]), CATALOGUE.flip(0), CATALOGUE - 1])
def test_dense_and_sparse_counts_give_the_same(monkeypatch, train, candidates):
    dense = head_of(*ROWS).train(train)
    monkeypatch.setattr(module, "DENSE_ITEMS", 0)
    sparse = head_of(*ROWS).train(train)
    assert dense.dense is not None
    assert sparse.dense is None
    items, visible = torch.tensor([ROWS[0], [*ROWS[1], 0]]), torch.tensor([[1, 3, 5], [0, 2, 4]])
    targets = items.gather(1, visible)
    log_weights = torch.randn(2, 3, 6, dtype=torch.float64).masked_fill(
        torch.arange(6) >= visible[..., None], -torch.inf
    )
    arguments = (log_weights, items, visible, candidates, targets)
    torch.testing.assert_close(sparse(*arguments), dense(*arguments))
    one_by_one = torch.cat([dense(*arguments[:3], c[None], targets) for c in candidates], -1)
    torch.testing.assert_close(dense(*arguments), one_by_one)


@pytest.mark.parametrize("limit", [0, 4096], ids=["sparse", "dense"])
def test_shares_sum_to_the_mass_of_forward(monkeypatch, limit):
    monkeypatch.setattr(module, "DENSE_ITEMS", limit)
    head = head_of(*ROWS).eval()
    items, visible = torch.tensor([ROWS[0]]), torch.tensor([[4]])
    log_weights = torch.randn(1, 1, 6, dtype=torch.float64).masked_fill(torch.arange(6) >= 4, -torch.inf)
    targets = items[:, 4:5]
    shares = head.shares(log_weights, items, visible, CATALOGUE[None], targets)
    assert shares.shape == (1, NUM_ITEMS, 6)
    assert (shares[..., 4:] == 0).all()
    torch.testing.assert_close(head.logits(shares.sum(-1)), head(log_weights, items, visible, CATALOGUE, targets)[:, 0])


@pytest.mark.parametrize("limit", [0, 4096], ids=["sparse", "dense"])
def test_without_counts_the_head_is_silent(monkeypatch, limit):
    monkeypatch.setattr(module, "DENSE_ITEMS", limit)
    head = TransitionHead(NUM_ITEMS).double()
    logits = head(
        torch.zeros(1, 1, 2).double(), torch.tensor([[1, 2]]), torch.tensor([[2]]), CATALOGUE, torch.tensor([[0]])
    )
    assert logits.unique().numel() == 1


@pytest.mark.parametrize("limit", [0, 4096], ids=["sparse", "dense"])
def test_state_goes_to_a_head_with_other_counts(monkeypatch, limit):
    monkeypatch.setattr(module, "DENSE_ITEMS", limit)
    head = head_of(*ROWS).eval()
    for other in (TransitionHead(NUM_ITEMS, horizon=3).double(), head_of([4, 5])):
        other.eval().load_state_dict(head.state_dict())
        assert torch.equal(at(other, ROWS[0], 3), at(head, ROWS[0], 3))
        assert torch.equal(other.totals, head.totals)
    empty = TransitionHead(NUM_ITEMS, horizon=3).double().state_dict()
    head.load_state_dict(empty)
    assert not head.totals.any()
    assert at(head, ROWS[0], 3).abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_counts_can_be_set_and_loaded_after_a_change_of_type(dtype):
    source = head_of(*ROWS)
    head = TransitionHead(NUM_ITEMS, horizon=3).to(dtype)
    head.load_state_dict(source.state_dict())
    fill(head, count(*ROWS, horizon=3))
    assert head.dense.dtype == head.counts.dtype == dtype


def test_wrong_counts_are_refused():
    head, size = TransitionHead(NUM_ITEMS), NUM_ITEMS + 1
    one = torch.ones(2)
    for pairs, counts in [
        (torch.tensor([size + 2, size + 1]), one),
        (torch.tensor([size + 1, size + 1]), one),
        (torch.tensor([size + 1, size + 2]), torch.tensor([1.0, 0.0])),
        (torch.tensor([size + 1, size + 2]), torch.ones(3)),
    ]:
        with pytest.raises(ConfigError, match="pairs must ascend without repeats"):
            head.set_counts(pairs, counts)
    for pairs in (torch.tensor([3, size + 2]), torch.tensor([size + 1, size * size])):
        with pytest.raises(ConfigError, match="pairs must lie between items 1 and 11"):
            head.set_counts(pairs, one)
    with pytest.raises(ConfigError, match="horizon must be an integer >= 1, got 0"):
        TransitionHead(NUM_ITEMS, horizon=0)
