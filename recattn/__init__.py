"""recattn: recommendation as retrieval by attention.

>>> import recattn
>>> recattn.TargetAttention(num_items=7).num_items
7
"""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recattn.models import DIN, HSTU, NARM, BERT4Rec, SASRec, TargetAttention
    from recattn.serving.recommender import load
    from recattn.training import ClickTask, NextItemTask, RankingTask

__version__ = version("recattn")
__all__ = [
    "DIN",
    "HSTU",
    "NARM",
    "BERT4Rec",
    "ClickTask",
    "NextItemTask",
    "RankingTask",
    "SASRec",
    "TargetAttention",
    "load",
]

_HOME = {
    "BERT4Rec": "recattn.models",
    "ClickTask": "recattn.training",
    "DIN": "recattn.models",
    "HSTU": "recattn.models",
    "NARM": "recattn.models",
    "NextItemTask": "recattn.training",
    "RankingTask": "recattn.training",
    "SASRec": "recattn.models",
    "TargetAttention": "recattn.models",
    "load": "recattn.serving.recommender",
}


def __getattr__(name: str) -> object:
    # Loaded when first asked for: `import recattn` stays light.
    if name not in _HOME:
        raise AttributeError(f"module 'recattn' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
