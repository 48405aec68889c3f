"""What every attention layer exported by recattn.nn keeps to (DESIGN.md, section 2).

Layers are collected from ``recattn.nn.__all__``. One that has no recipe in LAYERS below fails
`test_every_exported_module_is_known`: add its recipe there, and all contracts run over it.
"""

import copy
import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import recattn.nn as rnn

BATCH, QUERIES, LENGTH, DIM, VALUE_DIM = 3, 5, 7, 11, 13
LENGTHS = (7, 2, 4)
EXACT = {"atol": 1e-10, "rtol": 1e-9}


@dataclass(frozen=True)
class Case:
    """How to build one layer, and the widths it takes and gives. num_heads None: weights have no heads axis."""

    name: str
    build: Callable[[], nn.Module]
    output_dim: int
    query_dim: int = DIM
    key_dim: int = DIM
    value_dim: int = VALUE_DIM
    num_heads: int | None = None
    order_matters: bool = False


SCORERS: dict[type[nn.Module], list[Callable[[], nn.Module]]] = {
    rnn.AdditiveScorer: [lambda: rnn.AdditiveScorer(DIM, 29, hidden_dim=17)],
    rnn.BilinearScorer: [lambda: rnn.BilinearScorer(DIM, 29)],
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
    rnn.HardRetrieval: [lambda: rnn.HardRetrieval(temperature=0.5)],
    rnn.TopK: [lambda: rnn.TopK(3)],
}


def pooling_cases() -> Iterator[Case]:
    makers = itertools.product(itertools.chain(*SCORERS.values()), itertools.chain(*WEIGHTINGS.values()))
    for index, (scorer, weighting) in enumerate(makers):
        key_dim = getattr(scorer(), "key_dim", DIM)
        name = f"AttentionPooling-{type(scorer()).__name__}-{type(weighting()).__name__}-{index}"
        build = lambda s=scorer, w=weighting: rnn.AttentionPooling(s(), w())  # noqa: E731
        yield Case(name, build, output_dim=VALUE_DIM, key_dim=key_dim)


def free_widths(**more: object) -> nn.Module:
    return rnn.MultiHeadAttention(
        DIM, 29, num_heads=2, key_dim=19, value_dim=23, value_source_dim=VALUE_DIM, output_dim=17, **more
    )


MULTIHEAD = Case("MultiHeadAttention-free", free_widths, output_dim=17, key_dim=29, num_heads=2)
LAYERS: dict[type[nn.Module], list[Case]] = {
    rnn.AttentionPooling: list(pooling_cases()),
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
    ],
}
OTHERS: dict[type[nn.Module], Callable[[], nn.Module]] = {
    rnn.Dice: lambda: rnn.Dice(3),
    rnn.MLP: lambda: rnn.MLP(3, (7, 5), 2, activation="dice"),
    rnn.RecencyBias: lambda: rnn.RecencyBias(num_heads=3),
    rnn.TimeBias: lambda: rnn.TimeBias(num_heads=3),
}
"""Exported modules that are neither layer, scorer nor weighting."""

every_layer = pytest.mark.parametrize("case", list(itertools.chain(*LAYERS.values())), ids=lambda case: case.name)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """These tensors are tiny: threads that wait for a processor made the file twenty times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Inputs(NamedTuple):
    query: Tensor
    keys: Tensor
    values: Tensor
    mask: Tensor


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


def outcome(layer: nn.Module, inputs: Inputs, **options: object) -> dict[str, Tensor]:
    """Output, weights, every gradient and every buffer after one forward and backward pass."""
    layer = copy.deepcopy(layer)
    leaves = [x.clone().requires_grad_() for x in inputs[:3]]
    output, weights = layer(*leaves, inputs.mask, **options)
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
    assert modules_with_arguments("query", "keys", "mask") == SCORERS.keys()
    assert modules_with_arguments("scores", "mask") == WEIGHTINGS.keys()
    assert modules_with_arguments() == LAYERS.keys() | SCORERS.keys() | WEIGHTINGS.keys() | OTHERS.keys()
    assert all(cases for cases in (*LAYERS.values(), *SCORERS.values(), *WEIGHTINGS.values()))


@pytest.mark.parametrize("layer", list(LAYERS), ids=lambda layer: layer.__name__)
def test_signature_is_the_contract(layer):
    parameters = list(inspect.signature(layer.forward).parameters.values())[1:]
    required = [("query", inspect.Parameter.empty), ("keys", inspect.Parameter.empty)]
    optional = [("values", None), ("mask", None), ("bias", None), ("need_weights", True)]
    assert [(p.name, p.default) for p in parameters][:6] == required + optional
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[4:])


@every_layer
def test_shapes(case):
    layer, (query, keys, values, mask) = build(case), inputs_for(case)
    heads = () if case.num_heads is None else (case.num_heads,)
    output, weights = layer(query, keys, values, mask)
    assert output.shape == (BATCH, QUERIES, case.output_dim)
    assert weights.shape == (BATCH, *heads, QUERIES, LENGTH)
    single_output, single_weights = layer(query[:, 2], keys, values, mask)
    assert single_output.shape == (BATCH, case.output_dim)
    assert single_weights.shape == (BATCH, *heads, 1, LENGTH)
    torch.testing.assert_close(single_output, output[:, 2], **EXACT)
    assert layer(query, keys, values, mask, need_weights=False).weights is None
    assert isinstance(layer(query, keys, values), rnn.Attended)


@every_layer
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_garbage_padding_changes_nothing(case, train):
    layer, inputs = build(case, train=train), inputs_for(case)
    plain = outcome(layer, inputs)
    extra = 6
    keys, values = (torch.cat([x, x.flip(1)[:, :extra]], 1) for x in inputs[1:3])
    mask = torch.cat([inputs.mask, torch.zeros(BATCH, extra, dtype=torch.bool)], 1)
    keys, values = (x + ~mask.unsqueeze(-1) * 97.0 for x in (keys, values))
    padded = outcome(layer, Inputs(inputs.query, keys, values, mask))
    assert (padded["weights"][..., LENGTH:] == 0).all()
    padded["weights"] = padded["weights"][..., :LENGTH]
    for name in ("grad keys", "grad values"):
        assert (padded[name][:, LENGTH:] == 0).all()
        padded[name] = padded[name][:, :LENGTH]
    assert_same(plain, padded)


@every_layer
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_empty_history_gives_zeros_and_finite_gradients(case, train, dtype):
    layer = build(case, dtype, train=train)
    for lengths in ((7, 0, 4), (0, 0, 0), (1, 0, 0)):
        for need_weights in (True, False):
            found = outcome(layer, inputs_for(case, dtype, lengths), need_weights=need_weights)
            empty = torch.tensor(lengths) == 0
            assert (found["output"][empty] == 0).all()
            assert not need_weights or (found["weights"][empty] == 0).all()
            assert found["output"].dtype == dtype
            for name, tensor in found.items():
                assert tensor.isfinite().all(), (name, lengths, need_weights)


@every_layer
def test_history_of_length_zero(case):
    query, keys, values, mask = inputs_for(case)
    for train in (False, True):
        layer = build(case, train=train)
        for need_weights in (True, False):
            output, weights = layer(query, keys[:, :0], values[:, :0], mask[:, :0], need_weights=need_weights)
            assert output.shape == (BATCH, QUERIES, case.output_dim)
            assert (output == 0).all()
            assert not need_weights or weights.shape[-2:] == (QUERIES, 0)


@every_layer
def test_weights_do_not_leak_to_masked_events(case):
    layer, inputs = build(case), inputs_for(case)
    weights = layer(*inputs).weights
    masked = ~inputs.mask.view(BATCH, *[1] * (weights.dim() - 2), LENGTH).expand_as(weights)
    assert (weights[masked] == 0).all()
    assert layer.weights_kind in ("probability", "gate", "count")
    if layer.weights_kind == "probability":
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]), **EXACT)


@every_layer
def test_batch_of_one_equals_row_of_many(case):
    layer, inputs = build(case), inputs_for(case)
    many = layer(*inputs)
    for row in range(BATCH):
        one = layer(*(x[row : row + 1] for x in inputs))
        torch.testing.assert_close(one.output[0], many.output[row], **EXACT)
        torch.testing.assert_close(one.weights[0], many.weights[row], **EXACT)


@every_layer
def test_permuting_the_history_permutes_the_weights(case):
    if case.order_matters:
        return
    layer, (query, keys, values, mask) = build(case), inputs_for(case)
    order = torch.tensor([6, 2, 0, 5, 3, 1, 4])
    plain, permuted = layer(query, keys, values, mask), layer(query, keys[:, order], values[:, order], mask[:, order])
    torch.testing.assert_close(permuted.output, plain.output, **EXACT)
    torch.testing.assert_close(permuted.weights, plain.weights[..., order], **EXACT)


@every_layer
def test_masks_for_each_query_equal_separate_calls(case):
    layer, (query, keys, values, mask) = build(case), inputs_for(case)
    visible = torch.tensor([0, 1, 7, 3, 5])
    own = mask[:, None] & (torch.arange(LENGTH) < visible[:, None])
    together = layer(query, keys, values, own)
    unweighted = layer(query, keys, values, own, need_weights=False)
    torch.testing.assert_close(unweighted.output, together.output, **EXACT)
    for i in range(QUERIES):
        alone = layer(query[:, i], keys, values, own[:, i])
        torch.testing.assert_close(together.output[:, i], alone.output, **EXACT)
        torch.testing.assert_close(together.weights[..., i : i + 1, :], alone.weights, **EXACT)


@every_layer
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_output_is_the_same_without_weights(case, train):
    layer, inputs = build(case, train=train), inputs_for(case)
    bias = torch.randn(BATCH, QUERIES, LENGTH, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for chosen in (None, bias, bias[:1, :1]):
        output = copy.deepcopy(layer)(*inputs, bias=chosen).output
        fast = copy.deepcopy(layer)(*inputs, bias=chosen, need_weights=False).output
        torch.testing.assert_close(fast, output, **EXACT)


@every_layer
def test_bias_counts_where_the_event_is_real_and_nowhere_else(case):
    layer, inputs = build(case), inputs_for(case)
    bias = torch.zeros(BATCH, QUERIES, LENGTH, dtype=torch.float64)
    nothing = layer(*inputs, bias=bias.masked_fill(~inputs.mask[:, None], 50.0)).output
    torch.testing.assert_close(nothing, layer(*inputs).output, **EXACT)
    bias[:, :, 1] = 30.0
    weights = layer(*inputs, bias=bias).weights
    assert (weights[..., 1] == weights.amax(-1)).all()


@every_layer
def test_evaluation_is_deterministic(case):
    layer, inputs = build(case), inputs_for(case)
    first, second = layer(*inputs), layer(*inputs)
    assert torch.equal(first.output, second.output)
    assert torch.equal(first.weights, second.weights)


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
    torch.testing.assert_close(twin(*inputs).output, layer(*inputs).output, atol=0, rtol=0)
    assert repr(twin) == repr(layer)


@pytest.mark.parametrize("module", sorted(OTHERS, key=lambda m: m.__name__), ids=lambda m: m.__name__)
def test_arguments_rebuild_the_other_modules(module):
    made = OTHERS[module]()
    assert repr(rebuilt(made)) == repr(made)


@every_layer
def test_seeded_construction_repeats(case):
    left, right = build(case, seed=4), build(case, seed=4)
    for name, tensor in left.state_dict().items():
        assert torch.equal(tensor, right.state_dict()[name])


EXPORTED = (
    "AttentionPooling-ActivationUnitScorer-TopK",
    "AttentionPooling-AdditiveScorer-Softmax",
    "MultiHeadAttention-bias",
)


@pytest.mark.parametrize("need_weights", [True, False], ids=["weights", "no weights"])
@pytest.mark.parametrize("name", EXPORTED)
def test_exported_program_equals_eager_at_other_sizes(name, need_weights):
    case = next(case for case in itertools.chain(*LAYERS.values()) if case.name.startswith(name))
    layer, inputs = build(case), inputs_for(case)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", min=4)
    row = {0: batch, 1: length}
    program = torch.export.export(
        layer,
        tuple(inputs),
        {"need_weights": need_weights},
        dynamic_shapes={
            "query": {0: batch}, "keys": row, "values": row, "mask": row, "need_weights": None,
        },
    ).module()  # fmt: skip
    other = Inputs(inputs.query[:2], inputs.keys[:2, :5], inputs.values[:2, :5], inputs.mask[:2, :5])
    other.mask[1] = False
    for some in (inputs, other):
        expected, got = layer(*some, need_weights=need_weights), program(*some, need_weights=need_weights)
        torch.testing.assert_close(got[0], expected.output, **EXACT)
        assert not need_weights or torch.allclose(got[1], expected.weights)
