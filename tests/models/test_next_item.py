import pytest
import torch

from recattn.batch import History, RankingBatch
from recattn.models import NARM, BERT4Rec, SASRec, SlateDecoder, TargetAttention, TargetRanker, moments
from recattn.models.windows import leave_out, window
from recattn.nn import MultiHeadAttention, RotaryPosition

HISTORY = History(
    torch.tensor([[3, 5, 7, 2, 9], [4, 6, 0, 0, 0], [0, 0, 0, 0, 0]]),
    torch.tensor([5, 2, 0]),
    torch.tensor([[10, 20, 30, 40, 50], [15, 25, 0, 0, 0], [0, 0, 0, 0, 0]]),
)
CANDIDATES = torch.tensor([[1, 8, 10], [1, 8, 10], [1, 8, 10]])
MODELS = {
    "bert": lambda: BERT4Rec(11, dim=6),
    "narm": lambda: NARM(11, dim=6),
    "slates": lambda: SlateDecoder(11, dim=8),
}


@pytest.fixture(params=MODELS)
def model(request):
    model = MODELS[request.param]().double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model


def test_windows_are_the_last_events_before_each_position():
    windows, starts = window(HISTORY, torch.tensor([[5, 2], [1, 2], [0, 0]]), 3)
    assert windows.items.tolist() == [[7, 2, 9], [3, 5, 0], [4, 0, 0], [4, 6, 0], [0, 0, 0], [0, 0, 0]]
    assert windows.times.tolist()[:3] == [[30, 40, 50], [10, 20, 0], [15, 0, 0]]
    assert windows.lengths.tolist() == [3, 2, 1, 2, 0, 0]
    assert starts.tolist() == [[2, 0], [0, 0], [0, 0]]


def test_leaving_an_event_out_moves_the_later_ones_up():
    without = leave_out(HISTORY, torch.tensor([1, 4]))
    assert without.items.tolist()[:2] == [[3, 7, 2, 9, 0], [4, 0, 0, 0, 0]]
    assert without.items.tolist()[3:5] == [[3, 5, 7, 2, 0], [4, 6, 0, 0, 0]]
    assert without.lengths.tolist() == [4, 1, 0, 4, 2, 0]
    assert without.times.tolist()[0] == [10, 30, 40, 50, 0]


def test_logits_are_products_of_state_and_embedding(model):
    states, embeddings = model.states(HISTORY), model.item_embeddings()
    logits = model(RankingBatch(HISTORY, CANDIDATES))
    torch.testing.assert_close(logits[0], embeddings[CANDIDATES[0]] @ states[0, 4])
    torch.testing.assert_close(logits[1], embeddings[CANDIDATES[1]] @ states[1, 1])
    assert (logits[2] == 0).all()


def test_states_are_causal(model):
    changed = HISTORY._replace(items=torch.where(torch.arange(5) >= 3, HISTORY.items % 11 + 1, HISTORY.items))
    torch.testing.assert_close(model.states(changed)[0, :3], model.states(HISTORY)[0, :3])
    assert not torch.allclose(model.states(changed)[0, 3:], model.states(HISTORY)[0, 3:])


@pytest.mark.parametrize("visible", [None, torch.tensor([[5, 4, 1], [2, 0, 1], [0, 0, 0]])], ids=["whole", "visible"])
@pytest.mark.parametrize("piece", [1, 2**16])
def test_a_contribution_is_what_the_logit_loses_without_the_event(model, visible, piece, monkeypatch):
    monkeypatch.setattr(moments, "LEFT_OUT_PAIRS", piece)
    model.max_length = 4
    found = model.contributions(RankingBatch(HISTORY, CANDIDATES, visible=visible))
    for row in range(2):
        for column in range(3):
            end = int(HISTORY.lengths[row]) if visible is None else int(visible[row, column])
            events = HISTORY.items[row, max(0, end - 4) : end]

            def logit(items, candidate=CANDIDATES[row, column]):
                if not len(items):
                    return torch.zeros((), dtype=torch.float64)
                alone = History(items[None], torch.tensor([len(items)]))
                return model(RankingBatch(alone, candidate.view(1, 1)))[0, 0]

            for place in range(5):
                inside = place - max(0, end - 4)
                expected = 0.0
                if 0 <= inside < len(events):
                    expected = (logit(events) - logit(torch.cat([events[:inside], events[inside + 1 :]]))).item()
                assert found[row, column, place].item() == pytest.approx(expected, abs=1e-12)


def test_attention_stands_at_the_events_places(model):
    batch = RankingBatch(HISTORY, CANDIDATES, visible=torch.tensor([[5, 4, 1], [2, 0, 1], [0, 0, 0]]))
    model.max_length = 2
    for layer in model.attention(batch):
        seen = layer.abs().flatten(1, -3).sum(1) if layer.dim() == 4 else layer.abs()
        assert (seen[0] > 0).tolist() == [
            [False] * 3 + [True] * 2,
            [False] * 2 + [True] * 2 + [False],
            [True] + [False] * 4,
        ]
        assert (seen[1] > 0).tolist() == [[True] * 2 + [False] * 3, [False] * 5, [True] + [False] * 4]
        assert (seen[2] == 0).all()


def test_rotary_attention_may_have_a_bias_of_intervals():
    attention = MultiHeadAttention(8, 8, num_heads=2, causal=True, rotary=RotaryPosition(4))
    model = SASRec(11, dim=8, attention_layer=attention, learned_positions=False, interval_bias=True).eval()
    history = History(torch.tensor([[3, 5, 7]]), torch.tensor([3]), times=torch.tensor([[1, 50, 900]]))
    torch.testing.assert_close(model.last_states(history), model.states(history)[:, -1])


def test_nobody_with_more_columns_than_are_read_is_answered():
    model = SASRec(11, dim=8, max_length=3)
    empty = History(torch.zeros(0, 5, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    asked = torch.zeros(0, 4, dtype=torch.int64)
    assert model(RankingBatch(empty, asked, visible=asked)).shape == (0, 4)
    assert model.at_positions(empty, asked, torch.tensor([1, 2])).shape == (0, 4, 2)


def test_a_batch_of_nobody_is_answered():
    history = History(torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    batch = RankingBatch(history, torch.zeros(0, 4, dtype=torch.int64), visible=torch.zeros(0, 4, dtype=torch.int64))
    for model in (SASRec(11, dim=8), TargetRanker(11, dim=8), TargetAttention(11, dim=8)):
        model.eval()
        assert model(batch).shape == (0, 4)
        assert model.score_candidates(history, batch.candidates).shape == (0, 4)


def test_items_may_be_ranked_with_a_table_apart_from_that_which_histories_are_read_with():
    model = SASRec(11, dim=6, separate_tables=True).eval()
    states, scores = model.states(HISTORY), model.score_all(HISTORY)
    with torch.no_grad():
        model.item_embeddings().mul_(2)
    torch.testing.assert_close(model.states(HISTORY), states, atol=0, rtol=0)
    torch.testing.assert_close(model.score_all(HISTORY)[:2, 1:], 2 * scores[:2, 1:])
