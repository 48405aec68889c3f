import pytest
import torch

from recattn.batch import History
from recattn.errors import ConfigError
from recattn.evaluation import TwoStage
from recattn.evaluation.two_stage import retrieve

HISTORY = History(torch.tensor([[2, 5], [1, 0]]), torch.tensor([2, 1]))
RETRIEVER = torch.tensor([[0.0, 4.0, 7.0, 1.0, 3.0, 9.0, 2.0], [0.0, 4.0, 7.0, 1.0, 3.0, 9.0, 2.0]])
RANKER = torch.tensor([-torch.inf, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def retriever(history, request_time):
    return RETRIEVER


def ranker(history, candidates, request_time):
    return RANKER[candidates]


def test_the_best_of_the_retriever_are_retrieved_and_seen_items_are_not():
    assert retrieve(RETRIEVER, 3).tolist() == [[5, 2, 1], [5, 2, 1]]
    assert retrieve(RETRIEVER, 3, HISTORY.items).tolist() == [[1, 4, 6], [5, 2, 4]]


def test_an_item_that_is_kept_stays_in_the_running_though_it_was_seen():
    kept = torch.tensor([5, 1])
    assert retrieve(RETRIEVER, 2, HISTORY.items, kept).tolist() == [[5, 1], [5, 2]]


def test_where_fewer_are_left_the_rest_is_padding():
    assert retrieve(RETRIEVER, 100, HISTORY.items).tolist() == [[1, 4, 6, 3, 0, 0], [5, 2, 4, 6, 3, 0]]


def test_retrieving_leaves_the_scores_as_they_were():
    scores = RETRIEVER.clone()
    retrieve(scores, 2, HISTORY.items)
    assert torch.equal(scores, RETRIEVER)


def test_candidates_get_the_rankers_score_and_all_others_none():
    scores = TwoStage(retriever, ranker, count=2)(HISTORY, seen=HISTORY.items)
    none = -torch.inf
    expected = torch.tensor([[none, 0.1, none, none, 0.4, none, none], [none, none, 0.2, none, none, 0.5, none]])
    assert torch.equal(scores, expected)


def test_a_blend_adds_the_weighted_score_of_the_retriever():
    pipeline = TwoStage(retriever, ranker, count=6, blend=0.5)
    expected = RANKER[1:] + 0.5 * RETRIEVER[:, 1:]
    torch.testing.assert_close(pipeline(HISTORY)[:, 1:], expected)
    torch.testing.assert_close(
        pipeline.score(HISTORY, torch.tensor([[3], [6]])), expected.gather(1, torch.tensor([[2], [5]]))
    )
    alone = TwoStage(retriever, ranker, count=1).score(HISTORY, torch.tensor([[3], [6]]))
    assert torch.equal(alone, torch.tensor([[0.3], [0.6]]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "retrieve must be an integer >= 1, got 0"),
        ({"blend": -0.1}, "blend must be a finite number >= 0, got -0.1"),
        ({"blend": float("nan")}, "blend must be a finite number >= 0, got nan"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        TwoStage(retriever, ranker, **settings)
