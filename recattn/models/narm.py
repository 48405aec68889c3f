"""NARM: a session is read by a GRU, and the last state asks the earlier ones."""

import torch
from torch import Tensor, nn

from recattn.batch import History
from recattn.models.next_item import NextItemModel
from recattn.nn import AdditiveScorer, Attended, AttentionPooling, Identity
from recattn.nn.attended import causal_mask
from recattn.nn.checks import check_count, check_fraction, check_positive
from recattn.nn.dense.dropout import dropout


class NARM(NextItemModel):
    """Neural attentive recommendation machine (Li et al., CIKM 2017): additive attention made a session recommender.

        h_1, ..., h_t = GRU(e_1, ..., e_t)
        α_tj          = v^T sigmoid(A_1 h_t + A_2 h_j)                eq. 7; no softmax: gates
        state_t       = B [h_t ; Σ_{j <= t} α_tj h_j]                 eq. 8 and 10: global and local part
        logit_c       = e_c · state_t

    The query is what the session has come to (the last state), keys and values are what it came through. Computed for
    every t at once, which costs length² · hidden_dim; the scorer works through the pairs in blocks.

    num_items: catalogue without padding. dim: of the item embeddings. hidden_dim: of the GRU, by default dim.
    max_length: events that are read, >= 2.
    dropout: in [0, 1), of embeddings; state_dropout: of [h_t ; c_t] (.25 and .5 in the paper).
    embedding_std: standard deviation of the embeddings at the start, above 0.
    Raises ConfigError for values outside of these.

    >>> model = NARM(11, dim=8)
    >>> model.states(History(torch.tensor([[3, 5, 0], [2, 4, 7]]), torch.tensor([2, 3]))).shape
    torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        num_items: int,
        *,
        dim: int = 64,
        hidden_dim: int | None = None,
        max_length: int = 50,
        dropout: float = 0.25,
        state_dropout: float = 0.5,
        embedding_std: float = 0.05,
    ) -> None:
        super().__init__()
        for name, value, least in (("num_items", num_items, 1), ("dim", dim, 1), ("max_length", max_length, 2)):
            check_count(name, value, least=least)
        check_fraction("dropout", dropout)
        check_fraction("state_dropout", state_dropout)
        check_positive("embedding_std", embedding_std)
        self.num_items, self.dim, self.max_length = num_items, int(dim), max_length
        hidden_dim = dim if hidden_dim is None else hidden_dim
        check_count("hidden_dim", hidden_dim)
        self.hidden_dim = int(hidden_dim)
        self.dropout, self.state_dropout, self.embedding_std = dropout, state_dropout, embedding_std
        self.item_table = nn.Embedding(num_items + 1, dim, padding_idx=0)
        self.gru = nn.GRU(self.dim, self.hidden_dim, batch_first=True)
        self.scorer = AdditiveScorer(self.hidden_dim, self.hidden_dim, hidden_dim=self.hidden_dim, activation="sigmoid")
        self.attention_to_session = AttentionPooling(self.scorer, Identity())
        self.projection = nn.Linear(2 * self.hidden_dim, dim, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Embeddings from N(0, embedding_std²), padding 0; GRU, scorer and projection to starts of their own."""
        nn.init.normal_(self.item_table.weight, std=self.embedding_std)
        with torch.no_grad():
            self.item_table.weight[0] = 0.0
        self.gru.reset_parameters()
        self.scorer.reset_parameters()
        nn.init.xavier_uniform_(self.projection.weight)

    def states(self, history: History, now: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """See `NextItemModel.states`."""
        hidden, local = self._read(history, need_weights=False)
        together = dropout(torch.cat([hidden, local.output], -1), self.state_dropout, self.training)
        states: Tensor = self.projection(together)
        return states

    def item_embeddings(self) -> Tensor:
        """See `NextItemModel.item_embeddings`: the table that is read, and ranked by."""
        return self.item_table.weight

    def weights(self, history: History, now: Tensor | None = None) -> list[Tensor]:  # noqa: ARG002
        """One layer of gates, (batch, length, length)."""
        gates = self._read(history, need_weights=True)[1].weights
        return [] if gates is None else [gates]

    def _read(self, history: History, *, need_weights: bool) -> tuple[Tensor, Attended]:
        """The GRU's states (batch, length, hidden_dim), and what each of them finds in those before it."""
        vectors = dropout(self.item_table(history.items), self.dropout, self.training)
        hidden, _ = self.gru(vectors)
        length = history.items.shape[1]
        earlier = history.mask[:, None] & causal_mask(length, hidden.device)
        return hidden, self.attention_to_session(hidden, hidden, mask=earlier, need_weights=need_weights)
