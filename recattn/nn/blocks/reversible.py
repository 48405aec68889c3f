"""The reversible encoder: a stack of any depth that keeps the activations of no block."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import get_device_states, set_device_states

from recattn.nn.attended import fill_masked
from recattn.nn.blocks.encoder import Encoded, ask_itself, block_biases, check_width, fresh_copy, reset_parts
from recattn.nn.checks import check_choice, check_count, check_fraction
from recattn.nn.dense.dropout import dropout
from recattn.nn.dense.feed_forward import FEED_FORWARD_ACTIVATIONS, FeedForward, FeedForwardActivation


class ReversibleBlock(nn.Module):
    """y1 = x1 + attention(norm(x2)), y2 = x2 + feed-forward(norm(y1)): the two changes, which an encoder adds up."""

    def __init__(
        self,
        dim: int,
        *,
        attention: nn.Module,
        hidden_dim: int | None,
        feed_forward: FeedForwardActivation,
        dropout: float,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = fresh_copy(attention)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, hidden_dim=hidden_dim, activation=feed_forward, dropout=dropout)

    def attend(
        self, x2: Tensor, mask: Tensor | None, bias: Tensor | None, *, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """What is added to x1, and the weights if they are needed."""
        asked = self.attention_norm(x2.to(self.attention_norm.weight.dtype))
        output, weights = ask_itself(self.attention, asked, mask, bias=bias, need_weights=need_weights)
        return dropout(output, self.dropout, self.training).double(), weights

    def feed(self, y1: Tensor) -> Tensor:
        """What is added to x2."""
        output = self.feed_forward(self.feed_forward_norm(y1.to(self.feed_forward_norm.weight.dtype)))
        return dropout(output, self.dropout, self.training).double()

    def attention_parameters(self) -> list[nn.Parameter]:
        return _trained(self.attention_norm, self.attention)

    def feed_forward_parameters(self) -> list[nn.Parameter]:
        return _trained(self.feed_forward_norm, self.feed_forward)


class ReversibleEncoder(nn.Module):
    """Two streams through every block: y1 = x1 + Attention(norm(x2)), y2 = x2 + FeedForward(norm(y1)).

    Gomez et al. 2017; Kitaev et al. 2020, section 3. Both streams begin as the input; the output is
    norm((x1 + x2) / 2) after the last block. Going back, x2 = y2 - FeedForward(norm(y1)) and
    x1 = y1 - Attention(norm(x2)): training keeps the last streams only, and memory for activations does not grow with
    the depth. The backward pass runs each block once more for it.

    dim: width, >= 1. attention: a layer from and to width dim; each block gets a copy of its own, freshly initialised.
    num_layers: >= 1. hidden_dim: of the feed-forward network, by default 4 dim.
    feed_forward: its activation, ``"relu"``, ``"gelu"``, ``"silu"`` or ``"swiglu"``.
    dropout: in [0, 1), of what attention and feed-forward give and of the hidden layer, training only; the second run
        of a block draws the same one. Raises ConfigError for values outside of these.

    The streams are float64 (which the device must have), whatever the layers are: what is lost in going back is below
    the digits of a float32 layer. So a block is run again on the very numbers it saw, and what jumps (the buckets of
    ReformerAttention, a top k) does not jump between the passes; float64 layers see them to rounding. Running
    statistics of an attention are updated by both runs.
    Plain layers, which keep everything, are what is run where weights are asked for, and under torch.compile and
    torch.export, which can't follow. The reversed pass is differentiable once.

    >>> from recattn.nn import ReformerAttention
    >>> encoder = ReversibleEncoder(6, attention=ReformerAttention(6, num_heads=2, num_buckets=4), num_layers=5)
    >>> encoder(torch.ones(3, 7, 6), torch.ones(3, 7, dtype=torch.bool)).output.shape
    torch.Size([3, 7, 6])
    """

    def __init__(
        self,
        dim: int,
        *,
        attention: nn.Module,
        num_layers: int,
        hidden_dim: int | None = None,
        feed_forward: FeedForwardActivation = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_count("dim", dim)
        check_count("num_layers", num_layers)
        check_choice("feed_forward", feed_forward, FEED_FORWARD_ACTIVATIONS)
        check_fraction("dropout", dropout)
        check_width("attention", attention, dim)
        self.dim, self.num_layers, self.hidden_dim, self.dropout = dim, num_layers, hidden_dim, dropout
        self.feed_forward: FeedForwardActivation = feed_forward
        self.blocks = nn.ModuleList(
            ReversibleBlock(dim, attention=attention, hidden_dim=hidden_dim, feed_forward=feed_forward, dropout=dropout)
            for _ in range(num_layers)
        )
        self.last_norm = nn.LayerNorm(dim)

    @property
    def attention(self) -> nn.Module:
        """The first block's attention: what the argument was, with weights of its own."""
        return cast("ReversibleBlock", self.blocks[0]).attention

    @property
    def causal(self) -> bool:
        """Whether position i sees positions 0..i only."""
        return bool(getattr(self.attention, "causal", False))

    def reset_parameters(self) -> None:
        """Every part to its own start."""
        reset_parts(self)

    def forward(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        *,
        bias: Tensor | Sequence[Tensor] | None = None,
        need_weights: bool = False,
    ) -> Encoded:
        """Encode.

        inputs: (batch, length, dim). mask: bool (batch, length), True for real, or (batch or 1, length, length) where
            each position sees its own part (nothing is padding then); None: all real.
        bias: broadcasts to (batch, heads, length, length), for all blocks alike, or one such tensor for each block.
        Raises ConfigError for another number of biases than blocks, and for what the attention refuses.
        """
        biases = block_biases(bias, self.num_layers)
        blocks = [cast("ReversibleBlock", block) for block in self.blocks]
        x, weights = inputs.double(), []
        if need_weights or torch.compiler.is_compiling():
            x1 = x2 = x
            for block, added in zip(blocks, biases, strict=True):
                change, found = block.attend(x2, mask, added, need_weights=need_weights)
                x1 = x1 + change
                x2 = x2 + block.feed(x1)
                if found is not None:
                    weights.append(found)
        else:
            parameters = [p for b in blocks for p in (*b.attention_parameters(), *b.feed_forward_parameters())]
            x1, x2 = _Reversed.apply(blocks, x, mask, *biases, *parameters)  # type: ignore[no-untyped-call]
        output = self.last_norm(((x1 + x2) / 2).to(self.last_norm.weight.dtype)).to(inputs.dtype)
        kept = None if mask is None or mask.dim() == 3 else mask.unsqueeze(-1)
        return Encoded(fill_masked(output, kept, 0.0), tuple(weights))


class _Reversed(torch.autograd.Function):
    """Both streams after the last block; the backward pass goes through the blocks again, from their outputs."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        blocks: list[ReversibleBlock],
        x: Tensor,
        mask: Tensor | None,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        x1, x2, replays = x, x, []
        for block, bias in zip(blocks, tensors[: len(blocks)], strict=True):
            to_attend = _Replay(x)
            x1 = x1 + _attend(block, mask, bias, x2)
            to_feed = _Replay(x)
            x2 = x2 + block.feed(x1)
            replays.append((to_attend, to_feed))
        ctx.save_for_backward(x1, x2, mask, *tensors)  # parameters as well: it tells where they were changed meanwhile
        ctx.blocks, ctx.replays = blocks, replays
        return x1, x2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad1: Tensor, grad2: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x1, x2, mask, *tensors = ctx.saved_tensors
        of_biases: list[Tensor | None] = []
        of_parameters: list[Tensor | None] = []
        for number in reversed(range(len(ctx.blocks))):
            block, bias, (to_attend, to_feed) = ctx.blocks[number], tensors[number], ctx.replays[number]
            with to_feed.again():
                change, grad, of_feed = _pulled(block.feed, x1, block.feed_forward_parameters(), grad2)
            x2, grad1 = x2 - change, grad1 + grad
            added = None if bias is None else bias.detach().requires_grad_(bias.requires_grad)
            learned = [added] if added is not None and added.requires_grad else []
            with to_attend.again():
                attend = partial(_attend, block, mask, added)
                change, grad, found = _pulled(attend, x2, [*learned, *block.attention_parameters()], grad1)
            x1, grad2 = x1 - change, grad2 + grad
            of_biases.insert(0, found[0] if learned else None)
            of_parameters[:0] = [*found[len(learned) :], *of_feed]
        return None, grad1 + grad2, None, *of_biases, *of_parameters


def _trained(*parts: nn.Module) -> list[nn.Parameter]:
    return [parameter for part in parts for parameter in part.parameters() if parameter.requires_grad]


def _attend(block: ReversibleBlock, mask: Tensor | None, bias: Tensor | None, x2: Tensor) -> Tensor:
    return block.attend(x2, mask, bias, need_weights=False)[0]


def _pulled(
    sublayer: Callable[[Tensor], Tensor], x: Tensor, others: Sequence[Tensor], grad: Tensor
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """What a sublayer gives for x, and the gradients of x and of the other tensors in it."""
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        change = sublayer(leaf)
    of_x, *of_others = torch.autograd.grad(change, [leaf, *others], grad, allow_unused=True)
    return change.detach(), of_x, list(of_others)


class _Replay:
    """The random state and the autocast setting of a moment, to run something again as it was run then."""

    def __init__(self, x: Tensor) -> None:
        kind = x.device.type
        self.kind, self.low, self.enabled = kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
        self.state = torch.get_rng_state()
        self.devices, self.device_states = get_device_states(x)

    @contextmanager
    def again(self) -> Iterator[None]:
        autocast = torch.autocast(self.kind, self.low, enabled=self.enabled)
        with torch.random.fork_rng(self.devices, device_type=self.kind), autocast:
            torch.set_rng_state(self.state)
            set_device_states(self.devices, self.device_states, device_type=self.kind)
            yield
