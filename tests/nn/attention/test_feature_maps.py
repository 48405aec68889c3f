import math

import pytest
import torch
from scipy.special import hyp1f1
from torch.nn import functional as F

from recattn.nn.attention.feature_maps import FLOOR, EluFeatures, FavorFeatures


def phi(found):
    return found.features * found.scale.exp().unsqueeze(-1)


MAPS = {"elu": EluFeatures, "favor": lambda: FavorFeatures(2, 5, 7)}
every_map = pytest.mark.parametrize("name", MAPS)


@every_map
@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 30.0, 1e6])
def test_no_feature_leaves_the_range_of_its_type(name, size):
    """So that the product of any two vectors' features is neither 0 nor infinite."""
    features, scale = MAPS[name]()(torch.randn(3, 2, 11, 5) * size)
    assert scale.shape == (3, 2, 11)
    assert features.isfinite().all()
    assert scale.isfinite().all()
    assert (features.amax(-1) >= 1).all()
    assert (features >= FLOOR).all()


@every_map
def test_the_scale_as_a_constant_gives_the_gradient_of_phi(name):
    made, x = MAPS[name]().double(), torch.randn(3, 2, 11, 5, dtype=torch.float64) * 3
    assert not made(x.requires_grad_()).scale.requires_grad
    assert torch.autograd.gradcheck(lambda x: phi(made(x)), x, fast_mode=True)


def test_elu_features_are_elu_plus_one():
    x = torch.tensor([[-3.0, -0.5, -1e-9], [0.0, 1e-9, -0.5], [0.5, -3.0, 300.0]], dtype=torch.float64)
    found = phi(EluFeatures()(x.requires_grad_()))
    torch.testing.assert_close(found, F.elu(x) + 1)
    # At exactly 0, where both branches meet, the slope is 1, not 0 or 2.
    torch.testing.assert_close(torch.autograd.grad(found.sum(), x)[0], torch.where(x < 0, x.exp(), 1.0))


def test_elu_features_keep_digits_where_elu_plus_one_has_lost_them():
    x = torch.tensor([[-20.0, 3.0], [-300.0, -303.0]])
    assert (F.elu(x) + 1)[x < 0].eq(0).all()
    features, scale = EluFeatures()(x)
    torch.testing.assert_close(features, torch.tensor([[math.exp(-20), 4.0], [1.0, math.exp(-3)]]))
    assert scale.tolist() == [0.0, -300.0]


def test_favor_features_are_the_formula():
    favor, x = FavorFeatures(2, 5, 7).double(), torch.randn(3, 2, 11, 5, dtype=torch.float64)
    got = phi(favor(x))
    for head in range(2):
        scaled = x[:, head] / 5**0.25
        expected = torch.einsum("mi,bni->bnm", favor.projection[head], scaled) - scaled.norm(dim=-1)[..., None] ** 2 / 2
        torch.testing.assert_close(got[:, head], expected.exp())


def test_features_of_a_block_are_orthogonal_and_as_long_as_normal_vectors():
    torch.manual_seed(0)
    w = FavorFeatures(400, 5, 13).projection
    for block in (w[:, :5], w[:, 5:10], w[:, 10:]):
        products = block @ block.mT
        off_diagonal = products - torch.diag_embed(products.diagonal(dim1=-2, dim2=-1))
        assert off_diagonal.abs().max() < 1e-4
    squares = w.square().sum(-1)  # chi-squared with 5 degrees of freedom: mean 5, variance 10
    assert abs(squares.mean() - 5) < 0.2
    assert abs(squares.var() - 10) < 1.5
    assert (w[:, 0] * w[:, 5]).sum(-1).abs().max() > 1  # blocks are independent


def test_directions_are_uniform():
    """LAPACK's Q alone is not: with Householder reflections its first entry is never positive."""
    torch.manual_seed(0)
    w = FavorFeatures(4000, 3, 3).projection
    assert (w.mean(0).abs() < 4 / math.sqrt(4000)).all()
    assert torch.linalg.qr(torch.randn(100, 3, 3)).Q[:, 0, 0].max() <= 0  # the trap is there


def test_the_kernel_estimate_is_unbiased():
    torch.manual_seed(0)
    draws, dim = 3000, 5
    q, k = torch.randn(2, 7, dim, dtype=torch.float64) * 0.7
    favor = FavorFeatures(draws, dim, 8).double()
    phi_q, phi_k = (phi(favor(x.expand(1, draws, 7, dim))) for x in (q, k))
    estimates = (phi_q * phi_k).mean(-1)[0]  # (draws, 7)
    expected = ((q * k).sum(-1) / math.sqrt(dim)).exp()
    error = (estimates.mean(0) - expected).abs()
    assert (error < 4 * estimates.std(0) / math.sqrt(draws)).all()
    assert (error < 0.1 * expected).all()


def test_orthogonal_features_err_as_little_as_they_should():
    """Less than independent ones, by how much is known.

    With a = |q' + k'|^2 an estimate by m independent features has the relative variance (e^a - 1) / m. Of two
    orthogonal w of dim each, w_1 + w_2 has a uniform direction and a chi-squared length with 2 dim degrees of freedom,
    so that E[exp((w_1 + w_2) . z)] is 1F1(dim; dim / 2; a / 2), and not e^a. Small vectors: e^(w . z) is log-normal,
    and with larger ones a few draws would decide.
    """
    torch.manual_seed(0)
    draws, dim, a = 20_000, 7, 0.5
    x = F.normalize(torch.randn(dim, dtype=torch.float64), dim=0) * dim**0.25 * a**0.5 / 2
    found = phi(FavorFeatures(draws, dim, dim).double()(x.expand(1, draws, 1, dim)))
    errors = (found.square().mean(-1) / (x @ x / dim**0.5).exp() - 1).square()  # phi(q) . phi(k) with q = k = x
    independent = math.expm1(a) / dim
    orthogonal = independent - (dim - 1) / dim * (1 - hyp1f1(dim, dim / 2, a / 2) / math.exp(a))
    noise = errors.std().item() / draws**0.5
    assert abs(errors.mean().item() - orthogonal) < 4 * noise
    assert orthogonal + 8 * noise < independent


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_redraw_keeps_type_and_shape_and_follows_the_seed(dtype):
    favor = FavorFeatures(2, 5, 7).to(dtype)
    before = favor.projection.clone()
    torch.manual_seed(3)
    favor.redraw()
    first = favor.projection.clone()
    assert first.dtype == dtype
    assert (first != before).any()
    torch.manual_seed(3)
    favor.redraw()
    assert torch.equal(favor.projection, first)
