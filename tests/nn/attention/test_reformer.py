import pytest
import torch

from recattn.errors import ConfigError
from recattn.models import build, describe
from recattn.nn import ReformerAttention

BATCH, LENGTH, DIM, HEADS = 3, 23, 10, 2
LENGTHS = torch.tensor([[23], [11], [0]])
MASK = torch.arange(LENGTH) < LENGTHS
both_orders = pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
both_paths = pytest.mark.parametrize("need_weights", [False, True], ids=["fast", "weights"])


def layer(seed=0, **more):
    torch.manual_seed(seed)
    made = ReformerAttention(DIM, num_heads=HEADS, **{"num_buckets": 4, "chunk_size": 3, "num_rounds": 2, **more})
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return made.double()


def sequence(length=LENGTH, seed=1):
    return torch.randn(BATCH, length, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def put_all_in_one_bucket(made):
    """Rows are turned so little against a large bias that all of them point one way."""
    with torch.no_grad():
        made.query_projection.weight.mul_(0.01)
        made.query_projection.bias.fill_(1.0)


def by_hand(made, x, mask, *, causal):
    """Exact attention with shared queries and keys (Kitaev et al. 2020, eq. 2 and 3), pair by pair."""
    output = torch.zeros(*x.shape[:2], DIM, dtype=torch.float64)
    q = (x @ made.query_projection.weight.T + made.query_projection.bias).unflatten(-1, (HEADS, -1))
    v = (x @ made.value_projection.weight.T + made.value_projection.bias).unflatten(-1, (HEADS, -1))
    for row in range(len(x)):
        real = mask[row].nonzero().flatten().tolist()
        for i in real:
            others = [j for j in real if (j < i if causal else j != i)] or [i]
            heads = []
            for h in range(HEADS):
                keys = q[row, others, h] / q[row, others, h].norm(dim=-1, keepdim=True)
                heads.append(torch.softmax(keys @ q[row, i, h] / 5**0.5, 0) @ v[row, others, h])
            output[row, i] = torch.cat(heads) @ made.output_projection.weight.T + made.output_projection.bias
    return output


@both_orders
@both_paths
def test_a_chunk_as_long_as_the_sequence_is_exact_attention(causal, need_weights):
    made = layer(chunk_size=LENGTH, num_buckets=2, causal=causal, bias=True)
    if causal:
        put_all_in_one_bucket(made)
    x = sequence()
    expected = by_hand(made, x, MASK, causal=causal)
    torch.testing.assert_close(made(x, x, mask=MASK, need_weights=need_weights).output, expected)


@both_orders
def test_without_weights_it_is_the_same_function_with_the_same_gradients(causal):
    made, x = layer(causal=causal, num_rounds=3, bias=True), sequence().requires_grad_()
    direction = sequence(seed=7)
    found = []
    for need_weights in (True, False):
        loss = (made(x, x, mask=MASK, need_weights=need_weights).output * direction).sum()
        found.append((loss, *torch.autograd.grad(loss, (x, *made.parameters()))))
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-9)


@both_orders
def test_rows_of_weights_sum_to_one_and_are_sparse(causal):
    made, x = layer(causal=causal, chunk_size=2), sequence()
    weights = made(x, x, mask=MASK).weights
    asking = MASK[:, None, :, None].expand_as(weights)
    torch.testing.assert_close(weights.sum(-1), MASK[:, None].expand(-1, HEADS, -1).double())
    assert (weights[~asking] == 0).all()
    assert ((weights > 0).sum(-1) <= 2 * 2 * 2).all()


def test_an_event_alone_attends_to_itself_and_never_otherwise():
    for causal in (False, True):
        made, x = layer(causal=causal), sequence()
        itself = made(x, x, mask=MASK).weights.diagonal(dim1=-2, dim2=-1)
        assert set(itself.unique().tolist()) <= {0.0, 1.0}
        alone = made(x[:, :1], x[:, :1])
        assert (alone.weights == 1).all()
        value = x[:, :1] @ made.value_projection.weight.T @ made.output_projection.weight.T
        torch.testing.assert_close(alone.output, value)
        torch.testing.assert_close(made(x[:, :1], x[:, :1], need_weights=False).output, value)


def test_evaluation_is_deterministic_and_the_rotations_are_saved():
    made, x = layer().eval(), sequence()
    before = made(x, x, need_weights=False).output
    torch.manual_seed(11)
    torch.testing.assert_close(made(x, x, need_weights=False).output, before, atol=0, rtol=0)
    twin = layer(seed=5).eval()
    twin.load_state_dict(made.state_dict())
    torch.testing.assert_close(twin(x, x, need_weights=False).output, before, atol=0, rtol=0)
    assert "rotations" in made.state_dict()
    assert "rotations" not in dict(made.named_parameters())


def test_redraw_draws_other_rotations_from_the_global_generator():
    made = layer()
    first = made.rotations.clone()
    torch.manual_seed(5)
    made.redraw()
    second = made.rotations.clone()
    torch.manual_seed(5)
    made.redraw()
    assert not torch.equal(first, second)
    assert torch.equal(second, made.rotations)


def test_each_head_and_round_has_rotations_of_its_own():
    rotations = layer(num_rounds=3).rotations.flatten(0, 1)
    same = (rotations[:, None] == rotations).flatten(2).all(-1)
    assert torch.equal(same, torch.eye(HEADS * 3, dtype=torch.bool))


@pytest.mark.parametrize("num_buckets", [6, 10, 24])
def test_rotations_are_orthogonal_as_far_as_they_can_be(num_buckets):
    rotations = layer(num_buckets=num_buckets).rotations
    assert rotations.shape == (HEADS, 2, 5, num_buckets // 2)
    for block in rotations.split(5, -1):
        identity = torch.eye(block.shape[-1], dtype=torch.float64).expand(HEADS, 2, -1, -1)
        torch.testing.assert_close(block.mT @ block, identity, atol=1e-6, rtol=0)


@both_orders
@both_paths
@pytest.mark.parametrize("extra", [1, 2, 7, 64])
def test_any_padding_changes_nothing(causal, need_weights, extra):
    """A number of buckets taken from the padded length, or padding sorted among the events, would."""
    made, x = layer(causal=causal, bias=True), sequence()
    plain = made(x, x, mask=MASK, need_weights=need_weights)
    more = torch.cat([x.masked_fill(~MASK[..., None], 97.0), 31.0 * sequence(extra, seed=9)], 1)
    wide = torch.cat([MASK, torch.zeros(BATCH, extra, dtype=torch.bool)], 1)
    padded = made(more, more, mask=wide, need_weights=need_weights)
    torch.testing.assert_close(padded.output[:, :LENGTH], plain.output)
    assert (padded.output[~wide] == 0).all()
    if need_weights:
        torch.testing.assert_close(padded.weights[..., :LENGTH, :LENGTH], plain.weights)
        assert (padded.weights[..., LENGTH:] == 0).all()


@both_paths
def test_padding_that_is_no_number_stays_outside(need_weights):
    made, x = layer(bias=True), sequence()
    broken = x.masked_fill(~MASK[..., None], torch.nan)
    got = made(broken, broken, mask=MASK, need_weights=need_weights).output
    torch.testing.assert_close(got, made(x, x, mask=MASK, need_weights=need_weights).output)


@both_orders
@both_paths
def test_a_masked_event_is_as_good_as_deleted(causal, need_weights):
    made, x = layer(causal=causal), sequence()
    kept = torch.tensor([j for j in range(LENGTH) if j not in (0, 4, 5, 13)])
    mask = torch.zeros(BATCH, LENGTH, dtype=torch.bool)
    mask[:, kept] = True
    got = made(x, x, mask=mask, need_weights=need_weights).output[:, kept]
    torch.testing.assert_close(got, made(x[:, kept], x[:, kept], need_weights=need_weights).output)


@both_paths
@pytest.mark.parametrize("chunk_size", [1, 2, 5])
def test_a_causal_layer_leaves_no_trace_of_the_future(need_weights, chunk_size):
    """Neither in what is weighed nor in what is found: chunks of the whole sequence would shift with what comes."""
    made, x = layer(causal=True, chunk_size=chunk_size), sequence()
    for first in range(1, LENGTH):
        changed = torch.cat([x[:, :first], sequence(seed=first + 20)[:, first:] * 3], 1)
        for other in (changed, x[:, :first]):
            got = made(other, other, need_weights=need_weights)
            expected = made(x, x, need_weights=need_weights)
            torch.testing.assert_close(got.output[:, :first], expected.output[:, :first])
            if need_weights:
                torch.testing.assert_close(got.weights[..., :first, :first], expected.weights[..., :first, :first])


@both_orders
def test_more_rounds_find_more_of_what_exact_attention_weighs(causal):
    x = torch.randn(2, 199, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    recalls = []
    for num_rounds in (1, 4, 16):
        torch.manual_seed(0)
        made = ReformerAttention(
            16, num_heads=2, num_buckets=16, chunk_size=8, num_rounds=num_rounds, causal=causal
        ).double()
        q = 6 * made.query_projection(x).unflatten(-1, (2, 8)).transpose(1, 2)
        with torch.no_grad():
            made.query_projection.weight.mul_(6)
        hidden = torch.eye(199, dtype=torch.bool) | (torch.ones(199, 199, dtype=torch.bool).triu() & causal)
        scores = q @ (q / q.norm(dim=-1, keepdim=True)).mT / 8**0.5
        exact = scores.masked_fill(hidden, -torch.inf)[..., 1:, :].softmax(-1)
        found = made(x, x).weights[..., 1:, :] > 0
        recalls.append((exact * found).sum(-1).mean().item())
    assert recalls == sorted(recalls)
    assert recalls[-1] > recalls[0] + 0.2
    assert recalls[-1] > 0.8


@both_orders
def test_equal_events_find_each_other_however_far_apart(causal):
    made = ReformerAttention(16, num_heads=1, num_buckets=32, chunk_size=4, num_rounds=8, causal=causal)
    x = torch.randn(1, 211, 16)
    x[0, 201] = x[0, 3]
    with torch.no_grad():
        made.query_projection.weight.mul_(30)
    weights = made(x, x).weights[0, 0]
    assert weights[201].argmax() == 3


def test_an_equal_copy_is_the_sequence_and_another_is_not():
    made, x = layer(), sequence()
    torch.testing.assert_close(made(x.clone(), x).output, made(x, x).output)
    for query in (x + 1, x[:, :5], x[:, 0], x[:1]):
        with pytest.raises(ConfigError, match=r"takes one sequence \(batch, length, dim\) as query and keys"):
            made(query, x)
    with pytest.raises(ConfigError, match="takes one sequence"):
        made(x[0], x[0])


def test_masks_and_biases_for_pairs_are_refused_by_name():
    made, x = layer(), sequence()
    with pytest.raises(ConfigError, match="its mask must be"):
        made(x, x, mask=torch.ones(BATCH, LENGTH, LENGTH, dtype=torch.bool))
    with pytest.raises(ConfigError, match="mask must be boolean"):
        made(x, x, mask=MASK.long())
    with pytest.raises(ConfigError, match="bias must be None"):
        made(x, x, bias=torch.zeros(BATCH, 1, LENGTH))
    got = made(x, x, mask=MASK[:1, None]).output
    torch.testing.assert_close(got, made(x, x, mask=MASK[:1].expand(BATCH, -1)).output)


@both_paths
def test_no_rows_and_no_events_are_answered(need_weights):
    made = layer()
    for empty in (sequence()[:0], sequence()[:, :0]):
        x = empty.clone().requires_grad_()
        output, _ = made(x, x, need_weights=need_weights)
        assert output.shape == x.shape
        output.sum().backward()


def test_autocast_lowers_the_projections_only():
    made, x = layer().float(), sequence().float()
    with torch.autocast("cpu", torch.bfloat16):
        fast, slow = made(x, x, need_weights=False).output, made(x, x)
    assert fast.dtype == torch.bfloat16
    torch.testing.assert_close(fast, slow.output, atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(slow.weights.sum(-1), torch.ones(BATCH, HEADS, LENGTH), atol=1e-6, rtol=0)


def kept(length):
    made, x = layer().float(), torch.randn(1, length, DIM, requires_grad=True)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        made(x, x, need_weights=False)
    return sum(sizes)


def test_memory_kept_for_the_backward_pass_grows_with_the_length():
    assert kept(1200) < 2.1 * kept(600)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, as it compiles
def test_compiled_chunks_and_their_gradients_are_those_of_eager_ones():
    torch.compiler.reset()
    made, x = layer(causal=True), sequence().requires_grad_()
    compiled = torch.compile(made, backend="aot_eager", fullgraph=True)
    found = []
    for run in (made, compiled):
        output = run(x, x, mask=MASK, need_weights=False).output
        found.append((output, *torch.autograd.grad(output.square().sum(), (x, *made.parameters()))))
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected)


def test_can_be_written_down_and_built_again():
    made, x = layer(causal=True, num_rounds=3, value_dim=7, output_dim=10), sequence()
    twin = build(describe(made)).double()
    twin.load_state_dict(made.state_dict())
    torch.testing.assert_close(twin(x, x).output, made(x, x).output)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 0}, "num_heads must be an integer >= 1, got 0"),
        ({"num_heads": 3}, "num_heads must divide query_dim 10"),
        ({"num_buckets": 0}, "num_buckets must be an integer >= 2, got 0"),
        ({"num_buckets": 5}, "num_buckets must be even, as each direction has its opposite, got 5"),
        ({"chunk_size": 0}, "chunk_size must be an integer >= 1, got 0"),
        ({"num_rounds": 0}, "num_rounds must be an integer >= 1, got 0"),
        ({"key_dim": 0}, "key_dim must be an integer >= 1, got 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ReformerAttention(DIM, **{"num_heads": 2, "num_buckets": 4, **arguments})
