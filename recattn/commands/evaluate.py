"""`recattn evaluate`."""

from dataclasses import asdict
from pathlib import Path
from typing import Literal

from recattn.commands.console import command_line, log, make_table, out, print_json
from recattn.errors import ConfigError


def evaluate(
    runs: list[str],
    data: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    baselines: bool = False,
    retriever: str | None = None,
    retrieve: int = 200,
    blend: bool = False,
    part: Literal["test", "validation"] = "test",
    catalogue: bool = False,
    plot: str | None = None,
    output: str | None = None,
    json: bool = False,
) -> None:
    """Measure saved models on the part of the data that they were not trained on.

    Several runs are taken as one model trained with several seeds: the mean over them is shown. Models of clicks are
    measured on their labelled samples, those of a click table on the rows of another, others rank the whole catalogue.

    Args:
        runs: folders of trained models
        data: a click table with the columns of the one that was trained on, to be measured on
        delimiter: of that table, where it is text (default: by the file's name)
        encoding: of that table
        baselines: measure the floors as well, models that only count, with settings chosen on the validation part
        retriever: a saved model, or a floor such as transitions, whose best items the runs put in order
        retrieve: how many items the retriever hands on
        blend: order by ranker + weight x retriever, the weight chosen on the validation part
        part: test, or validation
        catalogue: rank the whole catalogue with a model of clicks, in place of its labelled samples
        plot: file, .png for example, for a model of clicks' reliability curve: probabilities beside what was observed
        output: folder in which a JSON file for each row is kept
        json: print JSON in place of a table
    """
    from recattn import serving
    from recattn.evaluation import FLOORS, fit_floors, report_line, report_rows, write_result
    from recattn.evaluation.calibration_plot import plot_calibration

    for argument, value in (("delimiter", delimiter), ("encoding", encoding)):
        if data is None and value is not None:
            raise ConfigError(f"{argument} is {value!r}, but there is no table to read: name one (--data)")
    serving.check_stages(retriever, retrieve, blend)
    artefacts = [serving.load_artefact(run) for run in runs]
    tabled = artefacts[0].table is not None
    clicked = artefacts[0].clicks is not None and not catalogue and retriever is None
    if catalogue and artefacts[0].clicks is None and not tabled:
        raise ConfigError(f"catalogue: {runs[0]} was trained to rank the whole catalogue, and does: leave it out")
    if baselines and clicked:
        raise ConfigError("baselines rank the catalogue, and the model was trained on clicks: add --catalogue")
    if tabled and data is None:
        raise ConfigError(f"{runs[0]} was trained on a click table: name one to measure it on (--data)")
    if tabled and (baselines or catalogue or retriever is not None or part != "test"):
        raise ConfigError(f"{runs[0]} was trained on a click table, and is measured on the rows of {data} alone")
    folders = [runs[0]] if retriever is None or retriever in FLOORS else [runs[0], retriever]
    names = {folder: Path(folder).resolve().name for folder in folders}
    for folder, called in names.items():
        if baselines and output is not None and called in FLOORS:
            raise ConfigError(f"{folder} is called as one of the baselines, whose file would take its place: rename it")
    stem = names[runs[0]]
    if data is not None:
        reading = {"delimiter": delimiter, "encoding": encoding}
        results = [(stem, serving.evaluate_table_runs(artefacts, data, **reading, command=command_line()))]
    elif retriever is None:
        measure = serving.evaluate_click_runs if clicked else serving.evaluate_runs
        results = [(stem, measure(artefacts, part, command=command_line()))]
    else:
        found = serving.find_retriever(retriever, artefacts[0], part, say=log.print)
        both = serving.evaluate_two_stage(
            artefacts, found, part, retrieve=retrieve, blend=blend, command=command_line(), say=log.print
        )
        behind = names.get(retriever, retriever)
        results = [(f"{stem}-after-{behind}", both[0]), (behind, both[1])]
    _, first = results[0]
    if plot is not None:
        plot_calibration(plot, first)
    if baselines:
        floors = fit_floors(artefacts[0].split, part, progress=lambda name: log.print(f"fitting {name}"))
        for name, floor in floors.items():
            if name != retriever:
                results.append((name, serving.evaluate_floor(name, floor, artefacts[0], part, command=command_line())))
    if output is not None:
        Path(output).mkdir(parents=True, exist_ok=True)
        for name, result in results:
            write_result(Path(output) / f"{name}.json", result)
    if json:
        print_json([asdict(result) for _, result in results])
        return
    headings, rows = report_rows(result for _, result in results)
    table = make_table(*headings)
    for row in rows:
        table.add_row(*row)
    out.print(table)
    if retriever is not None:
        for line in serving.stage_lines(first):
            out.print(line)
    out.print(report_line(first, part))
    if tabled:
        counts = ", ".join(f"{count:,} {what}" for what, count in (first.clicks or {})["unknown"].items())
        out.print(f"unknown from training: {counts}")
