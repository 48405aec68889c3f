"""Attention as retrieval: a scorer compares, a weighting decides, a layer returns what was found.

    scores  = scorer(query, keys)       AdditiveScorer, DotScorer, ScaledDotScorer, BilinearScorer, ActivationUnitScorer
    scores += bias                      RecencyBias(ages), TimeBias(times, now)
    weights = weighting(scores, mask)   Softmax, HardRetrieval, TopK; the gates Sigmoid, Identity
    output  = weights @ values          AttentionPooling(scorer, weighting), MultiHeadAttention

Around them: MLP and Dice; factored_readout, softmax retrieval for every candidate at every position of a history; the
losses sampled_softmax_loss and binary_loss.

Every layer is called ``layer(query, keys, values=None, mask=None, *, bias=None, need_weights=True)`` and returns
``Attended(output, weights)``; masks are boolean with True for a real event. Imports torch and nothing else.
"""

from recattn.nn.attended import Attended, Scorer, Weighting, WeightsKind, full_mask
from recattn.nn.attention.factored import factored_readout
from recattn.nn.attention.multihead import MultiHeadAttention
from recattn.nn.attention.pooling import AttentionPooling
from recattn.nn.blocks.decoder import Decoded, Decoder
from recattn.nn.blocks.encoder import Encoded, Encoder
from recattn.nn.blocks.residual import Residual
from recattn.nn.dense.dice import Dice
from recattn.nn.dense.feed_forward import FeedForward
from recattn.nn.dense.mlp import MLP
from recattn.nn.losses import binary_loss, sampled_softmax_loss
from recattn.nn.positions.recency import RecencyBias, event_ages
from recattn.nn.positions.rotary import RotaryPosition
from recattn.nn.positions.time_bias import TimeBias
from recattn.nn.scorers.activation_unit import ActivationUnitScorer
from recattn.nn.scorers.additive import AdditiveScorer
from recattn.nn.scorers.products import BilinearScorer, DotScorer, ScaledDotScorer
from recattn.nn.weightings.gates import Identity, Sigmoid
from recattn.nn.weightings.hard import HardRetrieval, TopK
from recattn.nn.weightings.softmax import Softmax, masked_softmax

__all__ = [
    "MLP",
    "ActivationUnitScorer",
    "AdditiveScorer",
    "Attended",
    "AttentionPooling",
    "BilinearScorer",
    "Decoded",
    "Decoder",
    "Dice",
    "DotScorer",
    "Encoded",
    "Encoder",
    "FeedForward",
    "HardRetrieval",
    "Identity",
    "MultiHeadAttention",
    "RecencyBias",
    "Residual",
    "RotaryPosition",
    "ScaledDotScorer",
    "Scorer",
    "Sigmoid",
    "Softmax",
    "TimeBias",
    "TopK",
    "Weighting",
    "WeightsKind",
    "binary_loss",
    "event_ages",
    "factored_readout",
    "full_mask",
    "masked_softmax",
    "sampled_softmax_loss",
]
