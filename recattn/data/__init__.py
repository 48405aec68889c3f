"""DATA: files -> tables -> histories -> batches.

load_interactions("ml-100k") -> Interactions -> encode() -> Histories, Vocabulary -> leave_one_out() -> Split
with_features(split, interactions) -> Split with users' profiles and items' features
click_tables: rows of label, candidate and history, ready made
"""

from recattn.data.click_samples import ClickSamples
from recattn.data.click_sets import Clicks, make_clicks, read_clicks, write_clicks
from recattn.data.encode import Encoded, encode
from recattn.data.features import FeatureEncoder
from recattn.data.fetch import data_folder, fetch
from recattn.data.histories import Histories
from recattn.data.interactions import Interactions
from recattn.data.load import load_interactions
from recattn.data.sources import SOURCES, Source
from recattn.data.split import Split, SplitSummary, Targets
from recattn.data.splits import global_time, leave_last, leave_one_out
from recattn.data.summary import Summary
from recattn.data.vocabulary import Vocabulary
from recattn.data.with_features import Encoders, with_features

__all__ = [
    "SOURCES",
    "ClickSamples",
    "Clicks",
    "Encoded",
    "Encoders",
    "FeatureEncoder",
    "Histories",
    "Interactions",
    "Source",
    "Split",
    "SplitSummary",
    "Summary",
    "Targets",
    "Vocabulary",
    "data_folder",
    "encode",
    "fetch",
    "global_time",
    "leave_last",
    "leave_one_out",
    "load_interactions",
    "make_clicks",
    "read_clicks",
    "with_features",
    "write_clicks",
]
