"""The events of the candidate's category: search by what is known of an item."""

import torch
from torch import Tensor, nn

from recattn.errors import ConfigError
from recattn.nn.attended import full_mask
from recattn.nn.checks import check_count
from recattn.nn.search.found import Found, latest_found


class CategorySearch(nn.Module):
    """The k most recent events that share a category with the candidate: r_j = 1[category(j) = category(candidate)].

    SIM's hard search (Pi et al. 2020, section 3.2). It learns nothing; its authors served it in preference to the soft
    search, whose best events are mostly of the candidate's category anyway.

    k: >= 1, how many events are found at most. Raises ConfigError otherwise.

    Category 0 is "not known" and matches nothing, itself included. With fewer than k events of the category all of
    them are found, and none of other categories. Cost: queries x length comparisons.

    >>> found = CategorySearch(2)(torch.tensor([[7, 0]]), torch.tensor([[7, 7, 0, 7, 9]]))
    >>> found.places[0, 0].tolist(), found.mask[0].tolist()
    ([1, 3], [[True, True], [False, False]])
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        check_count("k", k)
        self.k = k

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        mask: Tensor | None = None,
        *,
        bias: Tensor | None = None,  # noqa: ARG002
    ) -> Found:
        """Find events.

        query: integers, (batch, queries): the category of each candidate; or (batch, queries, categories), several.
        keys: integers, (batch, length) or (batch, length, categories) likewise: those of each event; an item with fewer
            categories than there is room for has zeros there. One shared category is a match.
        mask: bool, (batch, length) or (batch, queries, length), True for real; None: all real.
        bias: not looked at; it is there for one signature.
        Raises ConfigError for categories that are not integers, and where only one of the two has several an item.
        """
        for name, categories in (("query", query), ("keys", keys)):
            if categories.is_floating_point() or categories.dtype == torch.bool:
                raise ConfigError(f"{name} must be integer categories, got {categories.dtype}")
        if query.dim() != keys.dim() or keys.dim() not in (2, 3):
            raise ConfigError(
                "query and keys must be (batch, queries) and (batch, length), or both with a last axis of categories, "
                f"got shapes {tuple(query.shape)} and {tuple(keys.shape)}"
            )
        if keys.dim() == 2:
            query, keys = query.unsqueeze(-1), keys.unsqueeze(-1)
        same = [
            (wanted.unsqueeze(-1) == there.unsqueeze(-2)) & (there != 0).unsqueeze(-2)
            for wanted in query.unbind(-1)
            for there in keys.unbind(-1)
        ]
        match = torch.stack(same).any(0) if len(same) > 1 else same[0]
        mask = full_mask(mask, keys)
        return latest_found(match if mask is None else match & mask, self.k)

    def extra_repr(self) -> str:
        return f"k={self.k}"
