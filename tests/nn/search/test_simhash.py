import math

import numpy as np
import pytest
import torch

from recattn.errors import ConfigError
from recattn.nn import SimHashSearch
from recattn.nn.search.simhash import hamming_distances


def make(num_bits=24, k=3, dim=5):
    torch.manual_seed(0)
    return SimHashSearch(dim, num_bits=num_bits, k=k)


def at_angle(theta, count, dim=5):
    """Pairs of vectors at an angle of theta, of any length."""
    first, other = torch.randn(2, count, dim, dtype=torch.float64)
    first = first / first.norm(dim=-1, keepdim=True)
    across = other - (other * first).sum(-1, keepdim=True) * first
    across = across / across.norm(dim=-1, keepdim=True)
    return 7 * first, 0.3 * (math.cos(theta) * first + math.sin(theta) * across)


def test_codes_are_the_packed_signs():
    search = make()
    vectors = torch.randn(2, 7, 5)
    signs = (vectors.double() @ search.planes.double() > 0).numpy()
    assert (search.codes(vectors).numpy() == np.packbits(signs, axis=-1, bitorder="little")).all()
    assert search.codes(vectors[0, 0]).shape == (3,)


def test_the_zero_vector_is_on_the_negative_side_of_all_planes():
    assert make().codes(torch.zeros(5)).tolist() == [0, 0, 0]


def test_distances_of_packed_codes_are_those_of_their_bits():
    codes = torch.arange(256, dtype=torch.uint8)
    together = torch.stack([codes, codes.flip(0), codes * 3], -1)
    bits = np.unpackbits(together.numpy(), axis=-1)
    expected = (bits[:, None] != bits[None]).sum(-1)
    assert (hamming_distances(together, together).numpy() == expected).all()


def test_all_bits_of_a_byte_count_the_highest_too():
    one = torch.tensor([[0x80] * 8], dtype=torch.uint8)
    assert hamming_distances(one, torch.zeros_like(one)).item() == 8
    assert hamming_distances(~torch.zeros_like(one), torch.zeros_like(one)).item() == 64


@pytest.mark.parametrize("theta", [0.1, 1.0, math.pi / 2, 2.5, math.pi])
def test_bits_differ_with_probability_theta_by_pi(theta):
    torch.manual_seed(1)
    left, right = at_angle(theta, 200)
    bits, share = 4096, theta / math.pi
    search = SimHashSearch(5, num_bits=bits, k=1).double()
    codes = (search.codes(x).unsqueeze(1) for x in (left, right))
    differing = hamming_distances(*codes).flatten() / bits
    # The pairs share their planes, so only the bits of one pair are independent.
    assert (differing - share).abs().max() < 5 * (share * (1 - share) / bits) ** 0.5 + 1e-9


@pytest.mark.parametrize("length", [11, 1283])
@pytest.mark.parametrize("num_bits", [8, 64, 264])
def test_the_product_finds_what_counting_bits_finds(length, num_bits):
    """With 8 bits nearly all distances are ties, which go to the earlier event."""
    search = make(num_bits, k=7)
    query, keys = torch.randn(2, 3, 5), torch.randn(2, length, 5)
    keys[0, 4] = query[0, 1] = 0
    mask = torch.arange(length) < torch.tensor([[length], [9]])
    found, expected = search(query, keys, mask), search.reference(query, keys, mask)
    assert torch.equal(found.places, expected.places)
    assert torch.equal(found.mask, expected.mask)
    bits = [np.unpackbits(search.codes(x).numpy(), axis=-1) for x in (query, keys)]
    distances = (bits[0][:, :, None] != bits[1][:, None]).sum(-1)
    for row, real in enumerate((length, 9)):
        for i in range(3):
            best = sorted(np.argsort(distances[row, i, :real], kind="stable")[:7].tolist())
            assert found.places[row, i][found.mask[row, i]].tolist() == best


def test_codes_stand_for_vectors_on_either_side():
    search = make(k=5)
    query, keys = torch.randn(2, 3, 5), torch.randn(2, 17, 5)
    expected = search(query, keys).places
    for asked in (query, search.codes(query)):
        for offered in (keys, search.codes(keys)):
            assert torch.equal(search(asked, offered).places, expected)
            assert torch.equal(search.reference(asked, offered).places, expected)


def test_length_of_vectors_does_not_count():
    search = make(k=2)
    query, keys = torch.randn(1, 3, 5), torch.randn(1, 17, 5)
    assert torch.equal(search(query * 9, keys * torch.rand(17, 1) + keys * 0.01).places, search(query, keys).places)


def test_planes_are_the_same_in_every_pass_and_in_a_saved_model():
    """The trap: hashes drawn anew on each forward, or kept where no saved model has them."""
    search = make()
    vectors = torch.randn(7, 5)
    codes = search.codes(vectors)
    assert torch.equal(search.codes(vectors), codes)
    assert list(search.state_dict()) == ["planes"]
    assert not list(search.parameters())
    torch.manual_seed(1)
    twin = SimHashSearch(5, num_bits=24, k=3)
    assert not torch.equal(twin.codes(vectors), codes)
    twin.load_state_dict(search.state_dict())
    assert torch.equal(twin.codes(vectors), codes)
    twin.redraw()
    assert not torch.equal(twin.codes(vectors), codes)


def test_half_precision_vectors_have_the_codes_of_what_they_hold():
    search = make()
    vectors = torch.randn(5000, 5).half()
    assert torch.equal(search.codes(vectors), search.codes(vectors.float()))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_bits": 12}, "num_bits must be a multiple of 8, got 12"),
        ({"num_bits": 0}, "num_bits must be an integer >= 1, got 0"),
        ({"k": 0}, "k must be an integer >= 1, got 0"),
        ({"dim": 0}, "dim must be an integer >= 1, got 0"),
    ],
)
def test_wrong_arguments_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        make(**wrong)


def test_codes_of_another_search_are_refused():
    with pytest.raises(ConfigError, match="codes must be of 3 bytes for num_bits=24, got 2"):
        make()(torch.randn(1, 1, 5), make(num_bits=16).codes(torch.randn(1, 7, 5)))
