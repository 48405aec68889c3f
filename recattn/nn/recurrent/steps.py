"""One step after another: the loop of a recurrent layer, over the real steps of each row alone, or to be captured."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class RealSteps(NamedTuple):
    """The steps that a recurrent layer has to take: a row with few events takes few.

    Rows go by their last real event, the latest first, so that those still on their way are always the first ones.

    order: (batch,), the rows in that order. places: (steps,), where in (batch x length) each step finds its event: the
    first step of all rows, then the second of all that have one, ... sizes: how many rows take part, for each of the
    ``length`` steps.
    """

    order: Tensor
    places: Tensor
    sizes: list[int]

    @classmethod
    def of(cls, inputs: Tensor, mask: Tensor | None) -> "RealSteps":
        """inputs: (batch, length, dim). mask: bool, (batch, length), True for real; None: all real.

        Everything counts as real where the mask is not on a CPU: to read it there would make the device wait.
        """
        batch, length, _ = inputs.shape
        places = torch.arange(batch * length, device=inputs.device).view(batch, length)
        if mask is None or not mask.is_cpu or length == 0:
            return cls(torch.arange(batch, device=inputs.device), places.T.flatten(), [batch] * length)
        steps = torch.arange(length)
        ends = ((steps + 1) * mask).amax(1).clamp(min=1)
        order = ends.argsort(descending=True, stable=True)
        taken = steps[:, None] < ends[order]  # (length, batch)
        return cls(order, places[order].T[taken], taken.sum(1).tolist())

    def pack(self, events: Tensor) -> Tensor:
        """(batch, length, ...) to (steps, ...)."""
        return events.flatten(0, 1).index_select(0, self.places)


def packed_loop(
    step: Callable[..., Tensor], state: Tensor, packed: tuple[Tensor, ...], rows: RealSteps, *, need_states: bool
) -> tuple[Tensor | None, Tensor]:
    """For each step: state = step(state, *events), for the rows that have an event there.

    state: (batch, ...), the first one. packed: (steps, ...), as `RealSteps.pack` makes them.
    Returns the states (length, batch, ...), if they are needed, and the last one, (batch, ...).
    """
    found: list[Tensor] = []
    state = state.index_select(0, rows.order)
    ended = state[:0]
    # The gradient of a split is one tensor, where that of slices would be one of all steps for each step.
    for size, *events in zip(rows.sizes, *(x.split(rows.sizes) for x in packed), strict=True):
        if size < len(state):
            state, ending = state.split([size, len(state) - size])
            ended = torch.cat([ending, ended])
        state = step(state, *events) if size else state
        if need_states:
            found.append(torch.cat([state, ended]))
    back = rows.order.argsort()
    last = torch.cat([state, ended]).index_select(0, back)
    if not need_states:
        return None, last
    return (torch.stack(found) if found else last.new_zeros(0, *last.shape)).index_select(1, back), last


def captured_loop(step: Callable[..., Tensor], state: Tensor, events: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """The same loop for torch.export and torch.compile, which would write out a Python loop for one length alone.

    state: (batch, ...). events: (length, batch, ...), length at least 1.
    Returns the states (length, batch, ...) and the last one.

    torch has no public name for ``scan`` yet; nothing public captures a loop whose length is not fixed.
    """
    from torch._higher_order_ops import scan

    def advance(carry: Tensor, now: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        carry = step(carry, *now)
        return carry, carry.clone()

    if torch.compiler.is_dynamo_compiling():
        last, states = scan(advance, state, events)
        return states, last
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch, exporting a scan, warns itself of
        last, states = scan(advance, state, events)
    return states, last
