"""A GRU whose steps are scaled by attention: relevant events move the state, others leave it as it was."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recattn.errors import ConfigError
from recattn.nn.attended import at_least_float32, fill_masked, full_mask
from recattn.nn.checks import check_choice, check_count
from recattn.nn.recurrent.steps import RealSteps, captured_loop, packed_loop

AttentionForm = Literal["augru", "agru", "aigru"]
ATTENTION_FORMS = ("augru", "agru", "aigru")


class Recurrence(NamedTuple):
    """The states that a recurrent layer went through, and the one it ended in.

    states: (batch, length, hidden_dim), or (batch, queries, length, hidden_dim) from weights for each query; at a
        masked step the state before it. None where they were not asked for.
    last: (batch, hidden_dim), or (batch, queries, hidden_dim): the state after the last real event.
    """

    states: Tensor | None
    last: Tensor


class AUGRU(nn.Module):
    """h_t = (1 - u'_t) ∘ h_{t-1} + u'_t ∘ n_t with u'_t = a_t u_t: a GRU with an attentional update gate.

        r_t = σ(W_r x_t + U_r h_{t-1} + b_r)     u_t = σ(W_u x_t + U_u h_{t-1} + b_u)
        n_t = tanh(W_n x_t + r_t ∘ (U_n h_{t-1}) + b_n)

    Zhou et al., AAAI 2019 (DIEN), "Interest Evolving Layer", with its other two forms. The update gate multiplies the
    NEW state, as in the paper; ``nn.GRU``'s z multiplies the old one, so u = 1 - z. The reset gate acts after the
    product with U_n, as in the paper and in ``nn.GRU``; the authors' code has it before.

    input_dim, hidden_dim: widths, >= 1. Raises ConfigError otherwise, and for another form than these:
    form: ``"augru"``, as above; ``"agru"``: u'_t = a_t, there is no update gate; ``"aigru"``: u'_t = u_t, and a_t
        scales the input x_t instead.

    A masked step, and in the first two forms one of weight 0, leaves the state exactly as it was. The weights are used
    as they come: with a softmax's, as in DIEN, they sum to 1 over the history. States are kept in fp32 or wider: a step
    may be smaller than bf16 can add.
    Cost: length x queries x hidden_dim^2, the steps one after another; W x_t is made once for all queries. On a CPU
    the padding behind a row's last real event costs nothing.

    torch.export and torch.compile capture the steps as one loop for every length, by torch's prototype of ``scan``;
    compiled it was measured slower than as it is.

    >>> states, last = AUGRU(3, 4)(torch.ones(2, 5, 3), torch.full((2, 5), 0.2))
    >>> states.shape, last.shape
    (torch.Size([2, 5, 4]), torch.Size([2, 4]))
    """

    def __init__(self, input_dim: int, hidden_dim: int, *, form: AttentionForm = "augru") -> None:
        super().__init__()
        check_count("input_dim", input_dim)
        check_count("hidden_dim", hidden_dim)
        check_choice("form", form, ATTENTION_FORMS)
        self.input_dim, self.hidden_dim = int(input_dim), int(hidden_dim)
        self.form: AttentionForm = form
        num_gates = 1 if form == "agru" else 2  # reset, then update
        self.input_gates = nn.Linear(input_dim, num_gates * hidden_dim)
        self.input_candidate = nn.Linear(input_dim, hidden_dim)
        self.state_gates = nn.Linear(hidden_dim, num_gates * hidden_dim, bias=False)
        self.state_candidate = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """W: Xavier-uniform, U: orthogonal, each gate on its own; b: 0."""
        for layer in (self.input_gates, self.input_candidate):
            for gate in layer.weight.split(self.hidden_dim):
                nn.init.xavier_uniform_(gate)
            nn.init.zeros_(layer.bias)
        for layer in (self.state_gates, self.state_candidate):
            for gate in layer.weight.split(self.hidden_dim):
                nn.init.orthogonal_(gate)

    def forward(
        self,
        inputs: Tensor,
        weights: Tensor,
        mask: Tensor | None = None,
        *,
        initial: Tensor | None = None,
        need_states: bool = True,
    ) -> Recurrence:
        """Read the history.

        inputs: (batch, length, input_dim), oldest first; length may be 0.
        weights: (batch, length), or (batch, queries, length) for many queries that share one history; in [0, 1].
        mask: bool, (batch, length), or (batch, queries, length) beside weights for each query; True for real.
        initial: (batch, hidden_dim), or (batch, queries, hidden_dim) beside weights for each query: the state to start
            from, by default 0. A history may so be read in pieces.
        Raises ConfigError for weights of another length than the inputs, for an initial state of another shape, and for
        a mask that is not boolean, has another length or is there for each query where the weights are not.
        """
        length = inputs.shape[1]
        if weights.shape[-1] != length:
            raise ConfigError(f"weights must cover the {length} inputs, got shape {tuple(weights.shape)}")
        single = weights.dim() == 2
        if single and mask is not None and mask.dim() == 3:
            raise ConfigError("a mask for each query needs weights for each query, got weights (batch, length)")
        shape = (*weights.shape[:-1], self.hidden_dim)
        initial = inputs.new_zeros(shape) if initial is None else initial
        if initial.shape != shape:
            raise ConfigError(f"initial must be of shape {tuple(shape)}, got {tuple(initial.shape)}")
        weights, initial = (x.unsqueeze(1) if single else x for x in (weights, initial))
        states, last = self._read(inputs, weights, full_mask(mask, inputs), initial, need_states=need_states)
        if states is not None:
            states = states.to(inputs.dtype).permute(1, 2, 0, 3)
            states = states.squeeze(1) if single else states
        last = last.to(inputs.dtype)
        return Recurrence(states, last.squeeze(1) if single else last)

    def _read(
        self, inputs: Tensor, weights: Tensor, mask: Tensor | None, state: Tensor, *, need_states: bool
    ) -> tuple[Tensor | None, Tensor]:
        """States (length, batch, queries, hidden_dim), if they are needed, and the last one.

        weights: (batch, queries, length); mask: (batch, 1 or queries, length); state: (batch, queries, hidden_dim).
        """
        inputs = at_least_float32(inputs)
        weights, state = (x.to(inputs.dtype) for x in (weights, state))
        scales = (torch.ones_like(weights), weights) if self.form == "aigru" else (weights,)
        events = inputs, *(fill_masked(x, mask, 0.0).transpose(1, 2).unsqueeze(-1) for x in scales)
        with torch.autocast(inputs.device.type, enabled=False):
            if torch.compiler.is_compiling() and inputs.shape[1] > 0:
                states, last = captured_loop(self._step, state, tuple(x.transpose(0, 1) for x in events))
                return states if need_states else None, last
            rows = RealSteps.of(inputs, None if mask is None else mask.any(1))
            return packed_loop(self._step, state, tuple(map(rows.pack, events)), rows, need_states=need_states)

    def _step(self, state: Tensor, inputs: Tensor, scale: Tensor, attention: Tensor | None = None) -> Tensor:
        """The next state, (rows, queries, hidden_dim) like the state.

        inputs: (rows, input_dim). scale: (rows, queries, 1), of the update: 0 keeps the state.
        attention: the same, of the inputs; None: 1.
        """
        sources = []  # (rows, 1 or queries, dim)
        for layer in (self.input_gates, self.input_candidate):
            weight, bias = at_least_float32(layer.weight), at_least_float32(layer.bias)
            if attention is None:
                sources.append(F.linear(inputs, weight, bias).unsqueeze(1))
            else:  # W (a x) as a (W x): W x is made once for all queries
                sources.append(torch.addcmul(bias, attention, F.linear(inputs, weight).unsqueeze(1)))
        for_gates, for_candidate = sources
        opened = (for_gates + F.linear(state, at_least_float32(self.state_gates.weight))).sigmoid()
        reset, *update = opened.split(self.hidden_dim, -1)
        hidden = F.linear(state, at_least_float32(self.state_candidate.weight))
        new = torch.addcmul(for_candidate, reset, hidden).tanh()
        return torch.lerp(state, new, scale * update[0] if update else scale.expand_as(new))

    def extra_repr(self) -> str:
        return f"input_dim={self.input_dim}, hidden_dim={self.hidden_dim}, form={self.form!r}"
