"""Parts of a history, and what belongs to a part moved to where it stands in the whole."""

import torch
from torch import Tensor
from torch.nn import functional as F

from recattn.batch import History


def window(history: History, positions: Tensor, width: int) -> tuple[History, Tensor]:
    """The last ``width`` events before each position, as a history of its own.

    positions: (batch, positions), at position p the first p events are visible.
    Returns a History of batch x positions rows, and where each begins in its history, (batch, positions).

    >>> history = History(torch.tensor([[5, 7, 9]]), torch.tensor([3]))
    >>> windows, starts = window(history, torch.tensor([[1, 3]]), 2)
    >>> windows.items.tolist(), windows.lengths.tolist(), starts.tolist()
    ([[5, 0], [7, 9]], [1, 2], [[0, 1]])
    """
    width = min(width, history.items.shape[1])
    starts = (positions - width).clamp(min=0)
    lengths = (positions - starts).flatten()
    steps = torch.arange(width, device=positions.device)
    real = steps < lengths[:, None]
    index = torch.where(real, starts.flatten()[:, None] + steps, 0)
    rows = torch.arange(len(positions), device=positions.device).repeat_interleave(positions.shape[1])[:, None]

    windows = history.rearranged(lambda values: values[rows, index] * real, lengths)
    profile = None if history.profile is None else history.profile[rows[:, 0]]
    return windows._replace(profile=profile), starts


def leave_out(history: History, events: Tensor) -> History:
    """Every history without the event at one place, for each of several places.

    events: (events,) places from 0. A history too short to have it loses nothing.
    Returns a History of events x batch rows.

    >>> leave_out(History(torch.tensor([[5, 7, 9]]), torch.tensor([3])), torch.tensor([0, 1])).items.tolist()
    [[7, 9, 0], [5, 9, 0]]
    """
    steps = torch.arange(history.items.shape[1], device=events.device)
    index = steps + (steps >= events[:, None])

    def without(values: Tensor) -> Tensor:
        return F.pad(values, (0, 1))[:, index].transpose(0, 1).flatten(0, 1)

    lengths = history.lengths - (history.lengths > events[:, None]).long()
    profile = None if history.profile is None else history.profile.repeat(len(events), 1)
    return history.rearranged(without, lengths.flatten())._replace(profile=profile)


def put_back(values: Tensor, starts: Tensor, length: int) -> Tensor:
    """Values (batch, moments, ..., width) of windows, moved to where each stands: (batch, moments, ..., length).

    starts: (batch, moments), where each window begins; 0 outside of it.

    >>> put_back(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[1]]), 4).tolist()
    [[[0.0, 1.0, 2.0, 0.0]]]
    """
    width = values.shape[-1]
    columns = starts[..., None] + torch.arange(width, device=starts.device)
    columns = columns.view(*starts.shape, *[1] * (values.dim() - 3), width).expand_as(values)
    wide = values.new_zeros(*values.shape[:-1], length + width).scatter(-1, columns, values)
    return wide[..., :length]
