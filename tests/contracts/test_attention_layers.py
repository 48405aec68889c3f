"""What every attention layer exported by recattn.nn keeps to (DESIGN.md, section 2).

Layers are collected from ``recattn.nn.__all__``. One that has no recipe in LAYERS below fails
`test_every_exported_module_is_known`: add its recipe there, and all contracts run over it.
"""

import copy
import inspect
import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, get_args, get_type_hints

import pytest
import torch
from torch import Tensor, nn

import recattn.nn as rnn
from recattn.errors import ConfigError

BATCH, QUERIES, LENGTH, DIM, VALUE_DIM = 3, 5, 7, 11, 13
LENGTHS = (7, 2, 4)
EXACT = {"atol": 1e-10, "rtol": 1e-9}


@dataclass(frozen=True)
class Case:
    """How to build one layer, and what it takes and gives.

    num_heads: None where the weights have no heads axis. order_matters: permuting the events is no mere permutation.
    on_itself: query and keys are one sequence, in one tensor. causal: position i does not see what comes after it.
    own_masks, takes_bias: a mask for each query, a bias; False: the layer must refuse it with a ConfigError.
    weighs_values: output = weights @ values, without projections.
    random: training draws noise for each (query, event), so no two training passes agree.
    leaves_out: some events get no weight whatever their bias, as it is not what chose them.
    exports, compiles: False where torch.export or torch.compile cannot follow; the class docstring must then say so.
    options: further keyword arguments of forward, made for keys (batch, length, dim).
    """

    name: str
    build: Callable[[], nn.Module]
    output_dim: int
    query_dim: int = DIM
    key_dim: int = DIM
    value_dim: int = VALUE_DIM
    num_heads: int | None = None
    order_matters: bool = False
    on_itself: bool = False
    causal: bool = False
    own_masks: bool = True
    takes_bias: bool = True
    weighs_values: bool = False
    random: bool = False
    leaves_out: bool = False
    exports: bool = True
    compiles: bool = True
    options: Callable[[Tensor], dict[str, Tensor]] = lambda keys: {}


SCORERS: dict[type[nn.Module], list[Callable[[], nn.Module]]] = {
    rnn.AdditiveScorer: [
        lambda: rnn.AdditiveScorer(DIM, 29, hidden_dim=17),
        lambda: rnn.AdditiveScorer(DIM, 29, hidden_dim=17, activation="sigmoid"),
    ],
    rnn.BilinearScorer: [lambda: rnn.BilinearScorer(DIM, 29)],
    rnn.ConstantScorer: [rnn.ConstantScorer],
    rnn.DotScorer: [rnn.DotScorer],
    rnn.ScaledDotScorer: [rnn.ScaledDotScorer],
    rnn.ActivationUnitScorer: [
        lambda: rnn.ActivationUnitScorer(DIM, DIM, hidden_dims=(19, 17), activation="dice"),
        lambda: rnn.ActivationUnitScorer(DIM, DIM, hidden_dims=(19,), activation="prelu"),
    ],
}
WEIGHTINGS: dict[type[nn.Module], list[Callable[[], nn.Module]]] = {
    rnn.Softmax: [lambda: rnn.Softmax(temperature=0.7)],
    rnn.Sigmoid: [rnn.Sigmoid],
    rnn.Identity: [rnn.Identity, lambda: rnn.Identity(scale="sqrt_length")],
    rnn.Sparsemax: [lambda: rnn.Sparsemax(temperature=1.3)],
    rnn.Entmax15: [rnn.Entmax15],
    rnn.HardRetrieval: [
        lambda: rnn.HardRetrieval(temperature=0.5),
        lambda: rnn.HardRetrieval(k=3),
        lambda: rnn.HardRetrieval(k=2, gradient="gumbel"),
    ],
    rnn.TopK: [lambda: rnn.TopK(3)],
}

SEARCHES: dict[type[nn.Module], Callable[[int], nn.Module]] = {
    rnn.CategorySearch: rnn.CategorySearch,
    rnn.DotSearch: rnn.DotSearch,
    rnn.SimHashSearch: lambda k: rnn.SimHashSearch(DIM, num_bits=512, k=k),
}
"""From k to the search."""


def pooling_cases() -> Iterator[Case]:
    makers = itertools.product(itertools.chain(*SCORERS.values()), itertools.chain(*WEIGHTINGS.values()))
    for index, (scorer, weighting) in enumerate(makers):
        key_dim = getattr(scorer(), "key_dim", DIM)
        name = f"AttentionPooling-{type(scorer()).__name__}-{type(weighting()).__name__}-{index}"
        build = lambda s=scorer, w=weighting: rnn.AttentionPooling(s(), w())  # noqa: E731
        random = getattr(weighting(), "gradient", "") == "gumbel"
        # Of equal scores the first events are retrieved.
        ties = isinstance(scorer(), rnn.ConstantScorer) and isinstance(weighting(), rnn.HardRetrieval | rnn.TopK)
        yield Case(
            name,
            build,
            output_dim=VALUE_DIM,
            key_dim=key_dim,
            weighs_values=True,
            random=random,
            order_matters=ties,
        )


def free_widths(**more: object) -> nn.Module:
    return rnn.MultiHeadAttention(
        DIM, 29, num_heads=2, key_dim=19, value_dim=23, value_source_dim=VALUE_DIM, output_dim=17, **more
    )


def places(keys: Tensor) -> dict[str, Tensor]:
    """Keys at 0, 1, 2, ... and queries after the last one of LENGTH, however long the padding is."""
    return {
        "query_positions": torch.arange(LENGTH, LENGTH + QUERIES)[None],
        "key_positions": torch.arange(keys.shape[1])[None],
    }


def own_places(keys: Tensor) -> dict[str, Tensor]:
    return dict.fromkeys(("query_positions", "key_positions"), torch.arange(keys.shape[1])[None])


def free_hstu(**more: object) -> nn.Module:
    return rnn.HSTUAttention(
        DIM, 29, num_heads=2, max_length=10, key_dim=19, value_dim=23, value_source_dim=VALUE_DIM, **more
    )


def linformer(share: str, **more: object) -> Case:
    """As many rows as the longest history here has events: tests that pad it pad beyond max_length."""
    widths = {"key_dim": 19, "value_dim": 23, "value_source_dim": VALUE_DIM, "output_dim": 17}
    return Case(
        "-".join(["LinformerAttention", share, *more]),
        lambda: rnn.LinformerAttention(
            DIM, 29, num_heads=2, max_length=LENGTH, num_slots=3, share=share, **widths, **more
        ),
        output_dim=17,
        key_dim=29,
        num_heads=2,
        order_matters=True,
        own_masks=False,
        takes_bias=False,
    )


def linear(feature_map: str, **more: object) -> Case:
    widths = {"key_dim": 5, "value_dim": 23, "value_source_dim": VALUE_DIM, "output_dim": 17}
    return Case(
        "-".join(["LinearAttention", feature_map, *more]),
        lambda: rnn.LinearAttention(DIM, 29, num_heads=2, feature_map=feature_map, **widths, **more),
        output_dim=17,
        key_dim=29,
        num_heads=2,
        own_masks=False,
        takes_bias=False,
    )


def reformer(*, num_buckets: int, chunk_size: int, **more: object) -> Case:
    """Chunks of a few events each: the contracts hold across their edges."""
    return Case(
        "-".join(["ReformerAttention", *more]),
        lambda: rnn.ReformerAttention(22, num_heads=2, num_buckets=num_buckets, chunk_size=chunk_size, **more),
        **SELF,
        on_itself=True,
        causal=bool(more.get("causal", False)),
        order_matters=True,
        own_masks=False,
        takes_bias=False,
    )


def causal_linear(feature_map: str) -> Case:
    return Case(
        f"LinearAttention-{feature_map}-causal",
        lambda: rnn.LinearAttention(22, 22, num_heads=2, feature_map=feature_map, causal=True, bias=True),
        **SELF,
        on_itself=True,
        causal=True,
        order_matters=True,
        own_masks=False,
        takes_bias=False,
    )


def searched(name: str, search: Callable[[], nn.Module], **more: object) -> Case:
    return Case(
        f"SearchedAttention-{name}",
        lambda: rnn.SearchedAttention(search(), rnn.AttentionPooling(rnn.ScaledDotScorer(), rnn.Softmax())),
        output_dim=VALUE_DIM,
        weighs_values=True,
        **more,
    )


def summed_up(name: str, build: Callable[[], nn.Module], **more: object) -> Case:
    """A layer that sums a history up before it is asked, without heads and projections."""
    return Case(name, build, output_dim=VALUE_DIM, **{"weighs_values": True, **more}, own_masks=False, takes_bias=False)


def given_clusters(keys: Tensor) -> dict[str, Tensor]:
    return {"clusters": (torch.arange(keys.shape[1]) % 3).expand(keys.shape[:2])}


WITH_HEADS = {"key_dim": 29, "num_heads": 2, "weighs_values": False}


def evolution(form: str) -> Case:
    return Case(
        f"InterestEvolution-{form}",
        lambda: rnn.InterestEvolution(DIM, 29, hidden_dim=17, value_dim=VALUE_DIM, form=form),
        output_dim=17,
        key_dim=29,
        order_matters=True,
    )


def stack(name: str, attention: Callable[[], nn.Module], num_heads: int | None = None, **more: object) -> Case:
    return Case(
        f"TargetStack-{name}",
        lambda: rnn.TargetStack(DIM, attention=attention(), **more),
        output_dim=DIM,
        key_dim=more.get("source_dim", DIM),
        value_dim=more.get("source_dim", DIM),
        num_heads=num_heads,
    )


HSTU = Case("HSTUAttention-target", free_hstu, output_dim=DIM, key_dim=29, num_heads=2)
MULTIHEAD = Case("MultiHeadAttention-free", free_widths, output_dim=17, key_dim=29, num_heads=2)
SELF = {"query_dim": 22, "key_dim": 22, "value_dim": 22, "output_dim": 22, "num_heads": 2}
"""Self-attention of width 22 with two heads."""
LAYERS: dict[type[nn.Module], list[Case]] = {
    rnn.AttentionPooling: list(pooling_cases()),
    rnn.BucketHashPooling: [
        summed_up("BucketHashPooling", lambda: rnn.BucketHashPooling(DIM, num_groups=3, num_bits=2)),
        summed_up(
            "BucketHashPooling-sums",
            lambda: rnn.BucketHashPooling(DIM, num_groups=5, num_bits=1, normalize=False),
        ),
    ],
    rnn.ClusterPooling: [
        summed_up("ClusterPooling", lambda: rnn.ClusterPooling(num_clusters=3), order_matters=True),
        summed_up("ClusterPooling-exact", lambda: rnn.ClusterPooling(num_clusters=7)),
        summed_up(
            "ClusterPooling-given",
            lambda: rnn.ClusterPooling(num_clusters=3),
            order_matters=True,
            options=given_clusters,
        ),
        replace(
            summed_up(
                "ClusterPooling-heads",
                lambda: rnn.ClusterPooling(free_widths(bias=True), num_clusters=2, num_steps=1),
                **WITH_HEADS,
                order_matters=True,
            ),
            output_dim=17,
        ),
    ],
    rnn.HSTUAttention: [
        HSTU,
        replace(HSTU, name="HSTUAttention-concat", build=lambda: free_hstu(concat_ua=True, scale=0.5)),
        Case(
            "HSTUAttention-causal",
            lambda: rnn.HSTUAttention(22, num_heads=2, max_length=10, causal=True),
            **SELF,
            on_itself=True,
            causal=True,
            order_matters=True,
        ),
        Case(
            "HSTUAttention-causal-concat",
            lambda: rnn.HSTUAttention(22, num_heads=2, max_length=10, key_dim=6, causal=True, concat_ua=True),
            **SELF,
            on_itself=True,
            causal=True,
            order_matters=True,
        ),
    ],
    rnn.InterestEvolution: [evolution("augru"), evolution("agru"), evolution("aigru")],
    rnn.LinearAttention: [
        linear("elu"),
        linear("elu", bias=True),
        linear("favor", num_features=7),
        causal_linear("elu"),
        causal_linear("favor"),
    ],
    rnn.LinformerAttention: [
        linformer("none"),
        linformer("none", bias=True),
        linformer("headwise"),
        linformer("headwise", bias=True),
        linformer("key_value", bias=True),
    ],
    rnn.ReformerAttention: [
        reformer(num_buckets=4, chunk_size=2, bias=True),
        reformer(num_buckets=2, chunk_size=3, num_rounds=3),
        reformer(num_buckets=2, chunk_size=2, causal=True, bias=True),
    ],
    rnn.MultiHeadAttention: [
        MULTIHEAD,
        replace(MULTIHEAD, name="MultiHeadAttention-bias", build=lambda: free_widths(bias=True)),
        Case(
            "MultiHeadAttention-defaults",
            lambda: rnn.MultiHeadAttention(22, VALUE_DIM, num_heads=2),
            output_dim=22,
            query_dim=22,
            key_dim=VALUE_DIM,
            num_heads=2,
        ),
        replace(
            MULTIHEAD,
            name="MultiHeadAttention-rotary",
            build=lambda: rnn.MultiHeadAttention(
                DIM,
                29,
                num_heads=2,
                key_dim=4,
                value_dim=7,
                value_source_dim=VALUE_DIM,
                output_dim=17,
                rotary=rnn.RotaryPosition(4),
            ),
            order_matters=True,
            options=places,
        ),
        Case(
            "MultiHeadAttention-causal",
            lambda: rnn.MultiHeadAttention(22, 22, num_heads=2, causal=True, bias=True),
            **SELF,
            on_itself=True,
            causal=True,
            order_matters=True,
        ),
        Case(
            "MultiHeadAttention-causal-rotary",
            lambda: rnn.MultiHeadAttention(22, 22, num_heads=2, key_dim=6, causal=True, rotary=rnn.RotaryPosition(6)),
            **SELF,
            on_itself=True,
            causal=True,
            order_matters=True,
            options=own_places,
        ),
    ],
    rnn.SearchedAttention: [
        searched("dot", lambda: rnn.DotSearch(3)),
        searched("hash", lambda: rnn.SimHashSearch(DIM, num_bits=512, k=3), leaves_out=True),
        Case(
            "SearchedAttention-projected",
            lambda: rnn.SearchedAttention(rnn.DotSearch(3, rnn.DotScorer()), free_widths(), projected=True),
            output_dim=17,
            key_dim=29,
            num_heads=2,
        ),
        searched("everything", lambda: rnn.SimHashSearch(DIM, num_bits=8, k=7)),
        Case(
            "SearchedAttention-heads",
            lambda: rnn.SearchedAttention(rnn.DotSearch(2, rnn.BilinearScorer(DIM, 29)), free_widths(bias=True)),
            output_dim=17,
            key_dim=29,
            num_heads=2,
        ),
    ],
    rnn.TargetStack: [
        stack(
            "free",
            lambda: rnn.MultiHeadAttention(DIM, 29, num_heads=2, key_dim=19, value_dim=23, bias=True),
            num_heads=2,
            num_layers=2,
            source_dim=29,
        ),
        stack(
            "post",
            lambda: rnn.AttentionPooling(rnn.BilinearScorer(DIM, DIM), rnn.Sigmoid()),
            num_layers=3,
            hidden_dim=17,
            feed_forward="gelu",
            norm="post",
            gated=True,
        ),
    ],
    rnn.SummaryPooling: [
        summed_up("SummaryPooling", lambda: rnn.SummaryPooling(DIM, num_tokens=3)),
        summed_up(
            "SummaryPooling-recent", lambda: rnn.SummaryPooling(DIM, num_tokens=2, num_recent=3), order_matters=True
        ),
        replace(
            summed_up(
                "SummaryPooling-heads", lambda: rnn.SummaryPooling(29, free_widths(), num_tokens=5), **WITH_HEADS
            ),
            output_dim=17,
        ),
    ],
}
OTHERS: dict[type[nn.Module], Callable[[], nn.Module]] = {
    rnn.AUGRU: lambda: rnn.AUGRU(3, 5, form="aigru"),
    rnn.AlibiBias: lambda: rnn.AlibiBias(3),
    rnn.DecayBias: lambda: rnn.DecayBias(3, unit=3600.0),
    rnn.Decoder: lambda: rnn.Decoder(
        22,
        self_attention=rnn.MultiHeadAttention(22, 22, num_heads=2, causal=True),
        cross_attention=rnn.MultiHeadAttention(22, 13, num_heads=2),
        num_layers=2,
        norm="post",
    ),
    rnn.Dice: lambda: rnn.Dice(3),
    rnn.Encoder: lambda: rnn.Encoder(
        22, attention=rnn.MultiHeadAttention(22, 22, num_heads=2, causal=True), num_layers=2, gated=True
    ),
    rnn.FeedForward: lambda: rnn.FeedForward(3, activation="swiglu", dropout=0.2),
    rnn.InterestExtractor: lambda: rnn.InterestExtractor(3, 5),
    rnn.LearnedPosition: lambda: rnn.LearnedPosition(7, 3, from_end=False),
    rnn.MLP: lambda: rnn.MLP(3, (7, 5), 2, activation="dice"),
    rnn.RecencyBias: lambda: rnn.RecencyBias(num_heads=3),
    rnn.RelativePositionBias: lambda: rnn.RelativePositionBias(3, 5, bidirectional=True),
    rnn.Residual: lambda: rnn.Residual(3, norm="post", gated=True),
    rnn.ReversibleEncoder: lambda: rnn.ReversibleEncoder(
        22, attention=rnn.MultiHeadAttention(22, 22, num_heads=2, causal=True), num_layers=2, feed_forward="gelu"
    ),
    rnn.RotaryPosition: lambda: rnn.RotaryPosition(4, unit=3600.0),
    rnn.T5Bias: lambda: rnn.T5Bias(3, num_buckets=8, max_distance=50, bidirectional=True),
    rnn.TimeBias: lambda: rnn.TimeBias(num_heads=3),
}
"""Exported modules that are neither layer, scorer, search nor weighting."""

CASES = list(itertools.chain(*LAYERS.values()))
every_layer = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
both_modes = pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])


def representative(case: Case) -> bool:
    """Each scorer and each weighting once, and every other layer: for the checks that take seconds."""
    return "AttentionPooling" not in case.name or "ScaledDot" in case.name or "-Softmax" in case.name


some_layers = pytest.mark.parametrize("case", [c for c in CASES if representative(c)], ids=lambda case: case.name)


class Inputs(NamedTuple):
    query: Tensor
    keys: Tensor
    values: Tensor
    mask: Tensor


def ask(case: Case, layer: nn.Module, inputs: Inputs, **options: object) -> rnn.Attended:
    """The layer's answer. A layer on itself gets one tensor as query and keys; padded positions ask nothing."""
    query, keys, values, mask = inputs
    options = {**{name: option.to(keys.device) for name, option in case.options(keys).items()}, **options}
    if not case.on_itself:
        return layer(query, keys, values, mask, **options)
    output, weights = layer(keys, keys, values, mask, **options)
    asking = mask if mask.dim() == 2 else torch.ones(keys.shape[:2], dtype=torch.bool, device=keys.device)
    output = output * asking[..., None]
    if weights is not None:
        weights = weights * asking.view(len(asking), *[1] * (weights.dim() - 3), -1, 1)
    return rnn.Attended(output, weights)


def modules_with_arguments(*names: str) -> set[type[nn.Module]]:
    exported = [getattr(rnn, name) for name in rnn.__all__]
    modules = [thing for thing in exported if inspect.isclass(thing) and issubclass(thing, nn.Module)]
    return {m for m in modules if tuple(inspect.signature(m.forward).parameters)[1 : len(names) + 1] == names}


def build(case: Case, dtype: torch.dtype = torch.float64, *, train: bool = False, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layer = case.build().to(dtype).train(train)
    with torch.no_grad():
        for parameter in layer.parameters():  # biases, alphas and the like away from their zeros
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return layer


def inputs_for(case: Case, dtype: torch.dtype = torch.float64, lengths: tuple[int, ...] = LENGTHS) -> Inputs:
    generator = torch.Generator().manual_seed(1)
    shapes = ((BATCH, QUERIES, case.query_dim), (BATCH, LENGTH, case.key_dim), (BATCH, LENGTH, case.value_dim))
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    return Inputs(*tensors, mask=torch.arange(LENGTH) < torch.tensor(lengths)[:, None])


def queries_of(case: Case) -> int:
    return LENGTH if case.on_itself else QUERIES


def outcome(case: Case, layer: nn.Module, inputs: Inputs, **options: object) -> dict[str, Tensor]:
    """Output, weights, every gradient and every buffer after one forward and backward pass."""
    layer = copy.deepcopy(layer)
    leaves = [x.clone().requires_grad_() for x in inputs[:3]]
    output, weights = ask(case, layer, Inputs(*leaves, inputs.mask), **options)
    loss = (output.float() if output.dtype != torch.float64 else output).square().sum()
    if weights is not None:
        loss = loss + weights.to(loss.dtype).square().sum()
    loss.backward()
    found = {"output": output.detach()} | ({} if weights is None else {"weights": weights.detach()})
    found |= {
        f"grad {name}": torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        for name, leaf in zip(("query", "keys", "values"), leaves, strict=True)
    }
    found |= {f"grad {name}": p.grad for name, p in layer.named_parameters() if p.grad is not None}
    return found | {f"buffer {name}": buffer for name, buffer in layer.named_buffers()}


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, expected in left.items():
        torch.testing.assert_close(right[name], expected, **EXACT, msg=lambda m, name=name: f"{name}: {m}")


def test_every_exported_module_is_known():
    assert modules_with_arguments("query", "keys", "values", "mask") == LAYERS.keys()
    compared = modules_with_arguments("query", "keys", "mask")
    searches = {m for m in compared if inspect.signature(m.forward).return_annotation is rnn.Found}
    assert searches == SEARCHES.keys()
    assert compared - searches == SCORERS.keys()
    assert modules_with_arguments("scores", "mask") == WEIGHTINGS.keys()
    known = LAYERS.keys() | SCORERS.keys() | SEARCHES.keys() | WEIGHTINGS.keys() | OTHERS.keys()
    assert modules_with_arguments() == known
    assert all(cases for cases in (*LAYERS.values(), *SCORERS.values(), *WEIGHTINGS.values()))


def protocols_in(hint: object) -> set[object]:
    found = {hint} if getattr(hint, "_is_protocol", False) else set()
    return found.union(*map(protocols_in, get_args(hint)))


def test_a_configuration_file_can_name_what_constructors_take():
    """A reader of such files builds what is annotated as a module; what a protocol asks for it cannot know."""
    modules = [getattr(rnn, name) for name in rnn.__all__]
    for module in modules:
        if inspect.isclass(module) and issubclass(module, nn.Module):
            for argument, hint in get_type_hints(module.__init__).items():
                assert not protocols_in(hint), f"{module.__name__}: {argument}"


@pytest.mark.parametrize("layer", list(LAYERS), ids=lambda layer: layer.__name__)
def test_signature_is_the_contract(layer):
    parameters = list(inspect.signature(layer.forward).parameters.values())[1:]
    required = [("query", inspect.Parameter.empty), ("keys", inspect.Parameter.empty)]
    optional = [("values", None), ("mask", None), ("bias", None), ("need_weights", True)]
    assert [(p.name, p.default) for p in parameters][:6] == required + optional
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[4:])


@every_layer
def test_shapes(case):
    layer, inputs = build(case), inputs_for(case)
    heads = () if case.num_heads is None else (case.num_heads,)
    output, weights = ask(case, layer, inputs)
    assert output.shape == (BATCH, queries_of(case), case.output_dim)
    assert weights.shape == (BATCH, *heads, queries_of(case), LENGTH)
    assert ask(case, layer, inputs, need_weights=False).weights is None
    assert isinstance(ask(case, layer, inputs), rnn.Attended)


@every_layer
def test_one_query_a_row(case):
    layer, (query, keys, values, mask) = build(case), inputs_for(case)
    options = case.options(keys)
    if "query_positions" in options:
        options["query_positions"] = options["query_positions"][:, 2:3]
    if case.causal and not getattr(layer, "sequence_only", False):
        pytest.skip("it comes last: see below")
    if case.on_itself:
        with pytest.raises(ConfigError, match="sequence"):
            layer(keys[:, 2], keys, values, mask, **options)
        return
    heads = () if case.num_heads is None else (case.num_heads,)
    single_output, single_weights = layer(query[:, 2], keys, values, mask, **options)
    assert single_output.shape == (BATCH, case.output_dim)
    assert single_weights.shape == (BATCH, *heads, 1, LENGTH)
    many = layer(query, keys, values, mask, **case.options(keys))
    torch.testing.assert_close(single_output, many.output[:, 2], **EXACT)


@every_layer
@both_modes
def test_garbage_padding_changes_nothing(case, train):
    if case.random and train:
        pytest.skip("its noise is drawn anew for each pair")
    layer, inputs = build(case, train=train), inputs_for(case)
    plain = outcome(case, layer, inputs)
    extra = 6
    keys, values = (torch.cat([x, x.flip(1)[:, :extra]], 1) for x in inputs[1:3])
    mask = torch.cat([inputs.mask, torch.zeros(BATCH, extra, dtype=torch.bool)], 1)
    keys, values = (x + ~mask.unsqueeze(-1) * 97.0 for x in (keys, values))
    padded = outcome(case, layer, Inputs(inputs.query, keys, values, mask))
    assert (padded["weights"][..., LENGTH:] == 0).all()
    padded["weights"] = padded["weights"][..., : queries_of(case), :LENGTH]
    padded["output"] = padded["output"][:, : queries_of(case)]
    for name in ("grad keys", "grad values"):
        assert (padded[name][:, LENGTH:] == 0).all()
        padded[name] = padded[name][:, :LENGTH]
    assert_same(plain, padded)


@every_layer
@both_modes
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_empty_history_gives_zeros_and_finite_gradients(case, train, dtype):
    layer = build(case, dtype, train=train)
    for lengths in ((7, 0, 4), (0, 0, 0), (1, 0, 0)):
        for need_weights in (True, False):
            inputs = inputs_for(case, dtype, lengths)
            found = outcome(case, layer, inputs, need_weights=need_weights)
            empty = torch.tensor(lengths) == 0
            asked = inputs.keys if case.on_itself else inputs.query
            untouched = layer(asked, *inputs[1:], **case.options(inputs.keys), need_weights=need_weights)
            assert (untouched.output[empty] == 0).all()
            assert not need_weights or (untouched.weights[empty] == 0).all()
            assert found["output"].dtype == dtype
            for name, tensor in found.items():
                assert tensor.isfinite().all(), (name, lengths, need_weights)


@every_layer
def test_history_of_length_zero(case):
    query, keys, values, mask = inputs_for(case)
    nothing = Inputs(query, keys[:, :0], values[:, :0], mask[:, :0])
    for train in (False, True):
        layer = build(case, train=train)
        for need_weights in (True, False):
            output, weights = ask(case, layer, nothing, need_weights=need_weights)
            asked = 0 if case.on_itself else QUERIES
            assert output.shape == (BATCH, asked, case.output_dim)
            assert (output == 0).all()
            assert not need_weights or weights.shape[-2:] == (asked, 0)


@every_layer
def test_weights_do_not_leak_to_masked_events(case):
    layer, inputs = build(case), inputs_for(case)
    weights = ask(case, layer, inputs).weights
    masked = ~inputs.mask.view(BATCH, *[1] * (weights.dim() - 2), LENGTH).expand_as(weights)
    assert (weights[masked] == 0).all()
    assert layer.weights_kind in ("probability", "gate", "count")
    if layer.weights_kind == "probability":
        assert (weights >= 0).all()
        total = weights.sum(-1)
        if case.on_itself:
            total = total[inputs.mask.view(BATCH, *[1] * (weights.dim() - 3), LENGTH).expand_as(total)]
        torch.testing.assert_close(total, torch.ones_like(total), **EXACT)


@every_layer
def test_output_is_the_weighed_values(case):
    if not case.weighs_values:
        pytest.skip("it projects the values")
    layer, inputs = build(case), inputs_for(case)
    output, weights = ask(case, layer, inputs)
    torch.testing.assert_close(output, weights @ inputs.values, **EXACT)


@every_layer
def test_batch_of_one_equals_row_of_many(case):
    layer, inputs = build(case), inputs_for(case)
    many = ask(case, layer, inputs)
    for row in range(BATCH):
        one = ask(case, layer, Inputs(*(x[row : row + 1] for x in inputs)))
        torch.testing.assert_close(one.output[0], many.output[row], **EXACT)
        torch.testing.assert_close(one.weights[0], many.weights[row], **EXACT)


@every_layer
def test_permuting_the_history_permutes_the_weights(case):
    layer, inputs = build(case), inputs_for(case)
    inputs = inputs._replace(mask=torch.ones_like(inputs.mask))
    order = torch.tensor([6, 2, 0, 5, 3, 1, 4])
    plain = ask(case, layer, inputs)
    permuted = ask(case, layer, Inputs(inputs.query, *(x[:, order] for x in inputs[1:])))
    expected, weights = plain.output, plain.weights[..., order]
    if case.on_itself:
        expected, weights = expected[:, order], weights[..., order, :]
    if case.order_matters:
        assert not torch.allclose(permuted.output, expected, atol=1e-6)
        return
    torch.testing.assert_close(permuted.output, expected, **EXACT)
    torch.testing.assert_close(permuted.weights, weights, **EXACT)


@every_layer
@both_modes
def test_the_future_is_not_seen(case, train):
    if not case.causal:
        pytest.skip("it may look ahead")
    layer, inputs = build(case, train=train), inputs_for(case, lengths=(7, 7, 7))
    for first in range(1, LENGTH):
        later = torch.arange(LENGTH)[:, None] >= first
        changed = inputs._replace(keys=inputs.keys + 5.0 * later, values=inputs.values - 3.0 * later)
        for need_weights in (True, False):
            before = ask(case, layer, inputs, need_weights=need_weights).output[:, :first]
            after = ask(case, layer, changed, need_weights=need_weights).output[:, :first]
            torch.testing.assert_close(after, before, **EXACT)
    assert (ask(case, layer, inputs).weights.triu(1) == 0).all()


@every_layer
def test_a_single_query_of_a_causal_layer_comes_last(case):
    """It sees every real event, as the last place of the sequence does."""
    if not case.causal or getattr(case.build(), "sequence_only", False):
        pytest.skip("not causal, or for whole sequences alone")
    layer, inputs = build(case), inputs_for(case, lengths=(7, 3, 1))
    for length, row in zip((7, 3, 1), range(3), strict=True):
        query, keys, values, mask = (part[row : row + 1] for part in inputs)
        query = keys[:, length - 1]
        options = case.options(keys)
        if "query_positions" in options:
            options["query_positions"] = options["key_positions"][:, length - 1 : length]
        whole = ask(case, layer, Inputs(keys, keys, values, mask))
        for need_weights in (True, False):
            alone = layer(query, keys, values, mask, need_weights=need_weights, **options)
            torch.testing.assert_close(alone.output, whole.output[:, length - 1], **EXACT)


@every_layer
def test_masks_for_each_query_equal_separate_calls(case):
    layer, (query, keys, values, mask) = build(case), inputs_for(case)
    visible = torch.tensor([0, 1, 7, 3, 5, 6, 2])[: queries_of(case)]
    own = mask[:, None] & (torch.arange(LENGTH) < visible[:, None])
    assert getattr(layer, "summarises", False) != case.own_masks
    if not case.own_masks:
        with pytest.raises(ConfigError, match="mask"):
            ask(case, layer, Inputs(query, keys, values, own))
        return
    together = ask(case, layer, Inputs(query, keys, values, own))
    unweighted = ask(case, layer, Inputs(query, keys, values, own), need_weights=False)
    torch.testing.assert_close(unweighted.output, together.output, **EXACT)
    for i in range(queries_of(case)):
        alone = layer(keys if case.on_itself else query, keys, values, own[:, i], **case.options(keys))
        torch.testing.assert_close(together.output[:, i], alone.output[:, i], **EXACT)
        torch.testing.assert_close(together.weights[..., i, :], alone.weights[..., i, :], **EXACT)


@every_layer
@both_modes
def test_output_is_the_same_without_weights(case, train):
    if case.random and train:
        pytest.skip("its noise is drawn anew for each pass")
    layer, inputs = build(case, train=train), inputs_for(case)
    bias = torch.randn(BATCH, queries_of(case), LENGTH, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for chosen in (None, bias, bias[:1, :1]) if case.takes_bias else (None,):
        output = ask(case, copy.deepcopy(layer), inputs, bias=chosen).output
        fast = ask(case, copy.deepcopy(layer), inputs, bias=chosen, need_weights=False).output
        torch.testing.assert_close(fast, output, **EXACT)


@every_layer
def test_bias_counts_where_the_event_is_real_and_nowhere_else(case):
    layer, inputs = build(case), inputs_for(case)
    bias = torch.zeros(BATCH, queries_of(case), LENGTH, dtype=torch.float64)
    if not case.takes_bias:
        with pytest.raises(ConfigError, match="bias"):
            ask(case, layer, inputs, bias=bias)
        return
    nothing = ask(case, layer, inputs, bias=bias.masked_fill(~inputs.mask[:, None], 50.0)).output
    torch.testing.assert_close(nothing, ask(case, layer, inputs).output, **EXACT)
    event = 0 if case.causal else 1
    bias[:, :, event] = 30.0
    weights = ask(case, layer, inputs, bias=bias).weights
    counts = weights[..., event] == weights.amax(-1)
    assert (counts | (weights[..., event] == 0)).all() if case.leaves_out else counts.all()


@every_layer
def test_evaluation_is_deterministic(case):
    layer, inputs = build(case), inputs_for(case)
    first, second = ask(case, layer, inputs), ask(case, layer, inputs)
    assert torch.equal(first.output, second.output)
    assert torch.equal(first.weights, second.weights)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compares a GPU with the CPU")
@every_layer
@both_modes
@pytest.mark.parametrize("need_weights", [True, False], ids=["weights", "no weights"])
def test_a_gpu_comes_to_what_the_cpu_does(case, train, need_weights):
    if train and case.random:
        pytest.skip("draws its own noise")
    layer, inputs = build(case, train=train), inputs_for(case, lengths=(5, 2, 0))
    expected = outcome(case, layer, inputs, need_weights=need_weights)
    found = outcome(case, layer.cuda(), Inputs(*(x.cuda() for x in inputs)), need_weights=need_weights)
    assert {value.device.type for value in found.values()} == {"cuda"}
    assert_same(expected, {name: value.cpu() for name, value in found.items()})


@every_layer
def test_the_layer_follows_to_another_type(case):
    """Outputs come in the type of the inputs."""
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        for need_weights in (True, False):
            assert (
                ask(case, build(case, dtype), inputs_for(case, dtype), need_weights=need_weights).output.dtype == dtype
            )


@some_layers
@pytest.mark.parametrize("need_weights", [True, False], ids=["weights", "no weights"])
def test_gradients_are_those_of_finite_differences(case, need_weights):
    layer, inputs = build(case), inputs_for(case, lengths=(5, 2, 0))

    def run(query: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        output, weights = ask(case, layer, Inputs(query, keys, values, inputs.mask), need_weights=need_weights)
        return (output,) if weights is None else (output, weights)

    leaves = [x.clone().requires_grad_() for x in inputs[:3]]
    assert torch.autograd.gradcheck(run, leaves, fast_mode=True, atol=1e-6, eps=1e-6)


def rebuilt(module: nn.Module) -> nn.Module:
    """The module made anew from its constructor's arguments, read from its attributes."""
    names = [] if type(module).__init__ is nn.Module.__init__ else inspect.signature(type(module)).parameters
    parts = {name: getattr(module, name) for name in names}
    return type(module)(
        **{name: rebuilt(part) if isinstance(part, nn.Module) else part for name, part in parts.items()}
    )


@every_layer
def test_arguments_and_state_rebuild_the_layer(case):
    layer, inputs = build(case), inputs_for(case)
    torch.manual_seed(5)
    twin = rebuilt(layer).double().eval()
    assert twin.state_dict().keys() == layer.state_dict().keys()
    twin.load_state_dict(layer.state_dict())
    torch.testing.assert_close(ask(case, twin, inputs).output, ask(case, layer, inputs).output, atol=0, rtol=0)
    assert repr(twin) == repr(layer)


def sought(search: type[nn.Module]) -> tuple[Tensor, Tensor]:
    """What the search compares: queries and events, all of one category where these are categories."""
    if search is rnn.CategorySearch:
        return torch.ones(BATCH, QUERIES, dtype=torch.int64), torch.ones(BATCH, LENGTH, dtype=torch.int64)
    generator = torch.Generator().manual_seed(3)
    return torch.randn(BATCH, QUERIES, DIM, generator=generator), torch.randn(BATCH, LENGTH, DIM, generator=generator)


def real_events(lengths: tuple[int, ...] = LENGTHS) -> Tensor:
    return torch.arange(LENGTH) < torch.tensor(lengths)[:, None]


every_search = pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search.__name__)


@every_search
@pytest.mark.parametrize("k", [1, 3, LENGTH, LENGTH + 10])
def test_a_search_finds_k_real_events_oldest_first_or_all_there_are(search, k):
    (query, keys), mask = sought(search), real_events((7, 2, 0))
    places, real = SEARCHES[search](k)(query, keys, mask)
    assert places.dtype == torch.int64
    assert places.shape == real.shape == (BATCH, QUERIES, min(k, LENGTH))
    assert ((places >= 0) & (places < LENGTH)).all()
    for row, length in enumerate((7, 2, 0)):
        for i in range(QUERIES):
            found = places[row, i, : min(k, length)].tolist()
            assert found == sorted(set(found))
            assert all(place < length for place in found)
            assert real[row, i].tolist() == [n < min(k, length) for n in range(min(k, LENGTH))]


@every_search
def test_a_search_is_not_drawn_to_padding(search):
    """Padding like the query is what it would find first."""
    made, (query, keys), mask = SEARCHES[search](3), sought(search), real_events()
    expected = made(query, keys, mask).spread(LENGTH)
    padded = torch.cat([keys, query], 1)
    padded[:, :LENGTH] = torch.where(mask.view(*mask.shape, *[1] * (keys.dim() - 2)), keys, query[:, :1])
    found = made(query, padded, torch.cat([mask, torch.zeros(BATCH, QUERIES, dtype=torch.bool)], 1))
    assert torch.equal(found.spread(LENGTH + QUERIES)[..., :LENGTH], expected)
    assert not found.spread(LENGTH + QUERIES)[..., LENGTH:].any()


@every_search
def test_a_search_answers_each_query_and_row_as_if_alone(search):
    made, (query, keys) = SEARCHES[search](3), sought(search)
    own = real_events()[:, None] & (torch.arange(LENGTH) < torch.tensor([0, 1, 7, 3, 5])[:, None])
    together = made(query, keys, own).spread(LENGTH)
    for row in range(BATCH):
        for i in range(QUERIES):
            alone = made(query[row : row + 1, i : i + 1], keys[row : row + 1], own[row : row + 1, i])
            assert torch.equal(alone.spread(LENGTH)[0, 0], together[row, i])


@every_search
def test_a_search_repeats_itself_in_training_too_and_made_anew(search):
    (query, keys), mask = sought(search), real_events()
    made = SEARCHES[search](3)
    first = made(query, keys, mask)
    assert all(map(torch.equal, first, made(query, keys, mask)))
    assert all(map(torch.equal, first, made.eval()(query, keys, mask)))
    twin = rebuilt(made)
    twin.load_state_dict(made.state_dict())
    assert all(map(torch.equal, first, twin(query, keys, mask)))
    assert repr(twin) == repr(made)


@every_search
def test_an_exported_search_has_room_for_k_events_whatever_the_length(search):
    (query, keys), mask = sought(search), real_events()
    made = SEARCHES[search](6)
    row = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    shapes = {"query": {0: row[0]}, "keys": row, "mask": row}
    program = torch.export.export(made, (query, keys, mask), dynamic_shapes=shapes).module()
    for rows, length in ((3, 7), (2, 4), (1, 6)):
        some = query[:rows], keys[:rows, :length], mask[:rows, :length]
        found = rnn.Found(*program(*some))
        assert found.places.shape[-1] == 6
        assert torch.equal(found.spread(length), made(*some).spread(length))


@pytest.mark.parametrize("module", sorted(OTHERS, key=lambda m: m.__name__), ids=lambda m: m.__name__)
def test_arguments_rebuild_the_other_modules(module):
    made = OTHERS[module]()
    assert repr(rebuilt(made)) == repr(made)


@every_layer
def test_seeded_construction_repeats(case):
    left, right = build(case, seed=4), build(case, seed=4)
    for name, tensor in left.state_dict().items():
        assert torch.equal(tensor, right.state_dict()[name])


class Asked(nn.Module):
    """`ask` as a module, for capture: its graph holds what a model's own call of the layer would."""

    def __init__(self, case: Case, layer: nn.Module, *, need_weights: bool) -> None:
        super().__init__()
        self.case, self.layer, self.need_weights = case, layer, need_weights

    def forward(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> rnn.Attended:
        asked = keys if self.case.on_itself else query
        return self.layer(asked, keys, values, mask, **self.case.options(keys), need_weights=self.need_weights)


def other_sizes(inputs: Inputs) -> Inputs:
    other = Inputs(inputs.query[:2], inputs.keys[:2, :5], inputs.values[:2, :5], inputs.mask[:2, :5].clone())
    other.mask[1] = False
    return other


def assert_captured(program: Callable[..., rnn.Attended], asked: Asked, inputs: Inputs) -> None:
    expected, got = asked(*inputs), program(*inputs)
    torch.testing.assert_close(got[0], expected.output, **EXACT)
    assert not asked.need_weights or torch.allclose(got[1], expected.weights)


@some_layers
@pytest.mark.parametrize("need_weights", [True, False], ids=["weights", "no weights"])
def test_exported_program_equals_eager_at_other_sizes(case, need_weights):
    if not case.exports:
        assert "torch.export" in (type(build(case)).__doc__ or "")
        pytest.skip("as its docstring says")
    asked, inputs = Asked(case, build(case), need_weights=need_weights), inputs_for(case)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", min=4)
    row = {0: batch, 1: length}
    program = torch.export.export(
        asked, tuple(inputs), dynamic_shapes={"query": {0: batch}, "keys": row, "values": row, "mask": row}
    ).module()
    for some in (inputs, other_sizes(inputs)):
        assert_captured(program, asked, some)


@some_layers
@both_modes
def test_compiled_layer_equals_eager(case, train):
    """Captured in one graph, with its backward; the compiler's own code is checked in test_compiled_code."""
    if not case.compiles:
        assert "torch.compile" in (type(build(case)).__doc__ or "")
        pytest.skip("as its docstring says")
    if case.random and train:
        pytest.skip("its noise is drawn anew for each pass")
    torch.compiler.reset()
    layer, inputs = build(case, train=train), inputs_for(case)
    expected = outcome(case, layer, inputs)
    compiled = copy.deepcopy(layer)
    compiled.compile(backend="aot_eager", fullgraph=True)
    assert_same(expected, outcome(case, compiled, inputs))


COMPILED = ("AttentionPooling-ScaledDotScorer-Softmax", "MultiHeadAttention-causal-rotary")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, while it sets up its compiler
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile makes C++")
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_code_equals_eager(name):
    case = next(case for case in CASES if case.name.startswith(name))
    torch.compiler.reset()
    asked, inputs = Asked(case, build(case), need_weights=False), inputs_for(case)
    assert_captured(torch.compile(asked, fullgraph=True), asked, inputs)
