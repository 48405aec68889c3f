"""The activation unit of one Dice layer where it only answers: many queries of one history at a time.

With W = [W1 W2 W3 W4] the hidden layer of query q is linear in the key, M_q k + a_q (see `dice_pairs`), so for all
queries of a history it is one product [keys, 1] [M_q, a_q]^T. Dice's statistics stand still, and what follows is

    score = Σ_h w_h (α_h z_h + (1 - α_h) z_h σ((z_h - mean_h) / deviation_h)) + b

which reads the hidden layer three times in place of ten.
"""

import torch
from torch import Tensor

from recattn.nn.dense.dice import Dice
from recattn.nn.scorers.pairs import CACHE_ELEMENTS


def unit_scores(query: Tensor, keys: Tensor, first: torch.nn.Linear, dice: Dice, last: torch.nn.Linear) -> Tensor:
    """Scores (queries, length) of query (queries, dim) and keys (length, dim); no gradient is recorded."""
    of_query, of_key, of_difference, of_product = first.weight.chunk(4, dim=1)
    asked = torch.nn.functional.linear(query, of_query + of_difference, first.bias)
    of_key = of_key - of_difference
    offered = torch.cat([keys, keys.new_ones(len(keys), 1)], 1)
    scale = (dice.running_var + dice.eps).rsqrt()
    shift = -dice.running_mean * scale
    straight, gated = (last.weight[0] * part for part in (dice.alpha, 1 - dice.alpha))
    width, dim = of_key.shape
    step = min(len(query), max(1, CACHE_ELEMENTS // max(1, len(keys) * width)))
    # Every block is worked on in the same memory: fresh pages cost more than the arithmetic.
    matrices = query.new_empty(step, width, dim + 1)  # [M_q, a_q] of a block of queries
    hidden, gate = query.new_empty(2, len(keys), step * width)
    scores = query.new_empty(len(keys), len(query))
    for start in range(0, len(query), max(1, step)):
        some = query[start : start + step, None]
        block, out = matrices[: len(some)], hidden[:, : len(some) * width]
        torch.addcmul(of_key, of_product, some, out=block[..., :dim])
        block[..., dim] = asked[start : start + step]
        z = torch.mm(offered, block.flatten(0, 1).T, out=out).view(len(keys), len(some), width)
        gated_z = torch.addcmul(shift, z, scale, out=gate[:, : len(some) * width].view_as(z)).sigmoid_().mul_(z)
        torch.add(z @ straight, gated_z @ gated, out=scores[:, start : start + step])
    return scores.T + last.bias
