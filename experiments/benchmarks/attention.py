"""Time, memory and recovered mass of every attention layer, for histories of 100 to 100,000 events.

    python experiments/benchmarks/attention.py

One process, one user, vectors of 64, fp32, evaluation without gradients or weights, medians over alternating runs:

- ``target``: 1 and 64 candidates ask one history. ``kept``: the same where what depends on the history alone (sums,
  slots, codes) was made before and is kept with the user.
- ``sequence``: a history asks itself.
- ``memory``: the most that tensors took at any time beyond the inputs, counted by torch's profiler at every allocation.
- ``slope``: d log(time) / d log(length) by least squares over lengths of 1,000 and more: 1 is linear, 2 quadratic.
- ``mass``: for what stands in for exact attention, the share of the exact attention weights that it recovered:
  sum_j min(exact_j, its_j) with the same scores, the mean over the queries, at up to 10,000 events (1,000 of a
  sequence). Nothing is trained here: layers with learned slots or tokens are at their random start.
- ``claims``: pairs measured in turn, A B A B.

The history is like a user's: 100 categories whose sizes fall as 1 / rank, an event is half its category's direction and
half its own; a candidate is drawn as an event is. Writes attention.json and attention.svg beside this file.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from attention_plot import draw
from din_speed import processor
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

import recattn.nn as rnn

HERE = Path(__file__).parent
DIM, HEADS, CATEGORIES, FOUND, CHUNK = 64, 4, 100, 100, 64
LENGTHS, QUERIES = (100, 1_000, 10_000, 100_000), (1, 64)


class User(NamedTuple):
    """Candidates (1, queries, DIM) and events (1, length, DIM), and their categories (1, queries) and (1, length)."""

    candidates: Tensor
    events: Tensor
    candidate_categories: Tensor
    categories: Tensor


def draw_user(queries: int, length: int, seed: int = 0) -> User:
    random = torch.Generator().manual_seed(seed)
    centres = torch.randn(CATEGORIES, DIM, generator=random)
    sizes = 1 / torch.arange(1.0, CATEGORIES + 1)

    def draw(number: int) -> tuple[Tensor, Tensor]:
        categories = torch.multinomial(sizes, number, replacement=True, generator=random)
        noise = torch.randn(number, DIM, generator=random)
        return (math.sqrt(0.5) * (centres[categories] + noise))[None], categories[None] + 1

    (candidates, theirs), (events, categories) = draw(queries), draw(length)
    return User(candidates, events, theirs, categories)


class Mechanism(NamedTuple):
    """How to ask one layer.

    ask: the whole call for a user, made before the clock starts. keep: what remains of it where the history's part is
    kept. weights: (queries, length) or (heads, queries, length), where the layer stands in for exact attention.
    exact: the weights of the attention that it stands in for, by default scaled dot-product attention.
    """

    name: str
    ask: Callable[[User], Callable[[], object]]
    keep: Callable[[User], Callable[[], object]] | None = None
    weights: Callable[[User], Tensor] | None = None
    exact: Callable[[User], Tensor] | None = None


def exact_weights(user: User) -> Tensor:
    return rnn.AttentionPooling(rnn.ScaledDotScorer(), rnn.Softmax())(user.candidates, user.events).weights[0]


def as_is(layer: nn.Module) -> nn.Module:
    """Projections that change nothing, so that the layer's scores are those of scaled dot-product attention."""
    with torch.no_grad():
        for name, part in layer.named_modules():
            if isinstance(part, nn.Linear) and name.endswith("_projection") and part.weight.shape == (DIM, DIM):
                part.weight.copy_(torch.eye(DIM))
    return layer


def layer_of(layer: nn.Module, **more: Callable[[User], Callable[[], object]]) -> dict[str, object]:
    """A layer that is asked in the common way."""
    layer.eval()
    return {"ask": lambda user: partial(layer, user.candidates, user.events, need_weights=False), **more}


def stands_in(layer: nn.Module) -> dict[str, Callable[[User], Tensor]]:
    """The same, with its weights beside those of exact attention."""
    return {**layer_of(layer), "weights": lambda user: layer(user.candidates, user.events).weights[0]}


def summed_up(layer: nn.Module) -> dict[str, object]:
    """A layer that sums a history up once and is asked as often as needed."""

    def keep(user: User) -> Callable[[], object]:
        return partial(layer.ask, user.candidates, layer.summarize(user.events))

    return {**stands_in(layer), "keep": keep}


def per_pair(network: nn.Module) -> Callable[[User], Callable[[], object]]:
    """One call of a network for each pair [q ; k], all pairs in one batch."""

    def ask(user: User) -> Callable[[], object]:
        queries, length = user.candidates.shape[1], user.events.shape[1]

        def run() -> Tensor:
            pairs = torch.cat(
                [
                    user.candidates[0, :, None].expand(queries, length, DIM),
                    user.events.expand(queries, length, DIM),
                ],
                -1,
            )
            return network(pairs).squeeze(-1).softmax(-1) @ user.events[0]

        return run

    return ask


def pair_network() -> nn.Module:
    return nn.Sequential(nn.Linear(2 * DIM, DIM), nn.Tanh(), nn.Linear(DIM, 1))


def raw_sdpa(user: User) -> Callable[[], object]:
    q, k = user.candidates[:, None], user.events[:, None]
    return partial(F.scaled_dot_product_attention, q, k, k)


def pooling(scorer: nn.Module, weighting: nn.Module | None = None) -> nn.Module:
    return rnn.AttentionPooling(scorer, rnn.Softmax() if weighting is None else weighting)


def target_mechanisms(longest: int) -> list[Mechanism]:
    exact = pooling(rnn.ScaledDotScorer())
    unit = rnn.ActivationUnitScorer(DIM, DIM, hidden_dims=(DIM,), activation="dice")
    hashing = rnn.SimHashSearch(DIM, k=FOUND, num_bits=64)
    by_code, by_category = (
        rnn.SearchedAttention(hashing, exact),
        rnn.SearchedAttention(rnn.CategorySearch(FOUND), exact),
    )

    def codes_kept(user: User) -> Callable[[], object]:
        codes = hashing.codes(user.events)

        def run() -> object:
            sought = hashing.codes(user.candidates)
            return by_code(user.candidates, user.events, need_weights=False, search_query=sought, search_keys=codes)

        return run

    def categories(user: User, *, need_weights: bool = False) -> rnn.Attended:
        return by_category(
            user.candidates,
            user.events,
            need_weights=need_weights,
            search_query=user.candidate_categories,
            search_keys=user.categories,
        )

    collisions = rnn.BucketHashPooling(DIM, num_groups=16, num_bits=3)

    def shares_of_counts(user: User) -> Tensor:
        counts = collisions(user.candidates, user.events).weights[0]
        return counts / counts.sum(-1, keepdim=True)

    multi = {"num_heads": HEADS}
    one = {"num_heads": 1}
    linformer = as_is(rnn.LinformerAttention(DIM, DIM, max_length=longest, num_slots=FOUND, **one))
    return [
        Mechanism("raw SDPA, a yardstick", raw_sdpa),
        Mechanism("scaled dot, softmax", **layer_of(exact)),
        Mechanism("bilinear, softmax", **layer_of(pooling(rnn.BilinearScorer(DIM, DIM)))),
        Mechanism("MultiHeadAttention", **layer_of(rnn.MultiHeadAttention(DIM, DIM, **multi))),
        Mechanism("additive, a call per pair", per_pair(pair_network())),
        Mechanism("additive, factored", **layer_of(pooling(rnn.AdditiveScorer(DIM, DIM, hidden_dim=DIM)))),
        Mechanism("DIN's unit", **layer_of(pooling(unit, rnn.Identity()))),
        Mechanism("scaled dot, sparsemax", **layer_of(pooling(rnn.ScaledDotScorer(), rnn.Sparsemax()))),
        Mechanism("scaled dot, entmax-1.5", **layer_of(pooling(rnn.ScaledDotScorer(), rnn.Entmax15()))),
        Mechanism("scaled dot, TopK", **stands_in(pooling(rnn.ScaledDotScorer(), rnn.TopK(FOUND)))),
        Mechanism("scaled dot, HardRetrieval", **layer_of(pooling(rnn.ScaledDotScorer(), rnn.HardRetrieval()))),
        Mechanism("HSTUAttention", **layer_of(rnn.HSTUAttention(DIM, max_length=longest, **multi))),
        Mechanism("TargetStack", **layer_of(target_stack())),
        Mechanism("InterestEvolution", **layer_of(rnn.InterestEvolution(DIM, DIM, hidden_dim=DIM))),
        Mechanism("DotSearch", **stands_in(rnn.SearchedAttention(rnn.DotSearch(FOUND), exact))),
        Mechanism("SimHashSearch", **stands_in(by_code), keep=codes_kept),
        Mechanism(
            "CategorySearch",
            ask=lambda user: partial(categories, user),
            weights=lambda user: categories(user, need_weights=True).weights[0],
        ),
        Mechanism("BucketHashPooling", **{**summed_up(collisions), "weights": shares_of_counts}),
        Mechanism("ClusterPooling", **summed_up(rnn.ClusterPooling(num_clusters=FOUND))),
        Mechanism("SummaryPooling", **summed_up(rnn.SummaryPooling(DIM, num_tokens=64, num_recent=FOUND - 64))),
        Mechanism("LinearAttention, elu", **summed_up(as_is(rnn.LinearAttention(DIM, DIM, **one)))),
        Mechanism(
            "LinearAttention, FAVOR+",
            **summed_up(as_is(rnn.LinearAttention(DIM, DIM, feature_map="favor", num_features=256, **one))),
        ),
        Mechanism("LinformerAttention", **summed_up(linformer)),
    ]


def target_stack() -> nn.Module:
    return rnn.TargetStack(DIM, attention=rnn.MultiHeadAttention(DIM, DIM, num_heads=HEADS), num_layers=2)


def sequence_mechanisms(longest: int) -> list[Mechanism]:
    def itself(layer: nn.Module) -> dict[str, Callable[[User], Callable[[], object]]]:
        layer.eval()
        return {"ask": lambda user: partial(layer, user.events, user.events, need_weights=False)}

    def reformer(length: int, **more: object) -> nn.Module:
        torch.manual_seed(0)
        buckets = max(2, length // CHUNK // 2 * 2)
        return rnn.ReformerAttention(DIM, num_buckets=buckets, chunk_size=CHUNK, num_rounds=4, **more).eval()

    def ask_reformer(user: User, **more: object) -> Callable[[], object]:
        return partial(
            reformer(user.events.shape[1], num_heads=HEADS, **more), user.events, user.events, need_weights=False
        )

    def exact_shared(user: User) -> Tensor:
        """Exact attention of the same projections: queries are keys of length one, and nobody asks itself."""
        q = reformer(user.events.shape[1], num_heads=1).query_projection(user.events[0])
        scores = q @ F.normalize(q, dim=-1).mT / DIM**0.5
        return scores.masked_fill(torch.eye(len(q), dtype=torch.bool), -torch.inf).softmax(-1)

    several = {"num_heads": HEADS}
    return [
        Mechanism("MultiHeadAttention", **itself(rnn.MultiHeadAttention(DIM, DIM, **several))),
        Mechanism("MultiHeadAttention, causal", **itself(rnn.MultiHeadAttention(DIM, DIM, causal=True, **several))),
        Mechanism(
            "HSTUAttention, causal", **itself(rnn.HSTUAttention(DIM, max_length=longest, causal=True, **several))
        ),
        Mechanism("LinearAttention, elu, causal", **itself(rnn.LinearAttention(DIM, DIM, causal=True, **several))),
        Mechanism(
            "LinearAttention, FAVOR+, causal",
            **itself(rnn.LinearAttention(DIM, DIM, feature_map="favor", causal=True, **several)),
        ),
        Mechanism(
            "LinformerAttention",
            **itself(rnn.LinformerAttention(DIM, DIM, max_length=longest, num_slots=FOUND, **several)),
        ),
        Mechanism(
            "ReformerAttention",
            ask=ask_reformer,
            weights=lambda user: reformer(user.events.shape[1], num_heads=1)(user.events, user.events).weights[0, 0],
            exact=exact_shared,
        ),
        Mechanism("ReformerAttention, causal", ask=partial(ask_reformer, causal=True)),
    ]


def seconds(call: Callable[[], object], repeats: int) -> float:
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - begin) / repeats


def repeats_for(call: Callable[[], object], reading: float = 0.02) -> int:
    """How many calls make a reading long enough for the clock."""
    call()
    return max(1, round(reading / max(1e-6, seconds(call, 1))))


def peak_bytes(call: Callable[[], object]) -> int:
    """The most bytes that tensors made by the call took at any one time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def slope(times: dict[int, float]) -> float | None:
    """Least squares of log(time) against log(length), from 1,000 on; None for fewer than two lengths."""
    points = [(math.log(length), math.log(took)) for length, took in times.items() if length >= 1000]
    if len(points) < 2:
        return None
    (xs, ys), number = zip(*points, strict=True), len(points)
    x_mean, y_mean = sum(xs) / number, sum(ys) / number
    return sum((x - x_mean) * (y - y_mean) for x, y in points) / sum((x - x_mean) ** 2 for x in xs)


def recovered(mechanism: Mechanism, user: User) -> float:
    exact = (mechanism.exact or exact_weights)(user)
    weights = mechanism.weights(user).reshape(exact.shape)
    return float(rnn.recovered_mass(exact, weights.clamp(min=0)).mean())  # Linformer's may be negative


def expected(times: list[float]) -> float:
    """What the next length will take if it grows as it did last."""
    return times[-1] ** 2 / times[-2] if len(times) > 1 else 0.0


def measure(mechanisms: list[Mechanism], queries: int, options: argparse.Namespace) -> dict[str, dict[str, object]]:
    """All mechanisms at each length in turn, so that a slow spell of the host meets all of them."""
    rows = {m.name: {"seconds": {}, "kept_seconds": {}, "peak_bytes": {}, "mass": {}} for m in mechanisms}
    for length in options.lengths:
        user = draw_user(queries or 1, length, options.seed)
        calls = {}
        for mechanism in mechanisms:
            row = rows[mechanism.name]
            if expected(list(row["seconds"].values())) > options.longest_seconds:
                continue
            calls[mechanism.name, "seconds"] = mechanism.ask(user)
            if mechanism.keep is not None:
                calls[mechanism.name, "kept_seconds"] = mechanism.keep(user)
            if mechanism.weights is not None and queries != 1 and length <= (10_000 if queries else 1_000):
                row["mass"][length] = recovered(mechanism, user)
        repeats = {key: repeats_for(call) for key, call in calls.items()}
        readings = {key: [] for key in calls}
        for _ in range(options.rounds):
            for key, call in calls.items():
                readings[key].append(seconds(call, repeats[key]))
        for (name, kind), times in readings.items():
            rows[name][kind][length] = statistics.median(times)
            if kind == "seconds":
                rows[name]["peak_bytes"][length] = peak_bytes(calls[name, kind])
        print(f"{queries or 'sequence'} {length}", file=sys.stderr, flush=True)
    for row in rows.values():
        row["slope"] = slope(row["seconds"])
    return rows


def compare(first: Callable[[], object], second: Callable[[], object], rounds: int) -> dict[str, float]:
    """Both in turn: medians, and the median of second over first in the same round."""
    repeats = [repeats_for(call, 0.05) for call in (first, second)]
    times = [[seconds(call, n) for call, n in zip((first, second), repeats, strict=True)] for _ in range(rounds)]
    ones, others = zip(*times, strict=True)
    return {
        "first_ms": 1e3 * statistics.median(ones),
        "second_ms": 1e3 * statistics.median(others),
        "ratio": statistics.median(other / one for one, other in times),
    }


def claims(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """How many times as long as the first does the second take: pairs by their name."""
    user = draw_user(64, 1000, options.seed)
    network, scorer = pair_network(), rnn.AdditiveScorer(DIM, DIM, hidden_dim=DIM)
    with torch.no_grad():  # one mechanism in both forms, so that the results can be compared as well
        scorer.query_projection.weight.copy_(network[0].weight[:, :DIM])
        scorer.query_projection.bias.copy_(network[0].bias)
        scorer.key_projection.weight.copy_(network[0].weight[:, DIM:])
        scorer.direction.copy_(network[2].weight[0])
    factored = layer_of(pooling(scorer))["ask"](user)
    torch.testing.assert_close(factored().output[0], per_pair(network)(user)())
    found = {
        "additive, 64 x 1,000: a call per pair over factored": compare(
            factored, per_pair(network)(user), options.rounds
        )
    }
    exact = layer_of(pooling(rnn.ScaledDotScorer()))["ask"]
    for queries in QUERIES:
        for length in options.lengths:
            user = draw_user(queries, length, options.seed)
            name = f"scaled dot pooling over raw SDPA, {queries} x {length:,}"
            found[name] = compare(raw_sdpa(user), exact(user), options.rounds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest-seconds", type=float, default=10.0, help="leave out what would take longer")
    parser.add_argument("--output", type=Path, default=HERE / "attention.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    longest = max(options.lengths)
    with torch.inference_mode():
        result = {
            "what": "attention over histories of 100 to 100,000 events, vectors of 64, fp32",
            "command": f"python experiments/benchmarks/attention.py --rounds {options.rounds} "
            f"--threads {options.threads} --seed {options.seed}",
            "threads": options.threads,
            "processor": processor(),
            "versions": {"torch": torch.__version__},
            "claims": claims(options),
            "target": {str(queries): measure(target_mechanisms(longest), queries, options) for queries in QUERIES},
            "sequence": measure(sequence_mechanisms(longest), 0, options),
        }
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(result).savefig(options.output.with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
