"""The attention behind a search or a summary: any layer of recattn.nn that is not causal."""

from typing import Protocol

from torch import Tensor

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


def check_not_causal(attention: AttentionLayer | None) -> None:
    """Raise ConfigError for a causal layer: what is found or summed up is no sequence that the queries are part of."""
    if getattr(attention, "causal", False):
        raise ConfigError(
            "attention must not be causal: what it is to attend to is not the sequence of the queries; make it with "
            "causal=False and say by the mask what a query may see"
        )
