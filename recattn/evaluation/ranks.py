"""Scores -> the rank of each target."""

from torch import Tensor

from recattn.errors import ConfigError


def target_ranks(scores: Tensor, targets: Tensor, seen: Tensor | None = None) -> Tensor:
    """The rank of each target in the whole catalogue: 1 + the number of candidates that score at least as much.

        rank_b = 1 + #{ c : c is a candidate, c != t_b, not (s_b[c] < s_b[t_b]) }

    Candidates are the items 1 .. num_items without those in ``seen``. The target itself always stays a candidate,
    even when it was seen before (a repeat). Ties count against the target, so that a constant scorer puts it last;
    the comparison is written as *not lower*, so that a NaN counts against the target too, and a target whose own
    score is NaN comes last.

    scores: (batch, num_items + 1), higher is better, any float; column 0 is padding and never counts.
    targets: (batch,) item ids, 1 to num_items.
    seen: (batch, length) item ids to leave out, 0 for padding, repeats allowed; None leaves nothing out.
    Returns (batch,) int64 on the device of the scores. It takes one boolean (batch, num_items + 1) of memory.
    Raises ConfigError where shapes or ids do not fit.

    >>> import torch
    >>> scores = torch.tensor([[9.0, 0.5, 0.2, 0.5, 0.9]])
    >>> [target_ranks(scores, torch.tensor([1]), seen).item() for seen in (None, torch.tensor([[4]]))]
    [3, 2]
    """
    if scores.ndim != 2 or targets.shape != scores.shape[:1]:
        raise ConfigError(
            f"scores {tuple(scores.shape)} and targets {tuple(targets.shape)} do not fit: "
            "they must be (batch, num_items + 1) and (batch,)"
        )
    if seen is not None and (seen.ndim != 2 or len(seen) != len(scores)):
        raise ConfigError(f"seen is {tuple(seen.shape)}: it must be ({len(scores)}, length)")
    num_items = scores.shape[1] - 1
    if len(targets) and not 1 <= int(targets.min()) <= int(targets.max()) <= num_items:
        raise ConfigError(f"targets are {int(targets.min())} to {int(targets.max())}: allowed are 1 to {num_items}")
    targets = targets.to(scores.device)[:, None]
    not_below = (scores < scores.gather(1, targets)).logical_not_()
    not_below[:, 0] = False
    if seen is not None:
        not_below.scatter_(1, seen.to(scores.device), value=False)
    not_below.scatter_(1, targets, value=False)
    return not_below.sum(1) + 1
