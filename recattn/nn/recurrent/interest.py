"""DIEN's two layers: what the user was interested in at each event, and how that led up to the candidate."""

import torch
from torch import Tensor, nn

from recattn.errors import ConfigError
from recattn.nn.attended import Attended, WeightsKind, at_least_float32, fill_masked, full_mask
from recattn.nn.checks import check_count
from recattn.nn.losses.binary import binary_loss
from recattn.nn.recurrent.augru import AUGRU, AttentionForm
from recattn.nn.scorers.products import BilinearScorer
from recattn.nn.weightings.softmax import masked_softmax


class InterestExtractor(nn.Module):
    """h_t = GRU(x_1, ..., x_t): the interest that stood behind each event, and a loss that makes it one.

    Zhou et al., AAAI 2019 (DIEN), "Interest Extractor Layer". State t has seen events 0..t and nothing after.

    input_dim, hidden_dim: widths, >= 1; equal ones, as in the paper, where `auxiliary_loss` compares states with the
        very inputs. Raises ConfigError otherwise.

    >>> extractor = InterestExtractor(3, 3)
    >>> history, negatives = torch.ones(2, 5, 3), torch.zeros(2, 5, 3)
    >>> states = extractor(history)
    >>> states.shape, extractor.auxiliary_loss(states, history, negatives).shape
    (torch.Size([2, 5, 3]), torch.Size([]))
    """

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        check_count("input_dim", input_dim)
        check_count("hidden_dim", hidden_dim)
        self.input_dim, self.hidden_dim = int(input_dim), int(hidden_dim)
        self.gru = nn.GRU(self.input_dim, self.hidden_dim, batch_first=True)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights and biases uniform in +-1/sqrt(hidden_dim), as in ``nn.GRU``."""
        self.gru.reset_parameters()

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """The state after each event.

        inputs: (batch, length, input_dim), oldest first, padded on the right; length may be 0.
        mask: bool, (batch, length), True for real. Returns (batch, length, hidden_dim), exactly 0 at padding.
        Raises ConfigError for a mask that is not boolean or of another shape.
        """
        check_mask(mask, inputs)
        if inputs.shape[1] == 0:
            return inputs.new_zeros(inputs.shape[0], 0, self.hidden_dim)
        real = None if mask is None else mask.unsqueeze(-1)
        states: Tensor = self.gru(fill_masked(inputs, real, 0.0))[0]
        return fill_masked(states, real, 0.0)

    @staticmethod
    def auxiliary_loss(states: Tensor, keys: Tensor, negatives: Tensor, mask: Tensor | None = None) -> Tensor:
        """-log σ(h_t . e_{t+1}) - mean_j log(1 - σ(h_t . n_{t+1, j})), the mean over all t with t and t + 1 real.

        The state after an event has to prefer the event that came next to one that did not (the paper's L_aux).

        states: (batch, length, dim), forward's. keys: (batch, length, dim), the events themselves: the shift by one is
            made here. negatives: (batch, length, dim) or (batch, length, samples, dim), drawn against ``keys`` at the
            same place, so those at place 0 are not used. mask: bool, (batch, length), True for real.
        Returns a scalar; 0, with gradients of 0, where no history has two events.
        Raises ConfigError for keys or negatives of another length or width than the states, and for a mask that is not
        boolean or of another shape.
        """
        negatives = negatives.unsqueeze(2) if negatives.dim() == 3 else negatives
        for name, found in (("keys", keys), ("negatives", negatives)):
            if (*found.shape[:2], found.shape[-1]) != states.shape:
                raise ConfigError(f"{name} must go with states {tuple(states.shape)}, got {tuple(found.shape)}")
        check_mask(mask, keys)
        if mask is None:
            mask = torch.ones(keys.shape[:2], dtype=torch.bool, device=keys.device)
        pairs = mask[:, :-1] & mask[:, 1:]
        state, event, others = (
            at_least_float32(x[pairs]) for x in (states[:, :-1], keys[:, 1:], negatives[:, 1:])
        )  # (pairs, dim), and (pairs, samples, dim)
        return binary_loss((event * state).sum(-1), (others * state.unsqueeze(1)).sum(-1))

    def extra_repr(self) -> str:
        return f"input_dim={self.input_dim}, hidden_dim={self.hidden_dim}"


def check_mask(mask: Tensor | None, events: Tensor) -> None:
    """Raise ConfigError unless the mask is None or bool (batch, length) for events (batch, length, dim)."""
    full_mask(mask, events)  # its type and length
    if mask is not None and mask.shape != events.shape[:2]:
        raise ConfigError(f"mask must be (batch, length) = {tuple(events.shape[:2])}, got shape {tuple(mask.shape)}")


class InterestEvolution(nn.Module):
    """a = softmax(q^T W k_j + bias), output = the last state of AUGRU(values, a): how the interest came about.

    Zhou et al., AAAI 2019 (DIEN), "Interest Evolving Layer". Keys are the states of an `InterestExtractor`; the AUGRU
    reads the same states, or ``values``. Not a weighted sum: order matters, and weights say how far an event could
    move the state, not how much of it is left at the end.

    query_dim, key_dim: widths of the query and the keys. hidden_dim: of the output. value_dim: of the values, by
        default key_dim. form: ``"augru"``, ``"agru"`` or ``"aigru"``, see `AUGRU`.
    Raises ConfigError for a width below 1 and another form.

    Nothing to attend: output and weights exactly 0. The history is oldest first; masked steps leave the state alone,
    for each query its own. Cost: queries x length x hidden_dim^2, the steps one after another; what depends on the
    history alone is computed once for all queries.
    torch.export and torch.compile capture the steps as one loop, see `AUGRU`.

    >>> layer = InterestEvolution(6, 5, hidden_dim=4)
    >>> output, weights = layer(torch.ones(3, 2, 6), torch.ones(3, 7, 5))
    >>> output.shape, weights.shape
    (torch.Size([3, 2, 4]), torch.Size([3, 2, 7]))
    """

    weights_kind: WeightsKind = "probability"

    def __init__(
        self,
        query_dim: int,
        key_dim: int,
        *,
        hidden_dim: int,
        value_dim: int | None = None,
        form: AttentionForm = "augru",
    ) -> None:
        super().__init__()
        self.scorer = BilinearScorer(query_dim, key_dim)
        self.evolution = AUGRU(key_dim if value_dim is None else value_dim, hidden_dim, form=form)
        self.query_dim, self.key_dim, self.hidden_dim = query_dim, key_dim, hidden_dim
        self.value_dim, self.form = self.evolution.input_dim, self.evolution.form

    def reset_parameters(self) -> None:
        """The scorer and the AUGRU to their own starts."""
        self.scorer.reset_parameters()
        self.evolution.reset_parameters()

    def forward(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor | None = None,
        mask: Tensor | None = None,
        *,
        bias: Tensor | None = None,
        need_weights: bool = True,
    ) -> Attended:
        """Ask the history.

        query: (batch, queries, query_dim), or (batch, query_dim) for one query a row; all share the row's history.
        keys: (batch, length, key_dim), length may be 0. values: (batch, length, value_dim), by default the keys.
        mask: bool, (batch, length) or (batch, queries, length), True for real; None: all real.
        bias: broadcasts to (batch, queries, length), finite; added to the scores.
        Returns output (batch, queries, hidden_dim), or (batch, hidden_dim), and weights (batch, queries, length).
        Raises ConfigError for a mask that is not boolean or has another length than the keys.
        """
        single = query.dim() == 2
        values = keys if values is None else values
        scores = self.scorer(query.unsqueeze(1) if single else query, keys)
        weights = masked_softmax(scores if bias is None else scores + bias, full_mask(mask, keys))
        output = self.evolution(values, weights, mask, need_states=False).last
        return Attended(output.squeeze(1) if single else output, weights if need_weights else None)

    def extra_repr(self) -> str:
        return f"hidden_dim={self.hidden_dim}, form={self.form!r}"
