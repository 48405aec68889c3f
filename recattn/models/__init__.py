"""MODELS: ids -> scores. Plain modules that know no file, loss, optimiser, device or trainer."""

from recattn.models.din import DIN
from recattn.models.ranker import Ranker
from recattn.models.specification import Specification, build, describe
from recattn.models.target_attention import TargetAttention

__all__ = ["DIN", "Ranker", "Specification", "TargetAttention", "build", "describe"]
