"""IPT's scores by the number of dimensions d of its subspace, from cells of `benchmarks.training.transfer`.

Each subspace has a folder of its own whose name ends in d; of other folders, `--dimensions` names it.

    superpos library subspace runs/library --dimensions 5 --out runs/subspace-5
    python -m benchmarks.training.transfer run --out runs/intrinsic.jsonl --subspace runs/subspace-5 --only ipt/words
    python -m benchmarks.training.intrinsic runs/intrinsic.jsonl --out docs/results/intrinsic.md
"""

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from matplotlib.figure import Figure

from benchmarks.training.cells import CellResult, read_results
from benchmarks.training.options import write_plot, write_section
from benchmarks.training.tables import facts, half_width, markdown_table, mean_and_half_width, ordered, points, select
from training.report import style

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_ABOUT = """Scores of IPT by the dimensions d of the subspace that a task's prompt is sought in, at a fixed number of \
rows per label.
"""


@app.command(help=__doc__)
def render(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of grids; other lines are left out.")],
    *,
    dimensions: Annotated[
        list[str] | None,
        typer.Option(metavar="FOLDER=D", help="Dimensions of a subspace whose folder does not name them; repeatable."),
    ] = None,
    shots: Annotated[int, typer.Option(min=1, help="Rows per label of the cells to show.")] = 8,
    out_file: Annotated[Path | None, typer.Option("--out", help="The table. (default: printed)")] = None,
    plot: Annotated[Path | None, typer.Option(help="The plot, without its ending; .svg and .png are written.")] = None,
) -> None:
    """Write the table in Markdown, and the plot."""
    found = select((result for file in files for result in read_results(file)), line="ipt/words", shots=shots)
    try:
        named = {folder: int(d) for folder, d in (text.split("=") for text in dimensions or ())}
    except ValueError as exc:
        raise typer.BadParameter(f"--dimensions is {dimensions}, expected FOLDER=D, such as runs/subspace=50") from exc
    curves = by_dimensions(found, named)
    shown = [each for of_d in curves.values() for each in of_d]
    text = f"# Dimensions of IPT's subspace\n\n{_ABOUT}{facts(shown)}\n\n{dimensions_table(curves)}\n"
    write_section(text, out_file)
    if plot is not None:
        write_plot(dimensions_figure(curves), plot)


def by_dimensions(results: Sequence[CellResult], named: Mapping[str, int]) -> dict[int, list[CellResult]]:
    """Return the results by d, ascending; only sets that have results for every d, which alone can be compared.

    Args:
        named: d of folders whose names do not end in it

    Raises:
        typer.BadParameter: there are no results, or d of a folder is not known
    """
    found: dict[int, list[CellResult]] = {}
    for each in results:
        (folder,) = each.cell.sources
        if folder in named:
            d = named[folder]
        elif match := re.search(r"\d+$", folder):
            d = int(match[0])
        else:
            raise typer.BadParameter(f"--dimensions: d of {folder!r} is not known, expected {folder}=D")
        found.setdefault(d, []).append(each)
    if not found:
        raise typer.BadParameter("no cell is of line 'ipt/words' with as many rows per label")
    common = set.intersection(*({each.cell.set for each in of_d} for of_d in found.values()))
    return {d: [each for each in found[d] if each.cell.set in common] for d in sorted(found)}


def dimensions_table(curves: Mapping[int, Sequence[CellResult]]) -> str:
    """Return scores in points: one row per set, one column per d."""
    sets, _ = ordered([each for of_d in curves.values() for each in of_d])
    rows = [[name, *(mean_and_half_width(points(select(of_d, set=name))) for of_d in curves.values())] for name in sets]
    return markdown_table(["set", *(f"d = {d}" for d in curves)], rows, words=1)


def dimensions_figure(curves: Mapping[int, Sequence[CellResult]]) -> Figure:
    """Draw one panel per set: the mean score against d, with its 95 % interval over seeds and a dot per seed."""
    sets, _ = ordered([each for of_d in curves.values() for each in of_d])
    figure, axes = style.panels(len(sets), columns=min(3, len(sets)), width=3.9, height=2.4, right=0.2)
    for panel, name in zip(axes, sets, strict=True):
        style.title(panel, name)
        scores = {d: points(select(of_d, set=name)) for d, of_d in curves.items()}
        places = range(len(scores))
        for place, found in zip(places, scores.values(), strict=True):
            panel.scatter([place] * len(found), found, s=8, color=style.SERIES[0], alpha=0.5, linewidth=0)
        panel.errorbar(
            places,
            [statistics.fmean(found) for found in scores.values()],
            yerr=[half_width(found) or 0.0 for found in scores.values()],
            color=style.SERIES[0],
            linewidth=1.5,
            elinewidth=0.8,
            marker="o",
            markersize=4,
        )
        panel.set_xticks(places, list(map(str, scores)))
        panel.set(xlabel="dimensions d")
    return figure


if __name__ == "__main__":
    app()
