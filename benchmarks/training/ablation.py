"""Readouts × prompts: how well each combination classifies the nine sets, compared with a bag of words.

`words`, `soft` and `pooled` readouts under a SuperPos prompt, a plain prompt and none, on all rows of each set.
`none/words` is the untrained model, `none/soft` and `none/pooled` are heads on its frozen states, and `tfidf` is TF-IDF
with logistic regression. Every cell selects its epoch, or its strength of regularisation, on held-out training rows and
is scored once on the validation rows.

    python -m benchmarks.training.ablation run --out runs/ablation.jsonl --seeds 0,1
    python -m benchmarks.training.ablation render runs/ablation.jsonl --out docs/results/ablation.md

Needs SUPERPOS_DATA. An interrupted grid resumes with the same command: cells with a line in the file are kept.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast

import typer
from matplotlib.figure import Figure

from backbone import Precision
from benchmarks.training.cells import LINES, TFIDF, Cell, CellResult, GridFile, read_results
from benchmarks.training.figures import dots_figure
from benchmarks.training.options import (
    ALL_SETS,
    BackboneOption,
    LimitOption,
    OnlyOption,
    PrecisionOption,
    ReportOption,
    SeedsOption,
    SelectionOption,
    SetOption,
    SetsOption,
    ThreadsOption,
    load_model,
    load_tasks,
    parse_arguments,
    write_plot,
    write_section,
)
from benchmarks.training.tables import chosen_lines, facts, markdown_table, mean_and_half_width, ordered, points, select
from cli.console import err
from training.report import style

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

_ABOUT = """Every line is trained or fitted on the same rows of a set, and scored once on its validation rows; bold \
marks a set's best mean.
"""
TITLES = {
    "superpos": "SuperPos prompt",
    "simple": "plain prompt",
    "none": "no prompt",
    "tfidf": "TF-IDF + logistic regression",
}


@app.command()
def run(
    out_file: Annotated[Path, typer.Option("--out", help="The grid's file, one line of JSON per cell.")],
    *,
    sets: SetsOption = ALL_SETS,
    seeds: SeedsOption = "0,1",
    only: OnlyOption = None,
    limit: LimitOption = None,
    max_selection: SelectionOption = None,
    max_report: ReportOption = None,
    arguments: SetOption = None,
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    backbone: BackboneOption = "embedded",
) -> None:
    """Run the cells that have no line yet, seed by seed."""
    tasks = load_tasks(sets)
    cells = [
        Cell(
            set=name,
            line=line,
            seed=seed,
            limit=limit,
            max_selection=max_selection,
            max_report=max_report,
            arguments=parse_arguments(arguments),
        )
        for seed in map(int, seeds.split(","))
        for name in tasks
        for line in chosen_lines(only, LINES)
    ]
    grid = GridFile(out_file, load_model(backbone, threads), tasks, precision=cast(Precision, precision), say=err.print)
    if failed := grid.run(cells):
        raise typer.Exit(min(failed, 100))


@app.command()
def render(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of grids.")],
    out_file: Annotated[Path | None, typer.Option("--out", help="The table. (default: printed)")] = None,
    plot: Annotated[Path | None, typer.Option(help="The plot, without its ending; .svg and .png are written.")] = None,
) -> None:
    """Write the table in Markdown, and the plot."""
    results = [result for file in files for result in read_results(file)]
    text = f"# Readouts and prompts\n\n{_ABOUT}{facts(results)}\n\n{ablation_table(results)}\n"
    write_section(text, out_file)
    if plot is not None:
        write_plot(ablation_figure(results), plot)


def ablation_table(results: Sequence[CellResult]) -> str:
    """Return scores in points, one row per line and one column per set; bold marks a set's best mean."""
    sets, lines = ordered(results)
    cells = {(line, name): points(select(results, line=line, set=name)) for line in lines for name in sets}
    best = {
        name: max((statistics.fmean(cells[line, name]) for line in lines if cells[line, name]), default=0.0)
        for name in sets
    }
    rows = []
    for line in lines:
        entries = []
        for name in sets:
            told = mean_and_half_width(cells[line, name])
            entries.append(
                f"**{told}**" if cells[line, name] and statistics.fmean(cells[line, name]) == best[name] else told
            )
        whole = [statistics.fmean(cells[line, name]) for name in sets if cells[line, name]]
        prompt, _, readout = line.partition("/")
        mean = f"{statistics.fmean(whole):.1f}" if len(whole) == len(sets) else "–"
        rows.append([TITLES[prompt], readout or "–", *entries, mean])
    return markdown_table(["prompt", "readout", *sets, "mean"], rows, words=2)


def ablation_figure(results: Sequence[CellResult]) -> Figure:
    """Draw one panel per set: the mean score of each line, over the bag of words as a level."""
    return dots_figure(
        results,
        [line for line in ordered(results)[1] if line != TFIDF],
        dict(zip(TITLES, style.SERIES, strict=False)),
        series_of=lambda result: result.cell.line.partition("/")[0],
        level=TFIDF,
    )


if __name__ == "__main__":
    app()
