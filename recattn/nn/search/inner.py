"""The attention behind a search or a summary: any layer of recattn.nn that is not causal."""

from typing import Protocol, cast

from torch import Tensor, nn

from recattn.errors import ConfigError
from recattn.nn.attended import Attended, WeightsKind


class AttentionLayer(Protocol):
    """Any layer of recattn.nn: ``layer(query, keys, values, mask, bias=..., need_weights=...)`` to `Attended`."""

    @property
    def weights_kind(self) -> WeightsKind: ...

    def __call__(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        bias: Tensor | None = None,
        need_weights: bool = True,
    ) -> Attended: ...


def as_layer(attention: nn.Module) -> AttentionLayer:
    """The layer that was given, which constructors annotate as a module so that a configuration file can name it.

    Raises ConfigError for a causal one: what is found or summed up is no sequence that the queries are part of.
    """
    if getattr(attention, "causal", False):
        raise ConfigError(
            "attention must not be causal: what it is to attend to is not the sequence of the queries; make it with "
            "causal=False and say by the mask what a query may see"
        )
    return cast("AttentionLayer", attention)
