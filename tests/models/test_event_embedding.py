import pytest
import torch

from recattn.batch import History
from recattn.errors import ConfigError
from recattn.models.event_embedding import GAP_BUCKETS, EventEmbedding, last_time, since_previous

HISTORY = History(
    torch.tensor([[3, 5, 7], [4, 0, 0]]),
    torch.tensor([3, 1]),
    torch.tensor([[100, 101, 109], [50, 0, 0]]),
    torch.tensor([[1.0, 5.0, 3.0], [4.0, 0.0, 0.0]]),
    torch.tensor([[2, 1], [0, 2]]),
)
NOW = torch.tensor([209, 50])


def embedding(**more):
    return EventEmbedding(11, 6, max_length=5, **more).double().eval()


def test_each_part_is_added_to_the_item():
    embed = embedding(times="request", rating_levels=(1, 2, 3, 4, 5), profile_sizes=(3, 4))
    found = embed(HISTORY, NOW)
    # second event: 1 s after the first (bucket 1), 8 s before the third (bucket 4)
    expected = embed.items.weight[5] + embed.position.table[1] + embed.rating.weight[4]
    expected = expected + embed.before.weight[1] + embed.after.weight[4]
    expected = expected + embed.profile.values[0].weight[2] + embed.profile.values[1].weight[1]
    torch.testing.assert_close(found[0, 1], expected)
    # the only event of the second user: nothing before it, the request in its own second; first profile field unknown
    expected = embed.items.weight[4] + embed.position.table[0] + embed.rating.weight[3]
    expected = expected + embed.before.weight[0] + embed.after.weight[0] + embed.profile.values[1].weight[2]
    torch.testing.assert_close(found[1, 0], expected)


def test_the_last_event_waits_for_the_request():
    embed = embedding(times="request")
    soon, late = embed(HISTORY, torch.tensor([110, 51])), embed(HISTORY, torch.tensor([10**6, 51]))
    assert torch.equal(soon[0, :2], late[0, :2])
    assert not torch.equal(soon[0, 2], late[0, 2])
    torch.testing.assert_close(embed(HISTORY), embed(HISTORY, last_time(HISTORY)))


def test_events_alone_know_no_request():
    embed = embedding(times="events")
    assert torch.equal(embed(HISTORY, NOW), embed(HISTORY, NOW + 10**6))


def test_what_the_history_lacks_is_done_without():
    bare = HISTORY._replace(times=None, ratings=None, profile=None)
    full, plain = embedding(times="request", rating_levels=(1, 5), profile_sizes=(3, 4)), embedding()
    plain.load_state_dict(full.state_dict(), strict=False)
    torch.testing.assert_close(full(bare), plain(bare))


def test_gaps_fall_into_buckets_that_double():
    powers = 2 ** torch.arange(40)
    edges = embedding(times="events").edges
    buckets = torch.bucketize(torch.stack([powers, powers - 1]), edges, right=True)
    assert buckets[0].tolist() == [min(i + 1, GAP_BUCKETS - 1) for i in range(40)]
    assert buckets[1].tolist() == [min(i, GAP_BUCKETS - 1) for i in range(40)]
    assert since_previous(torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"times": "all"}, "times must be one of none, events, request, got 'all'"),
        ({"rating_levels": (2, 1)}, r"finite numbers that ascend without repeats, got \(2, 1\)"),
        ({"rating_levels": (1.0, float("nan"))}, r"finite numbers that ascend without repeats, got \(1.0, nan\)"),
        ({"rating_levels": ("a",)}, r"finite numbers that ascend without repeats, got \('a',\)"),
        ({"profile_sizes": (3, -1)}, "profile_sizes must be an integer >= 1, got -1"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_a_wrong_argument_says_what_is_allowed(arguments, message):
    with pytest.raises(ConfigError, match=message):
        embedding(**arguments)
