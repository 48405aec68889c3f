"""Our attention layers beside the same layers of FuxiCTR, torch-rechub, entmax, linformer and reformer-pytorch.

All of them in one environment and one process, torch first (or several GB of GPU packages come along):

    python -m venv FOLDER && FOLDER/bin/pip install torch==2.13.0
    FOLDER/bin/pip install -r experiments/benchmarks/peers-requirements/attention.txt
    PYTHONPATH=. FOLDER/bin/python experiments/benchmarks/attention_peers.py

Both sides of a pair read the same tensors, have the same widths and no dropout, and run in turn: theirs, ours, theirs,
ours, ...; a time is the median. ``ratio`` is the median over the rounds of their time by ours in the same round: above
1 ours is faster. Forward is evaluation without gradients, as when serving; a step is forward and backward in training.
Where the peer has one query a row only, 64 candidates of one user are 64 rows with the history written out 64 times, as
its own models do it. Writes attention_peers.json beside this file.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import entmax
import fuxictr
import torch
from din_speed import processor
from fuxictr.pytorch.layers import DIN_Attention, MultiHeadTargetAttention, ScaledDotProductAttention
from linformer import LinformerSelfAttention
from reformer_pytorch import LSHSelfAttention
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch_rechub.basic.layers import HSTULayer
from torch_rechub.models.ranking import dien
from torch_rechub.models.ranking.din import ActivationUnit

import recattn.nn as rnn

# The models of FuxiCTR's zoo import each other by bare name.
sys.path.insert(0, str(Path(fuxictr.__file__).parents[1] / "model_zoo" / "LongCTR"))
from DIEN.DIEN import DynamicGRU
from ETA.ETA import ETA
from SDIM.SDIM import SDIM
from TWIN.TWIN import MultiHeadTopKAttention

HERE = Path(__file__).parent
DIM, HEADS = 64, 4
PACKAGES = ("torch", "entmax", "fuxictr", "linformer", "reformer-pytorch", "torch-rechub")


class Pair(NamedTuple):
    """One layer of ours and one of a peer, asked the same.

    leaves: the inputs that want gradients; empty where only forward is compared. modules: what has parameters.
    """

    layer: str
    peer: str
    setting: str
    ours: Callable[[], Tensor]
    theirs: Callable[[], Tensor]
    leaves: tuple[Tensor, ...]
    modules: tuple[nn.Module, ...] = ()


class Histories(NamedTuple):
    """Candidates (batch, queries, DIM), events (batch, length, DIM), and which events are real: a half at least."""

    candidates: Tensor
    events: Tensor
    mask: Tensor

    def written_out(self) -> "Histories":
        """A row for each candidate, for layers that take one query a row."""
        queries = self.candidates.shape[1]
        events, mask = (x.repeat_interleave(queries, 0) for x in (self.events, self.mask))
        return Histories(self.candidates.flatten(0, 1), events, mask)

    @property
    def leaves(self) -> tuple[Tensor, Tensor]:
        return self.candidates, self.events

    def __str__(self) -> str:
        batch, queries, _ = self.candidates.shape
        users, candidates = (f"{n} {word}{'s' * (n > 1)}" for n, word in ((batch, "user"), (queries, "candidate")))
        return f"{users}, {candidates}, {self.events.shape[1]:,} events"


def histories(batch: int, queries: int, length: int) -> Histories:
    lengths = torch.randint(length // 2, length + 1, (batch, 1))
    lengths[0] = length
    return Histories(
        torch.randn(batch, queries, DIM, requires_grad=True),
        torch.randn(batch, length, DIM, requires_grad=True),
        torch.arange(length) < lengths,
    )


def target_attention() -> Iterator[Pair]:
    """One candidate a row, as the peers have it, a long history, and many candidates of one user."""
    for given in (histories(256, 1, 50), histories(16, 1, 1000), histories(4, 64, 200)):
        yield from target_pairs(given)


def pair_on(
    given: Histories,
    layer: str,
    peer: str,
    ours: nn.Module,
    theirs: Callable[[Histories], Tensor],
    *more: nn.Module,
) -> Pair:
    """Our layer asked in the common way; writing the history out is part of what it costs them."""
    candidates, events, mask = given
    return Pair(
        layer,
        peer,
        str(given),
        lambda: ours(candidates, events, mask=mask, need_weights=False).output,
        lambda: theirs(given.written_out()),
        given.leaves,
        (ours, *more),
    )


def target_pairs(given: Histories) -> Iterator[Pair]:
    pair = partial(pair_on, given)

    def unit(activation: str) -> nn.Module:
        return rnn.AttentionPooling(
            rnn.ActivationUnitScorer(DIM, DIM, hidden_dims=(36,), activation=activation), rnn.Identity()
        )

    din = DIN_Attention(DIM, attention_units=[36], hidden_activations="Dice")
    yield pair("DIN's unit", "fuxictr DIN_Attention", unit("dice"), lambda rows: din(*rows), din)
    din_relu = DIN_Attention(DIM, attention_units=[36], hidden_activations="ReLU")
    yield pair(
        "DIN's unit, PReLU", "fuxictr DIN_Attention, ReLU", unit("prelu"), lambda rows: din_relu(*rows), din_relu
    )
    rechub = ActivationUnit(DIM, dims=[36], activation="dice")
    yield pair(
        "DIN's unit",
        "torch-rechub ActivationUnit",
        unit("dice"),
        lambda rows: rechub(rows.events, rows.candidates),
        rechub,
    )
    heads = MultiHeadTargetAttention(DIM, DIM, num_heads=HEADS)
    multi = rnn.MultiHeadAttention(DIM, DIM, num_heads=HEADS)
    yield pair("MultiHeadAttention", "fuxictr MultiHeadTargetAttention", multi, lambda rows: heads(*rows), heads)
    dot, product = rnn.AttentionPooling(rnn.ScaledDotScorer(), rnn.Softmax()), ScaledDotProductAttention()

    def scaled_dot(rows: Histories) -> Tensor:
        query, mask = rows.candidates.unsqueeze(1), rows.mask.unsqueeze(1)
        return product(query, rows.events, rows.events, scale=DIM**0.5, mask=mask)[0]

    yield pair("AttentionPooling, scaled dot", "fuxictr ScaledDotProductAttention", dot, scaled_dot)


def search() -> Iterator[Pair]:
    """Long histories, of which few events are found or whose buckets are summed."""
    for given in (histories(16, 1, 1000), histories(1, 64, 10_000)):
        yield from search_pairs(given)


def search_pairs(given: Histories) -> Iterator[Pair]:
    pair = partial(pair_on, given)
    attention = MultiHeadTargetAttention(DIM, DIM, num_heads=HEADS)
    eta = SimpleNamespace(reuse_hash=True, hash_bits=32)
    eta.lsh_hash = lambda vectors, rotations: ETA.lsh_hash(None, vectors, rotations)
    rotations = torch.randn(1, DIM, 32)

    def eta_attention(rows: Histories) -> Tensor:
        found, real = ETA.topk_retrieval(eta, rotations, *rows, topk=50)
        return attention(rows.candidates, found, real)

    searched = rnn.SearchedAttention(
        rnn.SimHashSearch(DIM, k=50, num_bits=32), rnn.MultiHeadAttention(DIM, DIM, num_heads=HEADS)
    )
    yield pair("SimHashSearch", "fuxictr ETA", searched, eta_attention, attention)
    twin = MultiHeadTopKAttention(DIM, attention_dim=DIM, topk=50, num_heads=1)
    best = rnn.SearchedAttention(rnn.DotSearch(50), rnn.MultiHeadAttention(DIM, DIM, num_heads=1))
    yield pair("DotSearch", "fuxictr TWIN MultiHeadTopKAttention", best, lambda rows: twin(*rows), twin)
    sdim = SimpleNamespace(
        reuse_hash=True, num_hashes=16, hash_bits=3, l2_norm=True, powers_of_two=2.0 ** torch.arange(3)
    )
    sdim.lsh_hash = lambda vectors, rotations: SDIM.lsh_hash(sdim, vectors, rotations)
    planes = torch.randn(1, DIM, 16, 3)

    def buckets(rows: Histories) -> Tensor:
        return SDIM.lsh_attentioin(sdim, planes, *rows)

    yield pair("BucketHashPooling", "fuxictr SDIM", rnn.BucketHashPooling(DIM, num_groups=16, num_bits=3), buckets)


def weightings() -> Iterator[Pair]:
    """Rows of scores without a mask, which entmax does not have."""
    for length in (100, 1000, 10_000):
        scores = torch.randn(256, length, requires_grad=True)
        for ours, theirs in ((rnn.Sparsemax(), entmax.sparsemax), (rnn.Entmax15(), entmax.entmax15)):
            yield Pair(
                type(ours).__name__,
                f"entmax {theirs.__name__}",
                f"256 rows of {length:,} scores",
                lambda ours=ours, scores=scores: ours(scores),
                lambda theirs=theirs, scores=scores: theirs(scores, dim=-1),
                (scores,),
            )


def recurrent() -> Iterator[Pair]:
    """AUGRU over interest states; attention weights are given to FuxiCTR's, computed by torch-rechub's."""
    given = histories(256, 1, 50)
    candidates, events, mask = given
    lengths = mask.sum(1)
    weights = torch.rand(mask.shape) * mask
    augru = rnn.AUGRU(DIM, DIM)
    dynamic = DynamicGRU(DIM, DIM)

    def packed() -> Tensor:
        rows, shares = (
            pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False) for x in (events, weights)
        )
        return dynamic(rows, shares)[1]

    mine = lambda: augru(events, weights, mask, need_states=False).last  # noqa: E731
    yield Pair("AUGRU", "fuxictr DynamicGRU", str(given), mine, packed, (events,), (augru, dynamic))
    evolution = rnn.InterestEvolution(DIM, DIM, hidden_dim=DIM)
    rechub = dien.AUGRU(DIM)
    yield Pair(
        "InterestEvolution",
        "torch-rechub AUGRU",
        str(given),
        lambda: evolution(candidates, events, mask=mask, need_weights=False).output,
        lambda: rechub(events, candidates.squeeze(1), mask)[1],
        given.leaves,
        (evolution, rechub),
    )


def sequences() -> Iterator[Pair]:
    """Self-attention."""
    for batch, length in ((32, 200), (4, 1000)):
        events = torch.randn(batch, length, DIM, requires_grad=True)
        setting = f"{batch} sequences of {length:,} events"
        norm = nn.LayerNorm(DIM)
        hstu = rnn.HSTUAttention(DIM, num_heads=HEADS, max_length=length, causal=True)
        position = rnn.RelativePositionBias(HEADS, length - 1)
        rechub = HSTULayer(DIM, HEADS, dqk=DIM // HEADS, dv=DIM // HEADS, dropout=0.0, max_seq_len=length)

        def our_hstu(
            events: Tensor = events, norm: nn.Module = norm, hstu: nn.Module = hstu, position: nn.Module = position
        ) -> Tensor:
            normed, distances = norm(events), rnn.sequence_distances(events.shape[1])
            return hstu(normed, normed, bias=position(distances), need_weights=False).output

        yield Pair(
            "HSTUAttention, RelativePositionBias",
            "torch-rechub HSTULayer",
            setting,
            our_hstu,
            lambda rechub=rechub, events=events: rechub(events),
            (events,),
            (hstu, position, norm, rechub),
        )
    for batch, length in ((8, 1024), (2, 4096)):
        events = torch.randn(batch, length, DIM, requires_grad=True)
        setting = f"{batch} sequences of {length:,} events"
        linformer = LinformerSelfAttention(DIM, length, k=64, heads=HEADS)
        slots = rnn.LinformerAttention(DIM, DIM, num_heads=HEADS, max_length=length, num_slots=64, share="headwise")
        yield Pair(
            "LinformerAttention",
            "linformer LinformerSelfAttention",
            setting,
            lambda slots=slots, events=events: slots(events, events, need_weights=False).output,
            lambda linformer=linformer, events=events: linformer(events),
            (events,),
            (linformer, slots),
        )
        for causal in (False, True):
            lsh = LSHSelfAttention(DIM, heads=HEADS, bucket_size=64, n_hashes=4, causal=causal)
            reformer = rnn.ReformerAttention(
                DIM, num_heads=HEADS, num_buckets=length // 64, chunk_size=64, num_rounds=4, causal=causal
            )
            yield Pair(
                "ReformerAttention" + ", causal" * causal,
                "reformer-pytorch LSHSelfAttention",
                setting,
                lambda reformer=reformer, events=events: reformer(events, events, need_weights=False).output,
                lambda lsh=lsh, events=events: lsh(events),
                (events,),
                (lsh, reformer),
            )


def forward(call: Callable[[], Tensor], _: Pair) -> None:
    with torch.inference_mode():
        call()


def step(call: Callable[[], Tensor], pair: Pair) -> None:
    call().sum().backward()
    for tensor in (*pair.leaves, *(p for module in pair.modules for p in module.parameters())):
        tensor.grad = None


def seconds(
    run: Callable[[Callable[[], Tensor], Pair], None], call: Callable[[], Tensor], pair: Pair, repeats: int
) -> float:
    begin = time.perf_counter()
    for _ in range(repeats):
        run(call, pair)
    return (time.perf_counter() - begin) / repeats


def measure(pair: Pair, rounds: int) -> dict[str, object]:
    row: dict[str, object] = {"layer": pair.layer, "peer": pair.peer, "setting": pair.setting}
    for name, run in (("forward", forward), ("step", step)):
        for module in pair.modules:
            module.train(name == "step")
        for call in (pair.theirs, pair.ours):
            run(call, pair)
        repeats = max(1, int(0.05 / max(1e-6, seconds(run, pair.ours, pair, 2))))  # so that a reading is 50 ms at least
        times = [[seconds(run, call, pair, repeats) for call in (pair.theirs, pair.ours)] for _ in range(rounds)]
        theirs, ours = (statistics.median(side) for side in zip(*times, strict=True))
        ratio = statistics.median(their / our for their, our in times)
        row[name] = {"theirs_ms": 1e3 * theirs, "ours_ms": 1e3 * ours, "ratio": ratio}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="measure only pairs whose names contain this, and write nothing")
    parser.add_argument("--output", type=Path, default=HERE / "attention_peers.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    rows = []
    for family in (target_attention, search, weightings, recurrent, sequences):
        for pair in family():
            if options.only not in f"{pair.layer}, {pair.peer}":
                continue
            rows.append(measure(pair, options.rounds))
            ratios = ", ".join(f"{name} {rows[-1][name]['ratio']:.2f}" for name in ("forward", "step"))
            print(f"{pair.layer}, {pair.peer}, {pair.setting}: {ratios}", file=sys.stderr, flush=True)
    result = {
        "what": "layers of recattn.nn beside the same layers of its peers",
        "command": f"PYTHONPATH=. python experiments/benchmarks/attention_peers.py --rounds {options.rounds} "
        f"--threads {options.threads} --seed {options.seed}",
        "threads": options.threads,
        "processor": processor(),
        "versions": {name: version(name) for name in PACKAGES},
        "rows": rows,
    }
    if not options.only:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
