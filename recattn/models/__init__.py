"""MODELS: ids -> scores. Plain modules that know no file, loss, optimiser, device or trainer."""

from recattn.models.bert4rec import BERT4Rec
from recattn.models.bst import BST
from recattn.models.dien import DIEN
from recattn.models.din import DIN
from recattn.models.eta import ETA
from recattn.models.hstu import HSTU
from recattn.models.mean_pooling import MeanPooling
from recattn.models.narm import NARM
from recattn.models.next_item import NextItemModel
from recattn.models.ranker import Ranker
from recattn.models.sasrec import SASRec
from recattn.models.sdim import SDIM
from recattn.models.sim import SIM
from recattn.models.slate_decoder import Slate, SlateDecoder
from recattn.models.specification import Specification, build, build_ranker, describe, model_path
from recattn.models.stca import STCA
from recattn.models.target_attention import TargetAttention
from recattn.models.target_ranker import TargetRanker
from recattn.models.twin import TWIN

__all__ = [
    "BST",
    "DIEN",
    "DIN",
    "ETA",
    "HSTU",
    "NARM",
    "SDIM",
    "SIM",
    "STCA",
    "TWIN",
    "BERT4Rec",
    "MeanPooling",
    "NextItemModel",
    "Ranker",
    "SASRec",
    "Slate",
    "SlateDecoder",
    "Specification",
    "TargetAttention",
    "TargetRanker",
    "build",
    "build_ranker",
    "describe",
    "model_path",
]
