import pytest
import torch
from torch.nn import functional as F

from recattn.nn.positions.tables import fit, look_up


def test_looked_up_as_an_embedding_with_its_gradient():
    table = torch.randn(3, 11, dtype=torch.float64, requires_grad=True)
    rows, slope = torch.randint(0, 11, (2, 5, 7)), torch.randn(2, 3, 5, 7, dtype=torch.float64)
    found, expected = look_up(table, rows), F.embedding(rows, table.T).movedim(-1, 1)
    assert torch.equal(found, expected)
    assert found.is_contiguous()
    torch.testing.assert_close(*(torch.autograd.grad((x * slope).sum(), table)[0] for x in (found, expected)))


def test_nothing_to_look_up():
    assert look_up(torch.randn(3, 11), torch.zeros(2, 5, 0, dtype=torch.int64)).shape == (2, 3, 5, 0)
    assert look_up(torch.randn(3, 11), torch.zeros(0, 5, 7, dtype=torch.int64)).shape == (0, 3, 5, 7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_bias_in_half_precision_is_finite_and_leaves_room_for_the_score(dtype):
    bias = fit(torch.tensor([-3e38, -1e9, 0.5, 1e9, 3e38]), dtype)
    assert bias.dtype == dtype
    assert (2 * bias).isfinite().all()
    assert bias[2] == 0.5


def test_a_bias_of_the_right_type_stays_as_it_is():
    bias = torch.tensor([3e38])
    assert fit(bias, torch.float32) is bias
