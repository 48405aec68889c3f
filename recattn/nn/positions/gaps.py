"""How much time lies between an event and the moment of asking: whole seconds, in int64.

Epoch seconds do not fit into fp32, which is 128 s apart there: differences come first, floats after.
"""

import math

import torch
from torch import Tensor

from recattn.errors import ConfigError


def time_gaps(times: Tensor, now: Tensor) -> Tensor:
    """How many seconds before ``now``: now - time, and 0 for an event after it.

    times: (batch, length), now: (batch,) or (batch, queries), when it is asked; integer seconds.
    Returns int64 (batch, 1 or queries, length). Raises ConfigError for times that are not integers.

    >>> time_gaps(torch.tensor([[1_700_000_000, 1_700_000_007]]), torch.tensor([1_700_000_006])).tolist()
    [[[6, 0]]]
    """
    if times.is_floating_point() or now.is_floating_point():
        raise ConfigError(f"times and now must be integers (seconds), got {times.dtype} and {now.dtype}")
    now = now.unsqueeze(1) if now.dim() == 1 else now
    return (now.long().unsqueeze(-1) - times.long().unsqueeze(-2)).clamp(min=0)


def bucket_edges(num_buckets: int, base: float = 2.0) -> Tensor:
    """Where buckets of gaps begin that widen by a factor: bucket 0 is below the first edge, a gap of 0.

    gap >= base^i just when gap >= ceil(base^i), as gaps are whole seconds. Returns int64 (num_buckets - 1,), for
    ``torch.bucketize(gaps, edges, right=True)``.

    >>> torch.bucketize(torch.tensor([0, 1, 2, 3, 4, 10**12]), bucket_edges(5), right=True).tolist()
    [0, 1, 2, 2, 3, 4]
    """
    return torch.tensor([math.ceil(base**i) for i in range(num_buckets - 1)])


def query_times(times: Tensor, mask: Tensor | None = None, *, now: Tensor | None = None) -> Tensor:
    """When each place of a causal encoder asks: the ``now`` that makes a time bias fit a sequence on itself.

    now None: at its own event. Such an encoder is blind to the time that passes until what it is to predict.
    now (batch,): when the NEXT event happens, and for the last real event at ``now``, the time of the request. This is
        what HSTU's research code does (Zhai et al. 2024). Place i may know the time of event i + 1 because it is asked
        about that event, at that time; so a model trained like this must be given the time of the request when it
        serves, not the time of the last event. Seen from place i its own event then has a gap above 0.
    times: (batch, length) integer seconds, right-padded. mask: bool (batch, length), True for real; None: all real.
    Returns (batch, length); what padding asks has no meaning.

    >>> times, mask = torch.tensor([[10, 20, 50, 0]]), torch.tensor([[True, True, True, False]])
    >>> query_times(times, mask, now=torch.tensor([90]))[0, :3].tolist()
    [20, 50, 90]
    """
    if now is None:
        return times
    request = now.unsqueeze(1)
    following = times if mask is None else torch.where(mask, times, request)
    return torch.cat([following[:, 1:], request], 1)[:, : times.shape[1]]
