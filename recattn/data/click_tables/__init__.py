"""Ready-made tables of clicks: one row = label, user, candidate, its features, and the history as lists.

read_click_table("train.csv") -> ClickTable -> ClickTableLoader -> RankingBatch; write_click_table writes such files.
"""

from recattn.data.click_tables.columns import ClickColumns
from recattn.data.click_tables.loader import ClickTableLoader
from recattn.data.click_tables.parts import ClickTables
from recattn.data.click_tables.read import read_click_table
from recattn.data.click_tables.table import ClickTable
from recattn.data.click_tables.vocabulary import ClickVocabulary
from recattn.data.click_tables.write import write_click_table

__all__ = [
    "ClickColumns",
    "ClickTable",
    "ClickTableLoader",
    "ClickTables",
    "ClickVocabulary",
    "read_click_table",
    "write_click_table",
]
