"""Saved models of a click table -> results on the rows of another one."""

from collections.abc import Sequence
from pathlib import Path

from recattn.data.click_tables import read_click_table
from recattn.errors import ConfigError
from recattn.evaluation import Result, evaluate_clicks, predict_table
from recattn.serving.artefact import Artefact
from recattn.serving.measure import checked_seeds, result_of_runs


def evaluate_table_runs(
    artefacts: Sequence[Artefact],
    data: str | Path,
    *,
    delimiter: str | None = None,
    encoding: str | None = None,
    command: str,
) -> Result:
    """Measure trainings on a click table that differ in their seed alone, on the rows of another table.

    data: a table with the columns of the one that was trained on, read with what was learnt from that; delimiter,
        encoding: see `open_table`.
    The result's users, interactions and split_hash are those of the rows; its clicks also say how many ids of these the
    training lacked ("unknown").
    Raises ConfigError as `evaluate_runs` does, for a model that was not trained on a click table and for rows whose
    labels are all equal; DataError as `read_click_table` does.
    """
    checked_seeds(artefacts)
    first = artefacts[0]
    if first.table is None:
        raise ConfigError(f"data is {str(data)!r}, but the model was trained on no click table: leave it out")
    table = read_click_table(data, fitted=first.table, delimiter=delimiter, encoding=encoding or "utf-8")
    logits = [predict_table(run.model, table, max_length=run.model.max_length) for run in artefacts]
    found = evaluate_clicks(table.labels, table.of_users, logits)
    labels, known = f"column {first.table.columns.label!r}", table.hash
    return result_of_runs(
        artefacts,
        f"rows of a click table ({labels})",
        found.metrics,
        command=command,
        data=str(data),
        users=found.about["users"],
        interactions=len(table),
        split_hash=known,
        clicks={"labels": labels, "samples_hash": known, "unknown": table.unknown, **found.about},
    )
