"""The events with the nearest hash codes: a few bytes an item in place of its vector."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.errors import ConfigError
from recattn.nn.attended import full_mask
from recattn.nn.checks import check_count
from recattn.nn.search.found import Found, best_found
from recattn.nn.search.hashing import sides


class SimHashSearch(nn.Module):
    """The k events whose codes differ from the query's in the fewest bits; equal distances go to the earlier event.

    code(x) = sign(x R) with R (dim, num_bits) drawn once from N(0, 1). A bit of two vectors at an angle theta is equal
    with probability 1 - theta / pi, so few differing bits mean a large cosine. ETA (Chen et al. 2021, section 3.3).

    dim: width of query and keys, which live in one space. num_bits: a multiple of 8. k: >= 1, how many events are found
    at most. Raises ConfigError otherwise.

    `codes` packs a vector into num_bits / 8 bytes, which depend on the item alone: compute them once an item, store
    them and pass them as keys in place of the vectors (again whenever the vectors have changed, or `redraw` was
    called). R is a buffer: the same in every pass and in a saved model.

    Forward compares by a product on fast matrix kernels: of the query's signs with a key's bits, which is how many of
    the query's bits are 1, less how many bits differ. `reference` does what is meant, XOR and a count of bits. Measured
    on one core with 64 queries, 64 bits and 1e4 events, codes given: 0.9 ms against 5 ms for XOR in its best form (in
    blocks of int64). Fewer than k real events: all of them. No gradient. Cost: queries x length x num_bits; codes of
    new vectors are a product with R.

    >>> search = SimHashSearch(3, num_bits=16, k=2)
    >>> keys = torch.tensor([[[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0], [2.0, 4.0, 6.0]]])
    >>> search.codes(keys).shape, search(keys[:, :1], search.codes(keys)).places.tolist()
    (torch.Size([1, 3, 2]), [[[0, 2]]])
    """

    planes: Tensor
    bits_of_byte: Tensor

    def __init__(self, dim: int, *, num_bits: int = 64, k: int) -> None:
        super().__init__()
        check_count("dim", dim)
        check_count("num_bits", num_bits)
        if num_bits % 8:
            raise ConfigError(f"num_bits must be a multiple of 8, got {num_bits}")
        check_count("k", k)
        self.dim, self.num_bits, self.k = dim, num_bits, k
        self.register_buffer("planes", torch.empty(dim, num_bits))
        bits = (torch.arange(256).unsqueeze(-1) >> torch.arange(8)) % 2
        self.register_buffer("bits_of_byte", bits.float(), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw R."""
        self.redraw()

    def redraw(self) -> None:
        """Draw R anew from N(0, 1). Codes made before are then without meaning."""
        nn.init.normal_(self.planes)

    def codes(self, vectors: Tensor) -> Tensor:
        """Vectors (..., dim) to codes, uint8 (..., num_bits / 8): bit i of byte b is the side of plane 8 b + i."""
        bits = sides(vectors, self.planes).unflatten(-1, (-1, 8)).to(torch.uint8)
        codes: Tensor = (bits << torch.arange(8, dtype=torch.uint8, device=bits.device)).sum(-1, dtype=torch.uint8)
        return codes

    @torch.no_grad()
    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        mask: Tensor | None = None,
        *,
        bias: Tensor | None = None,  # noqa: ARG002
    ) -> Found:
        """Find events.

        query: (batch, queries, dim), keys: (batch, length, dim); either may be codes, uint8 (..., num_bits / 8).
        mask: bool, (batch, length) or (batch, queries, length), True for real; None: all real.
        bias: not looked at, as distances of codes are no scores; it is there for one signature.
        Raises ConfigError for codes of another width.
        """
        signs = self._bits(query) * 2 - 1
        return best_found(signs @ self._bits(keys).mT, full_mask(mask, keys), self.k)

    @torch.no_grad()
    def reference(self, query: Tensor, keys: Tensor, mask: Tensor | None = None) -> Found:
        """The specification of forward: the k smallest Hamming distances."""
        query, keys = (x if x.dtype == torch.uint8 else self.codes(x) for x in (query, keys))
        return best_found(-hamming_distances(query, keys), full_mask(mask, keys), self.k)

    def _bits(self, x: Tensor) -> Tensor:
        """Vectors or codes to bits, 1.0 or 0.0: (..., num_bits). Sums of them are exact in fp32."""
        if x.dtype == torch.uint8:
            if x.shape[-1] * 8 != self.num_bits:
                raise ConfigError(
                    f"codes must be of {self.num_bits // 8} bytes for num_bits={self.num_bits}, got {x.shape[-1]}"
                )
            return F.embedding(x.int(), self.bits_of_byte.float()).flatten(-2)
        return sides(x, self.planes).float()

    def extra_repr(self) -> str:
        return f"dim={self.dim}, num_bits={self.num_bits}, k={self.k}"


def hamming_distances(query: Tensor, keys: Tensor) -> Tensor:
    """In how many bits do codes (..., queries, bytes) and (..., length, bytes) differ? int64 (..., queries, length).

    >>> hamming_distances(torch.tensor([[7, 255]], dtype=torch.uint8), torch.tensor([[5, 0]], dtype=torch.uint8))
    tensor([[9]])
    """
    x = query.unsqueeze(-2) ^ keys.unsqueeze(-3)
    # torch has no count of bits: add them up in pairs, in fours, in eights.
    x = (x & 0x55) + ((x >> 1) & 0x55)
    x = (x & 0x33) + ((x >> 2) & 0x33)
    return ((x & 0x0F) + (x >> 4)).sum(-1, dtype=torch.int64)
