"""A batch as large as the optimiser wants it, in the memory of a piece of it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable


def sum_of_losses(losses: Sequence[Callable[[], Tensor]], parameters: Iterable[nn.Parameter]) -> Tensor:
    """Σ_i losses[i](), with its gradients: each loss has its backward pass before the next is computed.

    What a loss keeps for its backward pass is gone by then, so memory is that of the largest one alone.

    losses: functions without arguments that return a scalar, one or more. parameters: all that is trained; where there
        are several losses nothing else gets a gradient, and the sum can be differentiated once.

    >>> weight = nn.Parameter(torch.tensor(3.0))
    >>> sum_of_losses([lambda: weight**2, lambda: 2 * weight], [weight]).backward()
    >>> weight.grad
    tensor(8.)
    """
    if len(losses) == 1:
        return losses[0]()
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    total: Tensor = _SumOfLosses.apply(losses, *trained)  # type: ignore[no-untyped-call]
    return total


class _SumOfLosses(torch.autograd.Function):
    """The gradient of a sum is the sum of the gradients, which need not wait for the last loss."""

    @staticmethod
    def forward(ctx: FunctionCtx, losses: Sequence[Callable[[], Tensor]], *parameters: Tensor) -> Tensor:
        values: list[Tensor] = []
        gradients: list[Any] = [None] * len(parameters)
        for compute in losses:
            with torch.enable_grad():
                loss = compute()
            values.append(loss.detach())
            with torch.autocast(loss.device.type, enabled=False):  # which is for forward passes
                found = torch.autograd.grad(loss, parameters, allow_unused=True)
            for place, more in enumerate(found):
                if more is not None:  # None: this loss has no use for the parameter
                    gradients[place] = more if gradients[place] is None else gradients[place] + more
        ctx.save_for_backward(*gradients)
        return torch.stack(values).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor | None, ...]:
        found = ctx.saved_tensors  # type: ignore[attr-defined]
        return (None, *(None if one is None else one * slope.to(one.dtype) for one in found))
