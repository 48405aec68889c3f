"""What distance and time say about how much one event of a sequence weighs for another, block by block."""

import math
from typing import cast

from torch import Tensor, nn

from recattn.batch import History
from recattn.models.event_embedding import last_time
from recattn.nn import RelativePositionBias, TimeBias, query_times, sequence_distances
from recattn.nn.positions.tables import look_up

TIME_BASE, TIME_BUCKETS = math.exp(0.301), 108
"""HSTU's research code: bucket floor(ln(gap) / 0.301), so each is 1.35 times as wide as the one before; 108 of them
(one is for no gap at all) reach 10^13.8 s and leave nothing out."""


class SequenceBias(nn.Module):
    """bias_h(i, j) = position_h[i - j] + time_h[bucket(asked_i - t_j)], anew in each block, for a causal encoder.

    Zhai et al. 2024 (HSTU), the bias rab^{p,t}. As a bias of the scores it is also what TiSASRec's intervals (Li et al.
    2020) come to without an embedding for each pair, which would cost length² · dim.

    num_layers, num_heads: of the encoder. max_length: distances from there on are one.
    relative: whether there is a bias of the distance in steps. times: whether there is one of the time passed.
    request: whether place i asks when the next event happens, or at its own event's time (see `query_times`).
    """

    def __init__(
        self, num_layers: int, num_heads: int, *, max_length: int, relative: bool, times: bool, request: bool
    ) -> None:
        super().__init__()
        self.request = request
        layers = range(num_layers)
        self.position = nn.ModuleList(RelativePositionBias(num_heads, max_length - 1) for _ in layers if relative)
        self.time = nn.ModuleList(
            TimeBias(num_heads=num_heads, num_buckets=TIME_BUCKETS, base=TIME_BASE) for _ in layers if times
        )

    def reset_parameters(self) -> None:
        """The tables to starts of their own."""
        for part in (*self.position, *self.time):
            part.reset_parameters()

    def forward(self, history: History, now: Tensor | None = None) -> list[Tensor] | None:
        """A bias (batch or 1, heads, length, length) for each block; None where there is none.

        now: (batch,) int64 seconds, when the request comes. A history without times is done without them.
        """
        biases: list[Tensor] = []
        if len(self.position):
            distances = sequence_distances(history.items.shape[1], device=history.items.device)
            biases = [layer(distances) for layer in self.position]
        if len(self.time) and history.times is not None:
            asked = history.times
            if self.request:
                asked = query_times(asked, history.mask, now=last_time(history) if now is None else now)
            layers = [cast("TimeBias", layer) for layer in self.time]
            buckets = layers[0].buckets(history.times, asked)  # the same in each block
            of_time = [look_up(layer.table, buckets) for layer in layers]
            biases = [p + t for p, t in zip(biases, of_time, strict=True)] if biases else of_time
        return biases or None
