import pytest
import torch
from torch import nn
from torch.nn import functional as F

from recattn.errors import ConfigError
from recattn.models import build, describe
from recattn.nn import LinformerAttention

SHARES = ["none", "headwise", "key_value"]
LENGTHS = [[7], [3], [1]]
every_share = pytest.mark.parametrize("share", SHARES)


def make(share="none", *, max_length=11, num_slots=3, bias=True, **more):
    torch.manual_seed(0)
    widths = {"key_dim": 3, "value_dim": 2, "value_source_dim": 13, "output_dim": 17}
    layer = LinformerAttention(
        6, 5, num_heads=2, max_length=max_length, num_slots=num_slots, share=share, bias=bias, **{**widths, **more}
    ).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return layer


def inputs(length=7):
    generator = torch.Generator().manual_seed(1)
    query, keys, values = (
        torch.randn(3, n, dim, dtype=torch.float64, generator=generator)
        for n, dim in ((5, 6), (length, 5), (length, 13))
    )
    return query, keys, values, torch.arange(length) < torch.tensor(LENGTHS)


def mixtures_of(layer, head):
    both = (layer.key_mixture, layer.key_mixture if layer.share == "key_value" else layer.value_mixture)
    return (m[head] if layer.share == "none" else m for m in both)


def written_down(layer, query, keys, values, mask):
    """The paper's formula for each row and head, over the real events alone."""
    outputs, weights = [], []
    for row in range(len(query)):
        n = int(mask[row].sum())
        heads, head_weights = [], []
        for head in range(2):
            of_key, of_value = (slice(head * dim, (head + 1) * dim) for dim in (layer.key_dim, layer.value_dim))
            q, k, v = (
                x @ part.weight[columns].T + part.bias[columns]
                for x, part, columns in (
                    (query[row], layer.query_projection, of_key),
                    (keys[row, :n], layer.key_projection, of_key),
                    (values[row, :n], layer.value_projection, of_value),
                )
            )
            e, f = (mixture[:n] for mixture in mixtures_of(layer, head))
            probabilities = (q @ (e.T @ k).T / layer.key_dim**0.5).softmax(-1)
            heads.append(probabilities @ (f.T @ v))
            head_weights.append(F.pad(probabilities @ f.T, (0, mask.shape[1] - n)))
        outputs.append(layer.output_projection(torch.cat(heads, -1)))
        weights.append(torch.stack(head_weights))
    return torch.stack(outputs), torch.stack(weights)


@every_share
def test_equals_the_formula_of_the_paper(share):
    layer, given = make(share), inputs()
    output, weights = written_down(layer, *given)
    got = layer(*given)
    torch.testing.assert_close(got.output, output)
    torch.testing.assert_close(got.weights, weights)
    torch.testing.assert_close(layer(*given, need_weights=False).output, output)
    summary = layer.summarize(*given[1:])
    assert summary.keys.shape == (3, 2, 3, 3)
    assert summary.values.shape == (3, 2, 3, 2)
    torch.testing.assert_close(layer.ask(given[0], summary), output)
    torch.testing.assert_close(layer.ask(given[0][:, 4], summary), output[:, 4])


@every_share
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("one_source", [True, False])
def test_without_weights_the_gradients_are_the_same(share, bias, masked, one_source):
    """Also where keys and values are one tensor, which is then mixed once."""
    layer = make(share, bias=bias, value_source_dim=5 if one_source else 13)
    query, keys, values, mask = inputs()
    leaves = [query.requires_grad_(), keys.requires_grad_()] + ([] if one_source else [values.requires_grad_()])
    mask = mask if masked else None
    slope = torch.randn(3, 5, 17, dtype=torch.float64)
    both = []
    for need_weights in (True, False):
        output = layer(query, keys, None if one_source else values, mask, need_weights=need_weights).output
        both.append([output, *torch.autograd.grad((output * slope).sum(), [*leaves, *layer.parameters()])])
    for expected, got in zip(*both, strict=True):
        torch.testing.assert_close(got, expected)


@every_share
def test_with_a_slot_for_each_event_it_is_exact_attention(share):
    """E = F = identity: torch's own attention is the oracle."""
    layer = make(share, max_length=7, num_slots=7)
    with torch.no_grad():
        for mixture in (layer.key_mixture, layer.value_mixture):
            if mixture is not None:
                mixture.copy_(torch.eye(7))
    query, keys, values, _ = inputs()
    q, k, v = (
        part(x).unflatten(-1, (2, -1)).transpose(1, 2)
        for x, part in (
            (query, layer.query_projection),
            (keys, layer.key_projection),
            (values, layer.value_projection),
        )
    )
    expected = layer.output_projection(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
    output, weights = layer(query, keys, values)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(weights, (q @ k.mT / 3**0.5).softmax(-1))
    torch.testing.assert_close(layer(query, keys, values, need_weights=False).output, expected)


@every_share
def test_output_is_the_projected_values_weighed(share):
    layer, (query, keys, values, mask) = make(share), inputs()
    output, weights = layer(query, keys, values, mask)
    v = layer.value_projection(values).unflatten(-1, (2, -1)).transpose(1, 2)
    torch.testing.assert_close(output, layer.output_projection((weights @ v).transpose(1, 2).flatten(2)))


@every_share
def test_weights_sum_to_a_mean_of_the_column_sums_of_f(share):
    """With F's columns summing to 1 they sum to 1, and events that are all alike give back their value."""
    layer, (query, keys, values, _) = make(share, max_length=7), inputs()
    mixture = layer.key_mixture if share == "key_value" else layer.value_mixture
    totals = layer(query, keys, values).weights.sum(-1)
    columns = mixture.sum(-2)  # ([heads,] num_slots)
    assert (totals > columns.amin(-1, keepdim=True)).all()
    assert (totals < columns.amax(-1, keepdim=True)).all()
    with torch.no_grad():
        mixture.div_(columns.unsqueeze(-2))
    alike = values[:, :1].expand_as(values)
    output, weights = layer(query, keys, alike)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 5, dtype=torch.float64))
    value = layer.output_projection(layer.value_projection(alike[:, :1]))
    torch.testing.assert_close(output, value.expand_as(output))


def test_weights_are_signed_and_shaped_by_the_keys_of_all_events():
    """Why they are a gate: without an event, the weights of the others change."""
    layer, (query, keys, values, mask) = make(), inputs()
    weights = layer(query, keys, values, mask).weights
    assert layer.weights_kind == "gate"
    assert (weights < 0).any()
    mask[0, 2] = False
    others = mask[0].nonzero().flatten()
    assert (layer(query, keys, values, mask).weights[0][..., others] != weights[0][..., others]).all()


@every_share
@pytest.mark.parametrize("need_weights", [True, False])
def test_the_biases_of_the_projections_do_not_leak_into_padding(share, need_weights):
    """The trap: zeroing BEFORE a projection with a bias leaves the bias at padding."""
    layer, (query, keys, values, _) = make(share), inputs()
    nn.init.constant_(layer.key_projection.bias, 3.0)
    nn.init.constant_(layer.value_projection.bias, 5.0)
    short = layer(query, keys[:, :3], values[:, :3], need_weights=need_weights).output
    real = torch.arange(7).expand(3, 7) < 3
    padded = layer(query, keys * real[..., None], values * real[..., None], real, need_weights=need_weights).output
    torch.testing.assert_close(padded, short)
    assert (layer(query, keys, values, real & False, need_weights=need_weights).output == 0).all()


@every_share
@pytest.mark.parametrize("need_weights", [True, False])
def test_a_batch_padded_to_its_longest_row_is_its_rows_alone(share, need_weights):
    """The bug of the peer: without a mask, padding is mixed into every slot."""
    layer, (query, keys, values, mask) = make(share), inputs()
    together = layer(
        query, keys + ~mask[..., None] * 97.0, values - ~mask[..., None] * 31.0, mask, need_weights=need_weights
    )
    for row, n in enumerate((7, 3, 1)):
        one = slice(row, row + 1)
        alone = layer(query[one], keys[one, :n], values[one, :n], need_weights=need_weights)
        torch.testing.assert_close(together.output[one], alone.output)


def test_no_history_at_all_is_a_summary_that_answers_zero():
    layer, (query, keys, values, mask) = make(), inputs()
    for summary in (layer.summarize(keys[:, :0], values[:, :0]), layer.summarize(keys, values, mask & False)):
        assert not summary.seen.any()
        assert (layer.ask(query, summary) == 0).all()


@every_share
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_low_precision_is_close_to_fp64(share, dtype):
    layer, (query, keys, values, mask) = make(share), inputs()
    expected = layer(query, keys, values, mask).output
    layer.to(dtype)
    for need_weights in (True, False):
        output = layer(query.to(dtype), keys.to(dtype), values.to(dtype), mask, need_weights=need_weights).output
        assert output.dtype == dtype
        torch.testing.assert_close(output.double(), expected, atol=0.1, rtol=0.1)


def test_can_be_written_down_and_built_again():
    layer, given = make("headwise", dropout=0.2).eval(), inputs()
    twin = build(describe(layer)).double().eval()
    twin.load_state_dict(layer.state_dict())
    torch.testing.assert_close(twin(*given), layer(*given))


def test_gaps_are_allowed_and_rows_of_the_mixture_stay_with_their_places():
    layer, (query, keys, values, _) = make(), inputs()
    mask = torch.tensor([[True, False, True, False, False, True, True]]).expand(3, 7)
    changed = keys + ~mask[..., None] * 9.0
    torch.testing.assert_close(layer(query, changed, values, mask), layer(query, keys, values, mask))
    together = layer(query, keys[:, mask[0]], values[:, mask[0]]).output
    assert not torch.allclose(together, layer(query, keys, values, mask).output)


@pytest.mark.parametrize("need_weights", [True, False])
def test_padding_beyond_max_length_is_allowed_and_events_are_not(need_weights):
    layer, (query, keys, values, mask) = make(max_length=7), inputs()
    longer = [F.pad(x, (0, 0, 0, 4), value=9.0) for x in (keys, values)]
    padded = F.pad(mask, (0, 4))
    expected = layer(query, keys, values, mask, need_weights=need_weights)
    got = layer(query, *longer, padded, need_weights=need_weights)
    torch.testing.assert_close(got.output, expected.output)
    padded[1, 8] = True
    for wrong in (padded, None):
        with pytest.raises(ConfigError, match=r"max_length is 7, .* beyond it: pass the latest 7 .* max_length=11"):
            layer(query, *longer, wrong, need_weights=need_weights)
        with pytest.raises(ConfigError, match="max_length is 7"):
            layer.summarize(*longer, wrong)


class Whole(nn.Module):
    def __init__(self, layer, *, need_weights):
        super().__init__()
        self.layer, self.need_weights = layer, need_weights

    def forward(self, query, keys, values, mask):
        return self.layer(query, keys, values, mask, need_weights=self.need_weights).output


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("capture", ["export", "compile"])
def test_captured_an_event_beyond_max_length_gives_nan_in_its_row_only(need_weights, capture):
    whole, given = Whole(make(max_length=5), need_weights=need_weights), inputs()
    given[3][0, 5:] = False
    expected = whole(*given)
    if capture == "export":
        program = torch.export.export(whole, given).module()
    else:
        torch.compiler.reset()
        program = torch.compile(whole, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(program(*given), expected)
    late = given[3].clone()
    late[1, 6] = True
    got = program(*given[:3], late)
    assert got[1].isnan().all()
    torch.testing.assert_close(got[[0, 2]], expected[[0, 2]])


def test_a_mask_for_each_query_is_refused_and_one_for_all_is_not():
    layer, (query, keys, values, mask) = make(), inputs()
    torch.testing.assert_close(layer(query, keys, values, mask[:, None]), layer(query, keys, values, mask))
    own = mask[:, None].expand(3, 5, 7)
    for need_weights in (True, False):
        with pytest.raises(ConfigError, match=r"LinformerAttention summarises .* mask must be"):
            layer(query, keys, values, own, need_weights=need_weights)
    with pytest.raises(ConfigError, match="mask must be"):
        layer.summarize(keys, values, own)


@pytest.mark.parametrize("need_weights", [True, False])
def test_any_bias_is_refused(need_weights):
    layer, (query, keys, values, mask) = make(), inputs()
    with pytest.raises(ConfigError, match="bias must be None"):
        layer(query, keys, values, mask, bias=torch.zeros(3, 1, 7), need_weights=need_weights)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_length": 0}, "max_length must be an integer >= 1, got 0"),
        ({"num_slots": 0}, "num_slots must be an integer >= 1, got 0"),
        ({"share": "layerwise"}, "share must be one of none, headwise, key_value, got 'layerwise'"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"causal": True}, "causal must be False: each slot mixes .* future"),
        ({"key_dim": 0}, "key_dim must be an integer >= 1, got 0"),
        ({"num_heads": 4}, "num_heads must divide query_dim 6"),
    ],
)
def test_wrong_arguments_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        LinformerAttention(6, 5, **{"num_heads": 2, "max_length": 7, "num_slots": 3, **wrong})


def test_sharing_saves_mixtures():
    assert [sum(p.numel() for n, p in make(share).named_parameters() if "mixture" in n) for share in SHARES] == [
        2 * 2 * 11 * 3,
        2 * 11 * 3,
        11 * 3,
    ]


@every_share
def test_mixtures_start_xavier_uniform_head_by_head(share):
    """Torch's initialiser takes a third axis for a receptive field, which would make them smaller."""
    layer = LinformerAttention(6, 5, num_heads=2, max_length=300, num_slots=100, share=share)
    bound = (6 / 400) ** 0.5
    for mixture in (layer.key_mixture, layer.value_mixture):
        for matrix in () if mixture is None else mixture.detach().view(-1, 300, 100):
            assert 0.99 * bound < matrix.abs().max() <= bound


def test_dropout_drops_whole_slots_of_a_head_and_renormalises():
    """E = F = identity and one-hot values: the output is the weights a head used; those returned are before dropout."""
    layer = LinformerAttention(
        6, 11, num_heads=3, max_length=11, num_slots=11, value_dim=11, key_dim=2, output_dim=33, dropout=0.4
    )
    with torch.no_grad():
        layer.value_projection.weight.copy_(torch.eye(11).repeat(3, 1))
        layer.output_projection.weight.copy_(torch.eye(33))
        layer.key_mixture.copy_(torch.eye(11).expand(3, 11, 11))
        layer.value_mixture.copy_(torch.eye(11).expand(3, 11, 11))
    query, keys = torch.randn(2, 5, 6), torch.eye(11).expand(2, 11, 11)
    for need_weights in (True, False):
        output, weights = layer(query, keys, need_weights=need_weights)
        used = output.unflatten(-1, (3, 11)).transpose(1, 2)
        dropped = used == 0
        assert 0.2 < dropped.float().mean() < 0.6
        assert (dropped == dropped[:, :, :1]).all()  # the same slots for all queries
        assert (dropped[:, 0] != dropped[:, 1]).any()  # each head its own
        torch.testing.assert_close(used.sum(-1), torch.ones(2, 3, 5))
        if need_weights:
            assert (weights > 0).all()
            left = weights * ~dropped
            torch.testing.assert_close(used, left / left.sum(-1, keepdim=True))
    layer.eval()
    torch.testing.assert_close(layer(query, keys).output, layer(query, keys).output, atol=0, rtol=0)
    torch.testing.assert_close(layer(query, keys).output, layer(query, keys, need_weights=False).output)


@every_share
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("garbage", [9.0, torch.inf, torch.nan])
def test_padding_may_hold_anything_with_dropout_too(share, need_weights, garbage):
    layer, (query, keys, values, mask) = make(share, dropout=0.3), inputs()
    outputs = []
    for fill in (0.0, garbage):
        torch.manual_seed(3)
        filled = (torch.where(mask[..., None], x, fill) for x in (keys, values))
        outputs.append(layer(query, *filled, mask, need_weights=need_weights).output)
    torch.testing.assert_close(*outputs, atol=0, rtol=0)


def test_dropout_that_takes_every_slot_is_finite():
    layer = make(dropout=0.99, num_slots=1)
    query, keys, values, mask = inputs()
    for need_weights in (True, False):
        layer.zero_grad()
        layer(query, keys, values, mask, need_weights=need_weights).output.square().sum().backward()
        assert all(p.grad.isfinite().all() for p in layer.parameters())
