"""Attention as retrieval: a scorer compares, a weighting decides, a layer returns what was found.

    scores  = scorer(query, keys)       AdditiveScorer, DotScorer, ScaledDotScorer, BilinearScorer, ActivationUnitScorer
                                        (ConstantScorer does not look)
    scores += bias                      RecencyBias(ages), AlibiBias, T5Bias, TimeBias(times, now), DecayBias, ...
    weights = weighting(scores, mask)   Softmax, Sparsemax, Entmax15, TopK, HardRetrieval; the gates Sigmoid, Identity
    output  = weights @ values          AttentionPooling(scorer, weighting), MultiHeadAttention, HSTUAttention

Cheaper for long histories: LinearAttention, LinformerAttention, ReformerAttention; SearchedAttention with DotSearch,
CategorySearch or SimHashSearch; BucketHashPooling, ClusterPooling, SummaryPooling. Made of these: Encoder, Decoder,
ReversibleEncoder, TargetStack, and DIEN's InterestExtractor and InterestEvolution. Beside them are the losses. The
README next to this file says which to use when.

Every layer is called ``layer(query, keys, values=None, mask=None, *, bias=None, need_weights=True)`` and returns
``Attended(output, weights)``; masks are boolean with True for a real event. Imports torch and nothing else.
"""

from recattn.nn.attended import Attended, Scorer, Weighting, WeightsKind, full_mask
from recattn.nn.attention.factored import factored_readout
from recattn.nn.attention.hstu import HSTUAttention
from recattn.nn.attention.linear import LinearAttention, LinearState
from recattn.nn.attention.linformer import LinformerAttention, LinformerSummary
from recattn.nn.attention.multihead import MultiHeadAttention
from recattn.nn.attention.pooling import AttentionPooling
from recattn.nn.attention.reformer import ReformerAttention
from recattn.nn.blocks.decoder import Decoded, Decoder
from recattn.nn.blocks.encoder import Encoded, Encoder
from recattn.nn.blocks.residual import Residual
from recattn.nn.blocks.reversible import ReversibleEncoder
from recattn.nn.blocks.target_stack import TargetStack
from recattn.nn.dense.dice import Dice
from recattn.nn.dense.feed_forward import FeedForward
from recattn.nn.dense.mlp import MLP
from recattn.nn.losses.binary import binary_loss, gbce_loss
from recattn.nn.losses.bpr_max import bpr_max_loss
from recattn.nn.losses.full_softmax import full_softmax_loss
from recattn.nn.losses.sampled import sampled_softmax_loss
from recattn.nn.losses.shared_softmax import shared_softmax_loss
from recattn.nn.positions.alibi import AlibiBias
from recattn.nn.positions.decay import DecayBias
from recattn.nn.positions.distances import sequence_distances
from recattn.nn.positions.gaps import query_times, time_gaps
from recattn.nn.positions.learned import LearnedPosition
from recattn.nn.positions.recency import RecencyBias, event_ages
from recattn.nn.positions.relative import RelativePositionBias
from recattn.nn.positions.rotary import RotaryPosition
from recattn.nn.positions.t5 import T5Bias
from recattn.nn.positions.time_bias import TimeBias
from recattn.nn.recurrent.augru import AUGRU, Recurrence
from recattn.nn.recurrent.interest import InterestEvolution, InterestExtractor
from recattn.nn.scorers.activation_unit import ActivationUnitScorer
from recattn.nn.scorers.additive import AdditiveScorer
from recattn.nn.scorers.constant import ConstantScorer
from recattn.nn.scorers.products import BilinearScorer, DotScorer, ScaledDotScorer
from recattn.nn.search.bucket_hash import BucketHashPooling
from recattn.nn.search.category import CategorySearch
from recattn.nn.search.cluster import ClusterPooling, ClusterSummary
from recattn.nn.search.dot import DotSearch
from recattn.nn.search.found import Found, Search
from recattn.nn.search.recovered import recovered_mass
from recattn.nn.search.searched import SearchedAttention
from recattn.nn.search.simhash import SimHashSearch
from recattn.nn.search.summary import SummaryPooling, TokenSummary
from recattn.nn.weightings.gates import Identity, Sigmoid
from recattn.nn.weightings.hard import HardRetrieval, TopK
from recattn.nn.weightings.softmax import Softmax, masked_softmax
from recattn.nn.weightings.sparse import Entmax15, Sparsemax, masked_entmax15, masked_sparsemax

__all__ = [
    "AUGRU",
    "MLP",
    "ActivationUnitScorer",
    "AdditiveScorer",
    "AlibiBias",
    "Attended",
    "AttentionPooling",
    "BilinearScorer",
    "BucketHashPooling",
    "CategorySearch",
    "ClusterPooling",
    "ClusterSummary",
    "ConstantScorer",
    "DecayBias",
    "Decoded",
    "Decoder",
    "Dice",
    "DotScorer",
    "DotSearch",
    "Encoded",
    "Encoder",
    "Entmax15",
    "FeedForward",
    "Found",
    "HSTUAttention",
    "HardRetrieval",
    "Identity",
    "InterestEvolution",
    "InterestExtractor",
    "LearnedPosition",
    "LinearAttention",
    "LinearState",
    "LinformerAttention",
    "LinformerSummary",
    "MultiHeadAttention",
    "RecencyBias",
    "Recurrence",
    "ReformerAttention",
    "RelativePositionBias",
    "Residual",
    "ReversibleEncoder",
    "RotaryPosition",
    "ScaledDotScorer",
    "Scorer",
    "Search",
    "SearchedAttention",
    "Sigmoid",
    "SimHashSearch",
    "Softmax",
    "Sparsemax",
    "SummaryPooling",
    "T5Bias",
    "TargetStack",
    "TimeBias",
    "TokenSummary",
    "TopK",
    "Weighting",
    "WeightsKind",
    "binary_loss",
    "bpr_max_loss",
    "event_ages",
    "factored_readout",
    "full_mask",
    "full_softmax_loss",
    "gbce_loss",
    "masked_entmax15",
    "masked_softmax",
    "masked_sparsemax",
    "query_times",
    "recovered_mass",
    "sampled_softmax_loss",
    "sequence_distances",
    "shared_softmax_loss",
    "time_gaps",
]
