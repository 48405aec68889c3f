"""MODELS: ids -> scores. Plain modules that know no file, loss, optimiser, device or trainer."""

from recattn.models.bert4rec import BERT4Rec
from recattn.models.din import DIN
from recattn.models.hstu import HSTU
from recattn.models.narm import NARM
from recattn.models.next_item import NextItemModel
from recattn.models.ranker import Ranker
from recattn.models.sasrec import SASRec
from recattn.models.slate_decoder import Slate, SlateDecoder
from recattn.models.specification import Specification, build, describe
from recattn.models.target_attention import TargetAttention

__all__ = [
    "DIN",
    "HSTU",
    "NARM",
    "BERT4Rec",
    "NextItemModel",
    "Ranker",
    "SASRec",
    "Slate",
    "SlateDecoder",
    "Specification",
    "TargetAttention",
    "build",
    "describe",
]
