import pandas as pd
import pytest

from recattn.data.table_files import open_table, table_writer
from recattn.errors import ConfigError

BEST = pd.DataFrame({"user": ["Åse", "b,c"], "item": [5, 7], "score": [0.5, -1.25]})


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.csv.gz", "x.jsonl", "x.jsonl.gz", "x.parquet"])
def test_what_is_written_is_read_again(tmp_path, name):
    path = tmp_path / "new" / name
    table_writer(path)(BEST)
    read = open_table(path).read().to_pandas()
    assert read["user"].tolist() == BEST["user"].tolist()
    assert read["score"].astype(float).tolist() == BEST["score"].tolist()
    assert [file.name for file in path.parent.iterdir()] == [name]


@pytest.mark.parametrize("name", ["x.xls", "x", "x.parquet.gz", "x.gz"])
def test_a_suffix_that_is_no_tables_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=r"one of \.csv"):
        table_writer(tmp_path / name)


def test_what_cannot_be_written_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "x.csv"
    path.write_text("old")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(OSError, match="No space"):
        table_writer(path)(BEST)
    assert [file.name for file in tmp_path.iterdir()] == ["x.csv"]
    assert path.read_text() == "old"
