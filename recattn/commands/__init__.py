"""The commands: typed functions, whose arguments are the flags of the command line."""

from recattn.commands.data import data
from recattn.commands.evaluate import evaluate
from recattn.commands.recommend import recommend, score
from recattn.commands.train import DEFAULT_MODEL, DEFAULT_TABLE_MODEL, train

__all__ = ["DEFAULT_MODEL", "DEFAULT_TABLE_MODEL", "data", "evaluate", "recommend", "score", "train"]
