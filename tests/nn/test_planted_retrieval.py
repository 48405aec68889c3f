"""One event of the history answers the query, all others distract: the target is a function of that event alone."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import recattn.nn as rnn

DIM, LABELS, ASKED = 16, 8, 64
LENGTHS = (10, 100, 1_000, 10_000)


def planted(length: int, asked: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries (asked, DIM), keys (asked, length, DIM), labels (asked, length), and the label of the one asked for."""
    keys = F.normalize(torch.randn(asked, length, DIM, generator=random), dim=-1)
    labels = torch.randint(LABELS, (asked, length), generator=random)
    row, place = torch.arange(asked), torch.randint(length, (asked,), generator=random)
    return keys[row, place], keys, labels, labels[row, place]


def found(weighting: nn.Module, length: int) -> float:
    """The share of queries whose label is the largest part of what is retrieved."""
    query, keys, labels, target = planted(length, ASKED, torch.Generator().manual_seed(length))
    attention = rnn.AttentionPooling(rnn.DotScorer(), weighting).eval()
    retrieved = attention(query, keys, F.one_hot(labels, LABELS).float()).output
    return (retrieved.argmax(-1) == target).float().mean().item()


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("gradient", ["straight_through", "gumbel"])
def test_hard_retrieval_finds_the_event_at_every_length(length, gradient):
    assert found(rnn.HardRetrieval(gradient=gradient), length) == 1
    query, keys, labels, target = planted(length, ASKED, torch.Generator().manual_seed(length))
    retrieved = rnn.AttentionPooling(rnn.DotScorer(), rnn.HardRetrieval())(query, keys, labels[..., None].float())
    assert torch.equal(retrieved.output.squeeze(-1), target.float())  # the label itself, not something near it


def test_softmax_of_the_same_scores_loses_the_event_among_many():
    shares = [found(rnn.Softmax(temperature=0.2), length) for length in LENGTHS]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.9
    assert shares[-1] < 0.5


@pytest.mark.parametrize("length", LENGTHS)
def test_softmax_gives_the_event_the_weight_that_theory_says(length):
    """exp(b) against (length - 1) E exp(b cos): the weight falls as 1 / length, whatever the scores have learned."""
    inverse = 5.0
    query, keys, _, _ = planted(length, ASKED, torch.Generator().manual_seed(length))
    weights = rnn.AttentionPooling(rnn.DotScorer(), rnn.Softmax(temperature=1 / inverse))(query, keys).weights
    cosines = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    density = (1 - cosines.square()) ** ((DIM - 3) / 2)  # of the cosine of two random directions
    distractor = ((inverse * cosines).exp() * density).sum() / density.sum()
    expected = math.exp(inverse) / (math.exp(inverse) + (length - 1) * distractor.item())
    assert weights.amax(-1).mean().item() == pytest.approx(expected, rel=0.1)


def test_a_hard_retrieval_learns_from_a_random_start_on_short_histories_to_find_it_in_long_ones():
    """What tells the model is the label; the query is turned by a rotation that its scorer has to find out."""
    random = torch.Generator().manual_seed(5)
    turn = torch.linalg.qr(torch.randn(DIM, DIM, generator=random)).Q
    attention = rnn.AttentionPooling(rnn.BilinearScorer(DIM, DIM), rnn.HardRetrieval())
    embedding, readout = nn.Embedding(LABELS, LABELS), nn.Linear(LABELS, LABELS)
    parameters = [*attention.parameters(), *embedding.parameters(), *readout.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=0.02)

    def logits(query: Tensor, keys: Tensor, labels: Tensor) -> Tensor:
        return readout(attention(query @ turn, keys, embedding(labels)).output)

    for _ in range(400):
        *asked, target = planted(10, ASKED, random)
        optimiser.zero_grad()
        F.cross_entropy(logits(*asked), target).backward()
        optimiser.step()
    attention.eval()
    for length in LENGTHS:
        *asked, target = planted(length, ASKED, random)
        assert (logits(*asked).argmax(-1) == target).all()
