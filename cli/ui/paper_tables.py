"""The paper's tables on a terminal."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.table import Table as Shown

from cli.console import out, print_table

if TYPE_CHECKING:
    from backbone import Backbone
    from training.paper.grid import Grid
    from training.paper.results import Results

Part = Literal["table1", "table2", "table3", "relatives", "fig2"]


def print_part(part: Part, grid: "Grid", folder: Path, backbone: "Backbone") -> None:
    """Print the table of a grid's finished runs; for Figure 2, also draw the plots into its folder."""
    from training.paper.grid_folder import collect

    found = collect(folder, backbone)
    wanted = {(cell.task, cell.variant.name, cell.seed) for cell in grid.cells()}
    found = found.model_copy(
        update={"cells": tuple(cell for cell in found.cells if (cell.task, cell.variant, cell.seed) in wanted)}
    )
    if not found.cells:
        return
    _show_table(part, grid, found)
    if part == "fig2":
        from adapters.atomic_files import atomic_write
        from training.paper.plots import CAPTIONS, figures
        from training.report.svg import png, svg

        for name, figure in figures(found).items():
            atomic_write({folder / f"{name}.svg": svg(figure).encode(), folder / f"{name}.png": png(figure)})
            out.print(f"{folder / name}.svg: {CAPTIONS[name]}")


def _show_table(part: Part, grid: "Grid", results: "Results") -> None:
    from training.paper.published import PAPER_TASKS, published_rows
    from training.paper.tables import make_table

    table = make_table(results, [variant.name for variant in grid.variants])
    columns = () if part == "table2" else table.tasks
    title = f"{part}, {results.backbone.id}, split {grid.split}, seeds {', '.join(map(str, grid.seeds))}"
    shown = Shown("method", "rate", "dropout", *columns, "mean", "overall", title=title)
    for line in table.lines:
        entries = [str(line.entries[task]) if task in line.entries else "–" for task in columns]
        overall = "–" if line.overall is None else f"{line.overall.mean:.1f} ± {line.overall.std:.1f}"
        average = "–" if line.average is None or len(line.entries) < len(table.tasks) else f"{line.average:.1f}"
        rate = "–" if line.lr is None else f"{line.lr:g}"
        shown.add_row(line.title, rate, "on" if line.dropout else "off", *entries, average, overall)
    shown.add_section()
    constant = [f"{table.constant[task]:.1f}" for task in columns]
    shown.add_row("best constant answer", "", "", *constant, "", "")
    published = () if set(PAPER_TASKS).isdisjoint(columns) else published_rows(part, results.backbone.id)
    if published:
        shown.add_section()
        shown.caption = "* over the paper's 13 tasks; † some answers were no label"
    for row in published:
        cells = [row.cells[task].printed if task in row.cells else "–" for task in columns]
        dropout = "–" if row.dropout is None else "on" if row.dropout else "off"
        average = "–" if row.average is None else f"{row.average} *"
        shown.add_row(f"published, {row.backbone.rpartition('/')[2]}: {row.title}", "", dropout, *cells, average, "")
    print_table(shown)
    if published and results.backbone.id not in {row.backbone for row in published}:
        out.print(
            f"{results.backbone.id} is not one of the paper's backbones: compare the order of the methods, not numbers",
        )
