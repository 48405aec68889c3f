"""What every ranker exported by recattn.models keeps to (DESIGN.md, section 2).

Models are collected from ``recattn.models.__all__``: classes that are rankers, and preset functions that return one.
One that has no recipe in MODELS below fails `test_every_exported_model_is_known`: add its recipe there, and all
contracts run over it.
"""

import copy
import inspect
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

import recattn.models as rmodels
from recattn.batch import History, RankingBatch
from recattn.errors import ConfigError
from recattn.models import Ranker, build, describe, ranker
from recattn.models.item_embedding import ItemEmbedding
from recattn.models.transitions import TransitionHead
from recattn.nn import (
    ActivationUnitScorer,
    AdditiveScorer,
    AttentionPooling,
    BilinearScorer,
    HardRetrieval,
    Identity,
    LinearAttention,
    LinformerAttention,
    MultiHeadAttention,
    ReformerAttention,
    RotaryPosition,
    Softmax,
    TopK,
)

BATCH, CANDIDATES, LENGTH, NUM_ITEMS, POSITIONS, EXTRA = 5, 11, 7, 23, 3, 4
LENGTHS = (7, 2, 0, 4, 1)
DIM = 14
EVERYTHING = {"rating_levels": (1, 2, 3.5, 5), "profile_sizes": (5, 3), "use_times": True, "transitions": 3}
CONTEXT_SIZES = (4, 3)
EXACT = {"atol": 1e-10, "rtol": 1e-9}


@dataclass(frozen=True)
class Case:
    """How to build one model. exact_train: its rows are computed alone in training too (no batch statistics)."""

    name: str
    build: Callable[[], Ranker]
    exact_train: bool = True


def target_attention(**more: object) -> Callable[[], Ranker]:
    return lambda: rmodels.TargetAttention(NUM_ITEMS, dim=DIM, **more)


def din(**more: object) -> Callable[[], Ranker]:
    return lambda: rmodels.DIN(NUM_ITEMS, dim=DIM, **more)


def slate_decoder(**more: object) -> Callable[[], Ranker]:
    return lambda: rmodels.SlateDecoder(NUM_ITEMS, dim=12, hidden_dim=13, **more)


def searching(**more: object) -> Ranker:
    """SIM by categories, with the items' categories."""
    model = rmodels.SIM(NUM_ITEMS, dim=DIM, form="hard", feature_sizes=(3,), **more)
    for table in {model.content, model.matching}:
        codes = torch.arange(NUM_ITEMS + 1)[:, None] % 3
        codes[0] = 0
        table.items.set_features(codes, torch.ones(NUM_ITEMS + 1, dtype=torch.bool))
    return model


def ranker_cases(preset: Callable[..., Ranker], *, separate: bool = True, **more: object) -> list[Case]:
    """A preset of TargetRanker as it comes, and with all that it may read."""
    everything = {"rating_levels": (1, 2, 3.5, 5), "profile_sizes": (5, 3), "use_times": True, "time_aware": True}
    everything["context_sizes"] = CONTEXT_SIZES
    small = {"readout_dims": (13,)}
    return [
        Case("defaults", lambda: preset(NUM_ITEMS, dim=DIM, **small | more), exact_train="dice" not in more.values()),
        Case(
            "everything",
            lambda: preset(
                NUM_ITEMS,
                dim=DIM,
                **small | everything | {"max_length": 5, "short_length": 2, "separate_tables": separate} | more,
            ),
            exact_train="dice" not in more.values(),
        ),
    ]


MODELS: dict[str, list[Case]] = {
    "BST": ranker_cases(rmodels.BST, separate=False, num_layers=2),
    "DIEN": ranker_cases(rmodels.DIEN, readout_activation="dice"),
    "ETA": [
        *ranker_cases(rmodels.ETA, k=3, num_bits=8),
        *(
            replace(case, name=f"tokens-{case.name}")
            for case in ranker_cases(rmodels.ETA, k=3, profile_in_readout=False)
        ),
    ],
    "MeanPooling": [
        Case("defaults", lambda: rmodels.MeanPooling(NUM_ITEMS, dim=DIM, readout_dims=(13,)), exact_train=False),
        Case(
            "relu",
            lambda: rmodels.MeanPooling(
                NUM_ITEMS,
                dim=DIM,
                readout_dims=(13,),
                readout_activation="relu",
                rating_levels=(1, 2, 3.5, 5),
                context_sizes=CONTEXT_SIZES,
            ),
        ),
    ],
    "SDIM": ranker_cases(rmodels.SDIM, num_groups=4, num_bits=2),
    "SIM": [
        *ranker_cases(rmodels.SIM, k=3),
        Case("hard", lambda: searching(k=2, readout_dims=(13,))),
        Case(
            "hard-everything",
            lambda: searching(
                k=2,
                readout_dims=(13,),
                profile_sizes=(5, 3),
                separate_tables=True,
                use_times=True,
                short_length=2,
            ),
        ),
    ],
    "STCA": ranker_cases(rmodels.STCA),
    "TWIN": ranker_cases(rmodels.TWIN, k=3, num_heads=2),
    "TargetRanker": [
        *ranker_cases(rmodels.TargetRanker, profile_in_readout=False),
        Case(
            "din-unit",
            lambda: rmodels.TargetRanker(
                NUM_ITEMS,
                dim=DIM,
                attention_layer=AttentionPooling(ActivationUnitScorer(DIM, DIM, hidden_dims=(5,)), Identity()),
                readout_dims=(13, 5),
                readout_activation="dice",
            ),
            exact_train=False,
        ),
    ],
    "BERT4Rec": [
        Case("defaults", lambda: rmodels.BERT4Rec(NUM_ITEMS, dim=DIM)),
        Case(
            "linformer",
            lambda: rmodels.BERT4Rec(
                NUM_ITEMS,
                dim=DIM,
                max_length=LENGTH,
                attention_layer=LinformerAttention(DIM, DIM, num_heads=2, max_length=LENGTH + 1, num_slots=3),
            ),
        ),
        Case(
            "linear",
            lambda: rmodels.BERT4Rec(NUM_ITEMS, dim=DIM, attention_layer=LinearAttention(DIM, DIM, num_heads=2)),
        ),
        Case(
            "short-reader",
            lambda: rmodels.BERT4Rec(
                NUM_ITEMS, dim=DIM, hidden_dim=9, num_layers=1, max_length=3, norm="pre", feed_forward="swiglu"
            ),
        ),
    ],
    "HSTU": [
        Case("defaults", lambda: rmodels.HSTU(NUM_ITEMS, dim=DIM)),
        Case("blind", lambda: rmodels.HSTU(NUM_ITEMS, dim=DIM, times="none", num_heads=2, max_length=3)),
        Case(
            "everything",
            lambda: rmodels.HSTU(
                NUM_ITEMS, dim=DIM, embed_times=True, rating_levels=(1, 2, 3.5, 5), profile_sizes=(5, 3), max_length=5
            ),
        ),
    ],
    "NARM": [
        Case("defaults", lambda: rmodels.NARM(NUM_ITEMS, dim=DIM)),
        Case("short-reader", lambda: rmodels.NARM(NUM_ITEMS, dim=DIM, hidden_dim=9, max_length=3)),
    ],
    "SASRec": [
        Case("defaults", lambda: rmodels.SASRec(NUM_ITEMS, dim=DIM)),
        Case("two-tables", lambda: rmodels.SASRec(NUM_ITEMS, dim=DIM, separate_tables=True)),
        Case("cosine", lambda: rmodels.SASRec(NUM_ITEMS, dim=DIM, temperature=0.1, relative_positions=True)),
        Case("intervals", lambda: rmodels.SASRec(NUM_ITEMS, dim=DIM, times="events", interval_bias=True)),
        Case(
            "request",
            lambda: rmodels.SASRec(
                NUM_ITEMS,
                dim=DIM,
                times="request",
                interval_bias=True,
                rating_levels=(1, 2, 3.5, 5),
                profile_sizes=(5, 3),
                max_length=4,
            ),
        ),
        Case(
            "linear",
            lambda: rmodels.SASRec(
                NUM_ITEMS, dim=DIM, attention_layer=LinearAttention(DIM, DIM, num_heads=2, causal=True)
            ),
        ),
        Case(
            "reformer",
            lambda: rmodels.SASRec(
                NUM_ITEMS,
                dim=DIM,
                attention_layer=ReformerAttention(DIM, num_heads=2, num_buckets=2, chunk_size=2, causal=True),
            ),
        ),
        Case("ligr", lambda: rmodels.SASRec(NUM_ITEMS, dim=DIM, feed_forward="swiglu", gated=True, max_length=3)),
        Case(
            "rotary",
            lambda: rmodels.SASRec(
                NUM_ITEMS,
                dim=DIM,
                attention_layer=MultiHeadAttention(
                    DIM, DIM, num_heads=2, key_dim=6, causal=True, rotary=RotaryPosition(6)
                ),
                learned_positions=False,
                norm="post",
            ),
        ),
    ],
    "SlateDecoder": [
        Case("defaults", slate_decoder()),
        Case("short-reader", slate_decoder(num_layers=2, norm="post", gated=True, max_length=3)),
    ],
    "TargetAttention": [
        Case("defaults", target_attention()),
        Case("plain", target_attention(recency=False, use_times=False, transitions=0, separate_tables=False)),
        Case("short-reader", target_attention(max_length=3, weighting=Softmax(temperature=0.7), **EVERYTHING)),
        Case("time-aware", target_attention(time_aware=True, **EVERYTHING)),
        Case("embedded-ratings", target_attention(embed_ratings=True, **EVERYTHING)),
        Case(
            "mlp",
            target_attention(
                max_length=5, time_aware=True, readout_dims=(13,), context_sizes=CONTEXT_SIZES, **EVERYTHING
            ),
        ),
        Case("mlp-dice", target_attention(readout_dims=(13,), readout_activation="dice"), exact_train=False),
        Case("additive-topk", target_attention(scorer=AdditiveScorer(7, 7, hidden_dim=5), weighting=TopK(2))),
        Case("bilinear-gate", target_attention(num_heads=1, scorer=BilinearScorer(14, 14), weighting=Identity())),
        Case("hard", target_attention(weighting=HardRetrieval(), max_length=5)),
    ],
    "DIN": [
        Case("paper", din(readout_dims=(13, 5)), exact_train=False),
        Case("code", din(form="code", readout_dims=(13, 5))),
        Case("separate-tables", din(separate_tables=True, readout_dims=(13, 5)), exact_train=False),
        Case(
            "everything",
            din(max_length=5, recency=True, context_sizes=CONTEXT_SIZES, **EVERYTHING),
            exact_train=False,
        ),
    ],
}


def exported_models() -> set[str]:
    names = set()
    for name in rmodels.__all__:
        thing = getattr(rmodels, name)
        made = inspect.signature(thing).return_annotation if inspect.isfunction(thing) else thing
        if inspect.isclass(made) and issubclass(made, Ranker) and not inspect.isabstract(made):
            names.add(name)
    return names


CASES = list(itertools.chain(*MODELS.values()))
every_model = pytest.mark.parametrize(
    "case", CASES, ids=[f"{name}-{case.name}" for name, cases in MODELS.items() for case in cases]
)
both_modes = pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(case: Case, dtype: torch.dtype = torch.float64, *, train: bool = False) -> Ranker:
    """The model, counted transitions and all, with no parameter left at 0 and without dropout."""
    torch.manual_seed(0)
    model = case.build().to(dtype).train(train)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    for part in model.modules():
        if is_table(part):
            nn.init.zeros_(part.weight[0])
        if isinstance(part, TransitionHead):
            pairs = torch.randint(1, NUM_ITEMS + 1, (97, 2)) @ torch.tensor([NUM_ITEMS + 1, 1])
            pairs = pairs.unique()
            part.set_counts(pairs, torch.rand(len(pairs), dtype=torch.float64) + 1.5)
        for name in ("dropout", "state_dropout", "id_dropout"):
            if isinstance(getattr(part, name, None), float):
                setattr(part, name, 0.0)
    return model


def is_table(part: nn.Module) -> bool:
    """Whether its row 0 stands for padding."""
    return isinstance(part, ItemEmbedding) or (isinstance(part, nn.Embedding) and part.padding_idx is not None)


def history_of(lengths: tuple[int, ...] = LENGTHS) -> History:
    generator = torch.Generator().manual_seed(1)
    batch = len(lengths)
    mask = torch.arange(LENGTH) < torch.tensor(lengths)[:, None]
    gaps = torch.randint(0, 10**6, (batch, LENGTH), generator=generator)
    return History(
        items=torch.randint(1, NUM_ITEMS + 1, (batch, LENGTH), generator=generator) * mask,
        lengths=torch.tensor(lengths),
        times=(1_700_000_000 + gaps.cumsum(1)) * mask,
        ratings=torch.randint(1, 6, (batch, LENGTH), generator=generator).float() * mask,
        profile=torch.randint(0, 3, (batch, 2), generator=generator),
    )


def batch_of(history: History, *, visible: bool = False, told: bool = True) -> RankingBatch:
    """Candidates, among them padding (nonsense in its context), the last event and that after what is visible."""
    generator = torch.Generator().manual_seed(2)
    batch = len(history.items)
    candidates = torch.randint(1, NUM_ITEMS + 1, (batch, CANDIDATES), generator=generator)
    candidates[:, 0] = history.items.gather(1, (history.lengths[:, None] - 1).clamp(min=0))[:, 0]
    seen = (torch.rand(batch, CANDIDATES, generator=generator) * (history.lengths[:, None] + 1)).long()
    after = history.items.gather(1, seen.clamp(max=history.items.shape[1] - 1))
    candidates[:, 1:4] = after[:, 1:4] * (seen < history.lengths[:, None])[:, 1:4]
    moments = 1_710_000_000 + torch.randint(0, 10**6, (batch, CANDIDATES), generator=generator)
    context = torch.stack([torch.randint(0, n, candidates.shape, generator=generator) for n in CONTEXT_SIZES], -1)
    context[candidates == 0] = 10**6
    batch = RankingBatch(history, candidates, context=context)
    return batch._replace(visible=seen if visible else None, request_time=moments if told else None)


class Outcome(NamedTuple):
    logits: Tensor
    more: dict[str, Tensor]


def outcome(model: Ranker, batch: RankingBatch) -> Outcome:
    """Logits of the real candidates, all gradients and all buffers after one forward and backward pass."""
    model = copy.deepcopy(model)
    for part in model.modules():
        if isinstance(part, nn.RNNBase):  # torch warns where a copy on a GPU has its weights apart
            part.flatten_parameters()
    logits = model(batch).masked_fill(batch.candidates == 0, 0.0)
    slopes = torch.randn(logits.shape, generator=torch.Generator().manual_seed(3), dtype=logits.dtype)
    (logits * slopes.to(logits.device)).sum().backward()
    gradients = {f"grad {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return Outcome(logits.detach(), gradients | {f"buffer {name}": b for name, b in model.named_buffers()})


def assert_same(left: Outcome, right: Outcome) -> None:
    torch.testing.assert_close(right.logits, left.logits, **EXACT)
    assert left.more.keys() == right.more.keys()
    for name, expected in left.more.items():
        torch.testing.assert_close(right.more[name], expected, **EXACT, msg=lambda m, name=name: f"{name}: {m}")


def widen(history: History) -> History:
    """EXTRA more columns of padding, and nonsense in all of the padding."""
    mask = torch.cat([history.mask, torch.zeros(len(history.items), EXTRA, dtype=torch.bool)], 1)

    def pad(values: Tensor, garbage: Tensor) -> Tensor:
        wider = torch.cat([values, values.new_zeros(len(values), EXTRA)], 1)
        return torch.where(mask, wider, garbage.to(values.dtype))

    generator = torch.Generator().manual_seed(4)
    return history._replace(
        items=pad(history.items, torch.randint(1, NUM_ITEMS + 1, mask.shape, generator=generator)),
        times=pad(history.times, torch.randint(0, 2 * 10**9, mask.shape, generator=generator)),
        ratings=pad(history.ratings, torch.rand(mask.shape, generator=generator) * 90 - 40),
    )


def test_every_exported_model_is_known():
    assert exported_models() == MODELS.keys()
    assert all(MODELS.values())


@every_model
def test_shapes(case):
    model, batch = make(case), batch_of(history_of())
    assert model(batch).shape == (BATCH, CANDIDATES)
    positions = torch.zeros(BATCH, POSITIONS, dtype=torch.int64)
    assert model.at_positions(batch.history, positions, torch.arange(1, 14)).shape == (BATCH, POSITIONS, 13)
    assert model.score_all(batch.history).shape == (BATCH, NUM_ITEMS + 1)
    assert model.contributions(batch).shape == (BATCH, CANDIDATES, LENGTH)
    for layer in model.attention(batch):
        assert layer.shape[0] == BATCH
        assert layer.shape[-2] == CANDIDATES
        assert layer.shape[-1] >= LENGTH


@every_model
@both_modes
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("shared", ["catalogue", "some"])
def test_at_positions_equals_forward_with_visible(case, train, told, shared):
    if train and not case.exact_train:
        return
    model, history = make(case, train=train), history_of()
    catalogue = torch.arange(1, NUM_ITEMS + 1)
    candidates = catalogue if shared == "catalogue" else catalogue[torch.randperm(NUM_ITEMS)]
    positions = torch.tensor([[1, 4, 7], [0, 1, 2], [0, 0, 0], [3, 1, 2], [1, 0, 1]])
    if train:
        positions = torch.minimum(positions, (history.lengths[:, None] - 1).clamp(min=0))
    moments = 1_710_000_000 + 1000 * positions if told else None
    found = model.at_positions(history, positions, candidates, moments)
    for column in range(POSITIONS):
        visible = positions[:, column, None].expand(-1, NUM_ITEMS)
        moment = None if moments is None else moments[:, column, None].expand(-1, NUM_ITEMS)
        rows = candidates.expand(BATCH, -1)
        expected = model(RankingBatch(history, rows, visible=visible, request_time=moment))
        torch.testing.assert_close(found[:, column], expected, **EXACT)


@every_model
@pytest.mark.parametrize("told", [True, False])
def test_score_all_equals_forward_over_the_catalogue(case, told, monkeypatch):
    model, history = make(case), history_of()
    moment = history.times.amax(1) + 12345 if told else None
    catalogue = torch.arange(1, NUM_ITEMS + 1).expand(BATCH, -1)
    expected = model(
        RankingBatch(history, catalogue, request_time=None if moment is None else moment[:, None].expand(-1, NUM_ITEMS))
    )
    scores = model.score_all(history, moment)
    assert scores.dtype == torch.float32
    assert (scores[:, 0] == -torch.inf).all()
    torch.testing.assert_close(scores[:, 1:], expected.float())
    monkeypatch.setattr(ranker, "CATALOGUE_ELEMENTS", 5 * BATCH * LENGTH)
    torch.testing.assert_close(model.score_all(history, moment), scores)


@every_model
@pytest.mark.parametrize("told", [True, False])
def test_score_candidates_picks_from_score_all_in_pieces_or_at_once(case, told, monkeypatch):
    model, history = make(case), history_of()
    candidates = batch_of(history).candidates
    moment = history.times.amax(1) + 12345 if told else None
    expected = model.score_all(history, moment).gather(1, candidates)
    assert bool((candidates == 0).any())
    for pairs in (ranker.CATALOGUE_ELEMENTS, 2 * CANDIDATES * LENGTH, 3 * LENGTH):
        monkeypatch.setattr(ranker, "CATALOGUE_ELEMENTS", pairs * model.pair_width)
        scores = model.score_candidates(history, candidates, moment)
        assert scores.dtype == torch.float32
        torch.testing.assert_close(scores, expected)
    everything = torch.cat([candidates, torch.arange(1, NUM_ITEMS + 1).expand(BATCH, -1)], 1)
    assert torch.equal(
        model.score_candidates(history, everything, moment), model.score_all(history, moment).gather(1, everything)
    )


@every_model
@both_modes
@pytest.mark.parametrize("visible", [True, False], ids=["visible", "whole"])
def test_padding_and_what_stands_in_it_change_nothing(case, train, visible):
    model, batch = make(case, train=train), batch_of(history_of(), visible=visible)
    padded = batch._replace(history=widen(batch.history))
    assert_same(outcome(model, batch), outcome(model, padded))
    if not train:
        torch.testing.assert_close(model.score_all(padded.history), model.score_all(batch.history))
        torch.testing.assert_close(model.contributions(padded)[..., :LENGTH], model.contributions(batch), **EXACT)


@every_model
@both_modes
def test_padding_candidates_change_nothing(case, train):
    model, batch = make(case, train=train), batch_of(history_of(), visible=True)
    names = ("candidates", "visible", "request_time", "context")
    columns = {name: getattr(batch, name) for name in names}
    padded = batch._replace(
        **{name: torch.cat([x, x.new_zeros(BATCH, EXTRA, *x.shape[2:])], 1) for name, x in columns.items()}
    )
    plain, wide = outcome(model, batch), outcome(model, padded)
    torch.testing.assert_close(wide.logits[:, :CANDIDATES], plain.logits, **EXACT)
    for name in plain.more:
        if name.startswith("buffer"):
            torch.testing.assert_close(wide.more[name], plain.more[name], **EXACT)


@every_model
@both_modes
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_empty_histories_give_finite_logits_and_gradients(case, train, dtype):
    for lengths in ((7, 0, 4, 1, 0), (0, 0, 0, 0, 0)):
        model, history = make(case, dtype, train=train), history_of(lengths)
        found = outcome(model, batch_of(history))
        assert found.logits.isfinite().all()
        for name, tensor in found.more.items():
            assert tensor.isfinite().all(), (name, lengths)
        model.zero_grad()
        positions = (history.lengths[:, None] - torch.tensor([0, 1, 2])).clamp(min=0)
        logits = model.at_positions(history, positions, torch.arange(1, NUM_ITEMS + 1))
        logits.float().square().sum().backward()
        assert logits.isfinite().all()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        assert model.contributions(batch_of(history)).isfinite().all()


@every_model
def test_products_in_bf16_change_no_more_than_rounding_does(case):
    model = make(case, torch.float32, train=True)
    batch = batch_of(history_of(), visible=True)
    exact = outcome(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = outcome(model, batch)
    assert rounded.logits.dtype == torch.float32
    assert (rounded.logits - exact.logits).abs().max() < 0.1 * exact.logits.abs().max()
    assert rounded.more.keys() == exact.more.keys()
    assert all(tensor.isfinite().all() for tensor in rounded.more.values())
    history = batch.history
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.at_positions(history, history.lengths[:, None], torch.arange(1, NUM_ITEMS + 1))
    logits.square().sum().backward()  # outside, as training does it
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@every_model
def test_events_older_than_max_length_change_nothing(case):
    model = make(case)
    model.max_length = 3
    history = history_of()
    old = torch.arange(LENGTH) < history.lengths[:, None] - 3
    assert old.sum() == 5
    changed = history._replace(
        items=torch.where(old, history.items % NUM_ITEMS + 1, history.items),
        times=torch.where(old, history.times - 777, history.times),
        ratings=torch.where(old, 6 - history.ratings, history.ratings),
    )
    left, right = batch_of(history), batch_of(history)._replace(history=changed)
    torch.testing.assert_close(model(right), model(left), **EXACT)
    torch.testing.assert_close(model.score_all(changed), model.score_all(history))
    assert (model.contributions(left)[old[:, None].expand(-1, CANDIDATES, -1)] == 0).all()


@every_model
def test_the_last_events_do_count(case):
    """Guards the tests above: the model does read what it may read."""
    model, batch = make(case), batch_of(history_of())
    items = batch.history.items.clone()
    items[0] = items[0] % NUM_ITEMS + 1
    changed = batch._replace(history=batch.history._replace(items=items))
    assert not torch.allclose(model(changed)[0], model(batch)[0])


@every_model
def test_the_future_does_not_leak(case):
    model, history = make(case), history_of()
    batch = batch_of(history, visible=True)
    positions = batch.visible[:, :POSITIONS]
    for told in (True, False):
        moments = batch.request_time if told else None
        plain = model(batch._replace(request_time=moments))
        for column in range(CANDIDATES):
            future = torch.arange(LENGTH) >= batch.visible[:, column, None]
            changed = history._replace(
                items=torch.where(future & history.mask, history.items % NUM_ITEMS + 1, history.items),
                times=torch.where(future & history.mask, history.times + 10**7, history.times),
                ratings=torch.where(future & history.mask, 6 - history.ratings, history.ratings),
            )
            found = model(batch._replace(history=changed, request_time=moments))
            torch.testing.assert_close(found[:, column], plain[:, column], **EXACT)
            if column < POSITIONS:
                moment = None if moments is None else moments[:, :POSITIONS]
                left, right = (
                    model.at_positions(some, positions, torch.arange(1, 14), moment) for some in (history, changed)
                )
                torch.testing.assert_close(right[:, column], left[:, column], **EXACT)


@every_model
def test_batch_of_one_equals_row_of_many(case):
    model = make(case)
    for visible in (True, False):
        batch = batch_of(history_of(), visible=visible)
        many = model(batch)
        for row in range(BATCH):
            alone = RankingBatch(
                History(*(x[row : row + 1] for x in batch.history)),
                *(x if x is None else x[row : row + 1] for x in batch[1:]),
            )
            torch.testing.assert_close(model(alone)[0], many[row], **EXACT)


@every_model
def test_candidates_do_not_influence_each_other(case):
    model, batch = make(case), batch_of(history_of(), visible=True)
    together = model(batch)
    order = torch.randperm(CANDIDATES)[:5]
    some = batch._replace(
        candidates=batch.candidates[:, order],
        visible=batch.visible[:, order],
        request_time=batch.request_time[:, order],
        context=batch.context[:, order],
    )
    torch.testing.assert_close(model(some), together[:, order], **EXACT)


@every_model
def test_the_padding_row_stays_zero_and_gets_no_gradient(case):
    model, batch = make(case, torch.float32, train=True), batch_of(history_of())
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    tables = [part for part in model.modules() if is_table(part)]
    assert tables
    for _ in range(2):
        optimiser.zero_grad()
        positions = (batch.history.lengths[:, None] - 1).clamp(min=0)
        logits = model.at_positions(batch.history, positions, torch.arange(1, NUM_ITEMS + 1))
        (model(batch).square().sum() + logits.square().sum()).backward()
        for table in tables:
            assert (table.weight.grad[0] == 0).all()
        optimiser.step()
    for table in tables:
        assert (table.weight[0] == 0).all()
        assert (table.weight[1:] != 0).all()


@every_model
def test_plain_data_rebuilds_the_model(case):
    """What an artefact holds, JSON and safetensors, is all there is to a model."""
    model, batch = make(case), batch_of(history_of())
    specification = json.loads(json.dumps(describe(model)))
    state = load(save({name: tensor.clone() for name, tensor in model.state_dict().items()}))
    torch.manual_seed(5)
    twin = build(specification).double().eval()
    assert describe(twin) == describe(model)
    assert repr(twin) == repr(model)
    twin.load_state_dict(state)
    torch.testing.assert_close(twin(batch), model(batch), atol=0, rtol=0)
    torch.testing.assert_close(twin.score_all(batch.history), model.score_all(batch.history), atol=0, rtol=0)


@every_model
def test_evaluation_is_deterministic(case):
    torch.manual_seed(0)
    model, batch = case.build().eval(), batch_of(history_of())  # with its dropout
    assert torch.equal(model(batch), model(batch))
    assert torch.equal(model.score_all(batch.history), model.score_all(batch.history))


ASKED = {
    "contributions": lambda model, batch: model.contributions(batch),
    "score_all": lambda model, batch: model.score_all(batch.history, batch.request_time[:, 0]),
    "at_positions": lambda model, batch: model.at_positions(
        batch.history,
        batch.history.lengths[:, None],
        torch.arange(1, 14, device=batch.candidates.device),
        batch.request_time[:, :1],
    ),
}


def on_gpu(some: NamedTuple) -> NamedTuple:
    return some._replace(
        **{
            name: on_gpu(part) if isinstance(part, tuple) else part.cuda()
            for name, part in some._asdict().items()
            if part is not None
        }
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compares a GPU with the CPU")
@every_model
@both_modes
@pytest.mark.parametrize("visible", [True, False], ids=["visible", "whole"])
def test_a_gpu_comes_to_what_the_cpu_does(case, train, visible):
    model, batch = make(case, train=train), batch_of(history_of(), visible=visible)
    twin, moved = copy.deepcopy(model).cuda(), on_gpu(batch)
    expected, found = outcome(model, batch), outcome(twin, moved)
    assert_same(expected, Outcome(found.logits.cpu(), {name: value.cpu() for name, value in found.more.items()}))
    for name, ask in ASKED.items():
        answer = ask(twin, moved)
        assert answer.device.type == "cuda", name
        torch.testing.assert_close(answer.cpu(), ask(model, batch), **EXACT, msg=lambda m, name=name: f"{name}: {m}")


@every_model
def test_seeded_construction_repeats(case):
    torch.manual_seed(4)
    left = case.build().state_dict()
    torch.manual_seed(4)
    right = case.build().state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(tensor, right[name]) for name, tensor in left.items())


@every_model
def test_contributions_are_zero_where_nothing_was_seen(case):
    model = make(case)
    for visible in (True, False):
        batch = batch_of(history_of(), visible=visible)
        seen = batch.history.lengths[:, None] if batch.visible is None else batch.visible
        hidden = (torch.arange(LENGTH) >= seen[..., None]).expand(BATCH, CANDIDATES, LENGTH)
        found = model.contributions(batch)
        assert (found[hidden] == 0).all()
        assert (found[~hidden] != 0).any()
        assert not found.requires_grad or found.grad_fn is not None


@every_model
def test_the_request_time_is_read_by_time_aware_models_alone(case):
    model, batch = make(case), batch_of(history_of())
    later = batch._replace(request_time=batch.request_time + 10**8)
    changed = not torch.allclose(model(later), model(batch))
    assert changed == model.time_aware
    moment = batch.request_time[:, 0]
    positions = batch.history.lengths[:, None]
    plain, moved = (
        model.at_positions(batch.history, positions, torch.arange(1, 14), now[:, None])
        for now in (moment, moment + 10**8)
    )
    assert torch.allclose(plain, moved) != model.time_aware
    scores, other = model.score_all(batch.history, moment), model.score_all(batch.history, moment + 10**8)
    assert torch.equal(scores, other) != model.time_aware


@every_model
def test_what_the_data_lacks_is_done_without(case):
    model, history = make(case), history_of()
    batch = batch_of(history._replace(times=None, ratings=None, profile=None), told=False)
    assert model(batch).isfinite().all()
    assert model.score_all(batch.history)[:, 1:].isfinite().all()


def reads_context(model: Ranker) -> bool:
    return bool(getattr(model, "context_sizes", ()))


@every_model
@pytest.mark.parametrize("visible", [True, False], ids=["visible", "whole"])
def test_context_is_read_by_models_made_for_it_and_speaks_of_its_own_candidate_alone(case, visible):
    model, batch = make(case), batch_of(history_of(), visible=visible)
    plain, brought = model(batch), model.contributions(batch)
    assert brought.isfinite().all()
    assert torch.allclose(model.contributions(batch._replace(context=None)), brought) != reads_context(model)
    real, apart = batch.candidates != 0, torch.zeros(CANDIDATES, dtype=torch.bool)
    apart[[2, 7]] = True
    other = (batch.context + 1) % torch.tensor(CONTEXT_SIZES)
    found = model(batch._replace(context=torch.where(apart[:, None], other, batch.context)))
    torch.testing.assert_close(found[:, ~apart], plain[:, ~apart], **EXACT)
    moved = (found - plain)[:, apart][real[:, apart]].abs() > 1e-9
    assert moved.all() if reads_context(model) else not moved.any()
    order = torch.randperm(CANDIDATES)[:5]
    names = ("candidates", "request_time", "context", *(("visible",) if visible else ()))
    some = batch._replace(**{name: getattr(batch, name)[:, order] for name in names})
    torch.testing.assert_close(model.contributions(some)[real[:, order]], brought[:, order][real[:, order]], **EXACT)


@every_model
@both_modes
def test_context_beside_padding_changes_nothing_and_none_is_unknown(case, train):
    model, batch = make(case, train=train), batch_of(history_of(), visible=True)
    clean = batch.context * (batch.candidates != 0)[..., None]
    assert_same(outcome(model, batch), outcome(model, batch._replace(context=clean)))
    unknown = batch._replace(context=torch.zeros_like(clean))
    assert_same(outcome(model, unknown), outcome(model, batch._replace(context=None)))


@every_model
def test_context_of_another_width_is_refused(case):
    model, batch = make(case), batch_of(history_of())
    narrow = batch._replace(context=batch.context[..., :1])
    if reads_context(model):
        with pytest.raises(ConfigError, match="the context has 1 columns, the model was made for 2"):
            model(narrow)
    else:
        model(narrow)
