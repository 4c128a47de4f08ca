"""Learning curves: scores by rows per label, against a bag of words and a head on the frozen model.

At 8, 16, 32, 64 … rows of each label and at all rows, a prompt is trained with some readouts, heads are fitted to the
frozen states of the encoder (`none/pooled`), of the decoder (`none/soft`) and of both (`none/joint`), and TF-IDF with
logistic regression to the same rows. The line `auto` is what `--method auto` would publish of these: of the prompts and
heads of a seed, the best on that seed's selection rows. The rows per label are `superpos train --shots`: training rows,
next to at most as many that select. Sets with a label of fewer rows are left out.

    python -m benchmarks.training.learning_curves run --out runs/curves.jsonl --seeds 0,1,2
    python -m benchmarks.training.learning_curves render runs/curves.jsonl --out curves.md --plot docs/images/curves

Needs SUPERPOS_DATA. An interrupted grid resumes with the same command: cells with a line in the file are kept.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast

import typer
from matplotlib.figure import Figure

from backbone import Precision
from benchmarks.training.cells import HEAD, TFIDF, Cell, CellResult, GridFile, read_results
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
from benchmarks.training.tables import (
    chosen_lines,
    facts,
    half_width,
    markdown_table,
    mean_and_half_width,
    ordered,
    points,
    select,
)
from cli.console import err
from training.report import style

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

_ABOUT = """Scores by training rows per label (`--shots`), next to at most as many that select; where rows are few, \
`tfidf` and heads are fitted to both. `tfidf` is TF-IDF with logistic regression, `none/pooled` a head on the frozen \
encoder, `none/soft` one on the frozen decoder's first state, `none/joint` one on both, and `auto` what the selection \
rows of each seed choose among heads and prompts.
**Above both** counts the sets on which a line's mean is above those of `tfidf` and `none/pooled` over the same seeds.
"""
AUTO = "auto"
CURVES = (TFIDF, HEAD, "none/soft", "none/joint", "superpos/words", "superpos/soft", "superpos/pooled")
_CHEAPEST_FIRST = (HEAD, "none/soft", "none/joint", "superpos/pooled", "superpos/soft", "superpos/words")


@app.command()
def run(
    out_file: Annotated[Path, typer.Option("--out", help="The grid's file, one line of JSON per cell.")],
    *,
    sets: SetsOption = ALL_SETS,
    seeds: SeedsOption = "0,1,2",
    shots: Annotated[
        str, typer.Option(help="Training rows per label, with commas; 'all' is every row.")
    ] = "8,16,32,64,all",
    only: OnlyOption = None,
    limit: LimitOption = None,
    max_selection: SelectionOption = None,
    max_report: ReportOption = None,
    arguments: SetOption = None,
    precision: PrecisionOption = "fp32",
    threads: ThreadsOption = None,
    backbone: BackboneOption = "embedded",
) -> None:
    """Run the cells that have no line yet: the fewest rows first, seed by seed."""
    tasks = load_tasks(sets)
    cells = cells_by_rows(
        {(name, line): () for name in tasks for line in chosen_lines(only, CURVES)},
        shots=shots,
        seeds=seeds,
        limit=limit,
        max_selection=max_selection,
        max_report=max_report,
        arguments=parse_arguments(arguments),
    )
    grid = GridFile(out_file, load_model(backbone, threads), tasks, precision=cast(Precision, precision), say=err.print)
    if failed := grid.run(cells):
        raise typer.Exit(min(failed, 100))


def cells_by_rows(
    sources: Mapping[tuple[str, str], tuple[str, ...]],
    *,
    shots: str,
    seeds: str,
    limit: int | None,
    max_selection: int | None,
    max_report: int | None,
    arguments: tuple[tuple[str, object], ...],
) -> list[Cell]:
    """Return the cells of a grid by rows per label: the fewest rows first, seed by seed.

    Args:
        sources: by set and line, the folders that the line starts from on the set
        shots, seeds: with commas
        limit: rows of the cells with all rows
    """
    return [
        Cell(
            set=name,
            line=line,
            seed=seed,
            shots=None if count == "all" else int(count),
            limit=limit if count == "all" else None,
            max_selection=max_selection,
            max_report=max_report,
            arguments=arguments,
            sources=start,
        )
        for count in shots.split(",")
        for seed in map(int, seeds.split(","))
        for (name, line), start in sources.items()
    ]


@app.command()
def render(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of grids.")],
    out_file: Annotated[Path | None, typer.Option("--out", help="The tables. (default: printed)")] = None,
    plot: Annotated[Path | None, typer.Option(help="The plot, without its ending; .svg and .png are written.")] = None,
) -> None:
    """Write the tables in Markdown, and the plot."""
    run_cells = [result for file in files for result in read_results(file)]
    results = with_auto(run_cells)
    text = f"# Learning curves\n\n{_ABOUT}{facts(run_cells)}\n\n{wins_table(results)}\n\n{curves_table(results)}\n"
    write_section(text, out_file)
    if plot is not None:
        write_plot(curves_figure(results), plot)


def with_auto(results: Sequence[CellResult]) -> list[CellResult]:
    """Add the line `auto`: for each set, number of rows and seed, the trained line that the selection rows choose."""
    groups: dict[tuple[object, ...], list[CellResult]] = {}
    for each in results:
        if each.selection_score is not None and each.cell.line in _CHEAPEST_FIRST:
            groups.setdefault((each.cell.set, each.cell.shots, each.cell.seed), []).append(each)
    chosen = [min(group, key=_rank) for group in groups.values() if len(group) > 1]
    return [*results, *(replace(each, cell=replace(each.cell, line=AUTO)) for each in chosen)]


def _rank(result: CellResult) -> tuple[float, int]:
    """Rank by the selection score, of equals the cheaper one, as `--method auto` does; the lowest is best."""
    assert result.selection_score is not None
    return -result.selection_score, _CHEAPEST_FIRST.index(result.cell.line)


def curves_table(results: Sequence[CellResult]) -> str:
    """Return scores in points: one row per set and line, one column per number of rows."""
    sets, counts = ordered(results)[0], shots_of(results)
    rows = [
        [name, line, *(mean_and_half_width(points(select(results, line=line, set=name, shots=n))) for n in counts)]
        for name in sets
        for line in lines_of(results)
    ]
    return markdown_table(["set", "line", *map(told, counts)], rows, words=2)


def wins_table(results: Sequence[CellResult]) -> str:
    """Return on how many sets the mean of each line is above those of both the bag of words and `none/pooled`."""
    sets, counts = ordered(results)[0], shots_of(results)
    lines = [line for line in lines_of(results) if line not in (TFIDF, HEAD)]
    rows = [[f"{line} above both", *(_wins(results, line, n, sets) for n in counts)] for line in lines]
    return markdown_table(["rows per label", *map(told, counts)], rows, words=1)


def _wins(results: Sequence[CellResult], line: str, shots: int | None, sets: Sequence[str]) -> str:
    """Return `7 of 9`: means over the seeds that all three lines have; sets without one do not count."""
    won = compared = 0
    for name in sets:
        scores = [
            {found.cell.seed: found.score for found in select(results, line=each, set=name, shots=shots)}
            for each in (line, TFIDF, HEAD)
        ]
        if seeds := set.intersection(*map(set, scores)):
            ours, *theirs = (statistics.fmean(by_seed[seed] for seed in seeds) for by_seed in scores)
            compared += 1
            won += ours > max(theirs)
    return f"{won} of {compared}" if compared else "–"


def shots_of(results: Sequence[CellResult]) -> list[int | None]:
    """Return the numbers of rows per label that occur, ascending, all rows last."""
    found = {each.cell.shots for each in results}
    return [*sorted(n for n in found if n is not None), *([None] if None in found else [])]


def lines_of(results: Sequence[CellResult]) -> list[str]:
    """Return the lines that occur, `auto` last."""
    return sorted(ordered(results)[1], key=lambda line: line == AUTO)


def told(shots: int | None) -> str:
    """Return a number of rows per label in words."""
    return "all" if shots is None else str(shots)


def curves_figure(results: Sequence[CellResult]) -> Figure:
    """Draw one panel per set: the mean score against the rows per label, with its 95 % interval over seeds."""
    sets, counts, lines = ordered(results)[0], shots_of(results), lines_of(results)
    figure, axes = style.panels(len(sets), columns=3, width=3.9, height=2.7, right=0.2)
    emptiest = min(range(len(sets)), key=lambda number: len(select(results, set=sets[number])))
    for number, (panel, name) in enumerate(zip(axes, sets, strict=True)):
        style.title(panel, name)
        means: list[float] = []
        for place, line in enumerate(lines):
            found = {n: points(select(results, line=line, set=name, shots=n)) for n in counts}
            known = [n for n in counts if found[n]]
            colour = style.MUTED if line == TFIDF else style.SERIES[place % len(style.SERIES)]
            means += [statistics.fmean(found[n]) for n in known]
            panel.errorbar(
                [counts.index(n) + 0.06 * (place - len(lines) / 2) for n in known],
                [statistics.fmean(found[n]) for n in known],
                yerr=[half_width(found[n]) or 0.0 for n in known],
                color=colour,
                linestyle="--" if line in (TFIDF, HEAD) else "-",
                linewidth=1.5,
                elinewidth=0.8,
                marker="o",
                markersize=3,
            )
            if number == emptiest:
                panel.annotate(
                    line,
                    xy=(0.98, 0.04 + 0.085 * (len(lines) - 1 - place)),
                    xycoords="axes fraction",
                    ha="right",
                    color=colour,
                    fontsize=7.5,
                )
        # the intervals of two seeds are wider than any score: the means set the range
        low, high = min(means, default=0.0), max(means, default=100.0)
        panel.set_ylim(low - 0.15 * (high - low) - 2, high + 0.15 * (high - low) + 2)
        panel.set_xticks(range(len(counts)), list(map(told, counts)))
        panel.set(xlabel="rows per label")
    return figure


if __name__ == "__main__":
    app()
