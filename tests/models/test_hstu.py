import math

import pytest
import torch
from torch.nn import functional as F

from recattn.batch import History, RankingBatch
from recattn.errors import ConfigError
from recattn.models import HSTU, SASRec
from recattn.models.sequence_bias import TIME_BASE, TIME_BUCKETS, SequenceBias
from recattn.nn import LinearAttention

HISTORY = History(
    torch.tensor([[3, 5, 7, 2], [4, 6, 0, 0]]),
    torch.tensor([4, 2]),
    torch.tensor([[100, 101, 109, 400], [50, 50, 0, 0]]),
)
NOW = torch.tensor([1000, 80])


def stirred(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model.double().eval()


def test_one_block_is_the_formula_of_the_paper():
    model = stirred(HSTU(11, dim=6, num_heads=1, num_layers=1, max_length=7))
    history = HISTORY._replace(items=HISTORY.items[:1], lengths=HISTORY.lengths[:1], times=HISTORY.times[:1])
    block = model.encoder.blocks[0]
    x = model.events(history, NOW[:1])[0]
    normed = block.around_attention.layer_norm(x)
    layer = block.attention
    u, q, k, v = (
        F.silu(projection(normed))
        for projection in (
            layer.gate_projection,
            layer.query_projection,
            layer.key_projection,
            layer.value_projection,
        )
    )
    asked = [101, 109, 400, 1000]  # the next event's time; after the last the request's
    gates = torch.zeros(4, 4, dtype=torch.float64)
    for i in range(4):
        for j in range(i + 1):
            gap = asked[i] - int(history.times[0, j])
            bucket = 0 if gap == 0 else 1 + math.floor(math.log(gap) / 0.301)
            bias = model.bias.position[0].table[0, i - j] + model.bias.time[0].table[0, bucket]
            gates[i, j] = F.silu(q[i] @ k[j] + bias) / 7
    x = x + layer.output_projection(u * F.layer_norm(gates @ v, (6,), eps=layer.eps))
    states = F.normalize(model.encoder.last_norm(x), dim=-1) / 0.05
    torch.testing.assert_close(model.states(history, NOW[:1])[0], states)
    torch.testing.assert_close(model.weights(history, NOW[:1])[0][0, 0], gates)


def test_logits_are_cosines_over_temperature():
    model = stirred(HSTU(11, dim=6, temperature=0.1))
    assert (model.score_all(HISTORY, NOW)[:, 1:].abs() <= 10 + 1e-6).all()
    cosine = stirred(SASRec(11, dim=6, temperature=0.1))
    torch.testing.assert_close(cosine.states(HISTORY)[0].norm(dim=-1), torch.full((4,), 10.0, dtype=torch.float64))


@pytest.mark.parametrize("build", [lambda: HSTU(11, dim=6), lambda: SASRec(11, dim=6, times="request")])
def test_a_place_knows_when_the_next_event_happens_and_no_more(build):
    model = stirred(build())
    later = HISTORY._replace(times=HISTORY.times + torch.tensor([[0, 0, 70, 70], [0, 0, 0, 0]]))
    one, other = model.states(HISTORY, NOW), model.states(later, NOW)
    torch.testing.assert_close(one[0, 0], other[0, 0])  # the time of event 1 is as it was
    assert not torch.allclose(one[0, 1], other[0, 1])  # that of event 2 is not


@pytest.mark.parametrize("build", [lambda: HSTU(11, dim=6), lambda: SASRec(11, dim=6, times="request")])
def test_any_request_time_is_answered_as_if_the_history_ended_there(build):
    model = stirred(build())
    candidates = torch.tensor([1, 8])
    positions, moments = torch.tensor([[4, 2, 2], [1, 2, 0]]), torch.tensor([[900, 777, 109], [60, 99, 5]])
    together = model.at_positions(HISTORY, positions, candidates, moments)
    for row, column in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
        seen = int(positions[row, column])
        prefix = History(HISTORY.items[[row], :seen], torch.tensor([seen]), HISTORY.times[[row], :seen])
        alone = model.score_all(prefix, moments[[row], column])[0, candidates]
        torch.testing.assert_close(together[row, column].float(), alone)
    batch = RankingBatch(HISTORY, candidates.expand(2, 2), request_time=torch.tensor([[900, 2000], [60, 60]]))
    asked = model(batch)
    torch.testing.assert_close(asked[:, 0].float(), model.score_all(HISTORY, torch.tensor([900, 60]))[:, 1])
    torch.testing.assert_close(asked[:, 1].float(), model.score_all(HISTORY, torch.tensor([2000, 60]))[:, 8])


@pytest.mark.parametrize("build", [lambda: HSTU(11, dim=6), lambda: SASRec(11, dim=6, times="request")])
@pytest.mark.parametrize("asked", [None, torch.tensor([[900, 2000], [60, 99]])])
def test_contributions_leave_an_event_out_and_not_the_time_of_asking(build, asked):
    model = stirred(build())
    candidates = torch.tensor([[1, 8], [8, 1]])
    found = model.contributions(RankingBatch(HISTORY, candidates, request_time=asked))
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        events = int(HISTORY.lengths[row])
        now = HISTORY.times[row, events - 1] if asked is None else asked[row, column]
        places = list(range(events))

        def logit(kept, row=row, now=now, candidate=candidates[row, column]):
            history = History(HISTORY.items[row, kept][None], torch.tensor([len(kept)]), HISTORY.times[row, kept][None])
            return model.states(history, now.view(1))[0, -1] @ model.item_embeddings()[candidate]

        for place in places:
            without = [other for other in places if other != place]
            torch.testing.assert_close(found[row, column, place], logit(places) - logit(without))


@pytest.mark.parametrize("build", [lambda: HSTU(11, dim=6), lambda: SASRec(11, dim=6, times="request")])
def test_attention_is_that_of_the_moment_of_asking(build):
    model = stirred(build())
    moments = torch.tensor([[900, 2000], [60, 99]])
    layers = model.attention(RankingBatch(HISTORY, torch.tensor([[1, 8], [8, 1]]), request_time=moments))
    for column in range(2):
        expected = model.weights(HISTORY, moments[:, column])
        for layer, found in zip(layers, expected, strict=True):
            torch.testing.assert_close(layer[0, :, column], found[0, :, 3])
            torch.testing.assert_close(layer[1, :, column], found[1, :, 1])
    assert not torch.allclose(layers[-1][0, :, 0], layers[-1][0, :, 1])


def test_intervals_of_the_history_are_no_knowledge_of_the_request():
    model = stirred(HSTU(11, dim=6, times="events", embed_times=True))
    assert not model.time_aware
    torch.testing.assert_close(model.states(HISTORY, NOW), model.states(HISTORY, NOW + 10**6))
    later = HISTORY._replace(times=HISTORY.times * 3)
    assert not torch.allclose(model.states(HISTORY), model.states(later))


def test_an_attention_without_pairs_takes_no_bias_of_pairs():
    layer = LinearAttention(6, 6, num_heads=2, causal=True)
    assert SASRec(11, dim=6, attention_layer=layer).num_items == 11
    with pytest.raises(ConfigError, match="relative_positions and interval_bias need an attention_layer that takes"):
        SASRec(11, dim=6, attention_layer=layer, relative_positions=True)


def test_time_buckets_reach_beyond_epoch_seconds():
    bias = SequenceBias(1, 1, max_length=5, relative=False, times=True, request=False)
    gap = torch.tensor([[0]]), torch.tensor([10**12])
    assert bias.time[0].buckets(*gap).item() < TIME_BUCKETS - 1
    assert abs(math.log(TIME_BASE) - 0.301) < 1e-12
    assert SequenceBias(2, 1, max_length=5, relative=False, times=False, request=False)(HISTORY) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"times": "all"}, "times must be one of none, events, request, got 'all'"),
        ({"times": "none", "embed_times": True}, "embed_times is True, but times is 'none'"),
        ({"temperature": 0.0}, "temperature must be a finite number > 0, got 0.0"),
        ({"max_length": 1}, "max_length must be an integer >= 2, got 1"),
    ],
)
def test_a_wrong_argument_says_what_is_allowed(arguments, message):
    with pytest.raises(ConfigError, match=message):
        HSTU(11, dim=6, **arguments)
