"""`docs/results.md`: tables and plots of grids, written from their JSON and from nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from training.paper.claims import differences
from training.paper.plots import CAPTIONS, figures
from training.paper.published import table1, table3
from training.paper.results import CellResult, Results
from training.paper.tables import Line, Table, make_table, ordered_tasks
from training.paper.variants import ANY_SOURCES, variants
from training.report.svg import svg

_HEAD = """# The paper's grids, run here

Written by `superpos paper render` from the JSON beside each heading; no number stands here by hand. Scores are in
points: the mean of a task's metrics × 100, ± one population standard deviation over seeds. **Constant** is the best
constant answer on the same report rows: a score near it means that nothing was learnt; ‡ marks a run whose prompt gave
every row the same answer. **Overall** is the paper's standardised score (Table 2) over these lines: 0 the worst line on
a task, 100 the best, mean ± deviation over tasks.
"""
_FOREIGN = """The backbone `{id}` is none of the paper's{derivative}: no number here compares with a published one.
What can be compared is which method is ahead of which.
"""


def render(results: Mapping[str, Results], *, images: str) -> tuple[str, dict[str, str]]:
    """The page, and the plots that it shows as SVG files by name.

    Args:
        results: by the JSON file's name without its suffix
        images: where the plots lie, as seen from the page
    """
    parts = [_HEAD]
    plots: dict[str, str] = {}
    for name, grid in results.items():
        drawn = {f"{name}-{kind}": (kind, svg(figure)) for kind, figure in figures(grid).items()}
        plots |= {f"{file}.svg": text for file, (_, text) in drawn.items()}
        shown = [
            f"![{CAPTIONS[kind]}]({images}/{file}.svg)\n\n*{CAPTIONS[kind]}.*\n" for file, (kind, _) in drawn.items()
        ]
        parts += [f"## {name}\n", _about(name, grid), *_tables(grid), _claims(grid), *shown]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts if part), plots


def write_page(out: Path, results: Mapping[str, Results], *, images: Path) -> None:
    """The page and its plots, replaced; plots of grids that are gone stay."""
    text, plots = render(results, images=images.resolve().relative_to(out.resolve().parent).as_posix())
    images.mkdir(parents=True, exist_ok=True)
    for name, plot in plots.items():
        (images / name).write_text(plot, encoding="utf-8")
    out.write_text(text, encoding="utf-8")


def _about(name: str, results: Results) -> str:
    cells = results.cells
    asked = {key: sorted({str(cell.asked[key]) for cell in cells}) for key in ("split", "batch_size", "loss")}
    rows = {
        role: _span([int(cell.data[f"{role}_rows"]) for cell in cells]) for role in ("train", "selection", "report")
    }
    derivative = ", a derivative of flan-t5-small" if results.backbone.id == "embedded" else ""
    facts = [
        f"[{name}.json](results/{name}.json): {len(cells)} runs, seeds {_listed({cell.seed for cell in cells})}, "
        f"split {_listed(asked['split'])}, loss {_listed(asked['loss'])}.",
        f"Each run: {_span([cell.steps for cell in cells])} steps of {_listed(asked['batch_size'])} rows; "
        f"{rows['train']} training, {rows['selection']} selection and {rows['report']} report rows.",
        _FOREIGN.format(id=results.backbone.id, derivative=derivative) if not _is_papers(results) else "",
        _missing(cells),
    ]
    return "\n".join(fact for fact in facts if fact)


def _is_papers(results: Results) -> bool:
    return any(row.backbone == results.backbone.id for row in (*table1(), *table3()))


def _missing(cells: Sequence[CellResult]) -> str:
    """Which of the variants × tasks × seeds that these results have any run of have none."""
    have = {(cell.variant, cell.task, cell.seed) for cell in cells}
    gaps: dict[str, list[str]] = {}
    for seed in sorted({cell.seed for cell in cells}):
        for name in variants(ANY_SOURCES):
            lacking = [task for task in ordered_tasks(cells) if (name, task, seed) not in have]
            if lacking and any(cell.variant == name for cell in cells):
                gaps.setdefault(f"{', '.join(lacking)}, seed {seed}", []).append(name)
    listed = "; ".join(f"{', '.join(names)} on {where}" for where, names in gaps.items())
    return f"Runs that are missing: {listed}." if listed else ""


def _tables(results: Results) -> list[str]:
    table = make_table(results, tuple(variants(ANY_SOURCES)))
    return [_markdown(table)] + ([_published(table)] if table.published else [])


def _markdown(table: Table) -> str:
    head = ["method", "rate", "dropout", *table.tasks, "mean", "overall"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(_cells(line, table))} |" for line in table.lines]
    for title, values in (("*untrained, mean*", table.untrained), ("*constant*", table.constant)):
        mean = sum(values.values()) / len(values)
        cells = [title, "", "", *(f"{values[task]:.1f}" for task in table.tasks), f"{mean:.1f}", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(line: Line, table: Table) -> list[str]:
    entries = [str(line.entries[task]) if task in line.entries else "–" for task in table.tasks]
    whole = len(line.entries) == len(table.tasks)
    overall = f"{line.overall.mean:.1f} ± {line.overall.std:.1f}" if line.overall else "–"
    average = f"{line.average:.1f}" if line.average is not None and whole else "–"
    return [line.title, f"{line.lr:g}", "on" if line.dropout else "off", *entries, average, overall]


def _published(table: Table) -> str:
    head = ["published", "dropout", *table.tasks, "avg. of 13"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in table.published:
        cells = [row.cells[task].printed if task in row.cells else "–" for task in table.tasks]
        dropout = "–" if row.dropout is None else "on" if row.dropout else "off"
        lines.append(
            f"| {' | '.join([row.method, dropout, *cells, '–' if row.average is None else f'{row.average}'])} |"
        )
    return "\n".join(lines)


def _claims(results: Results) -> str:
    found = differences(results)
    if not found:
        return ""
    lines = ["| claim | points, first less second | runs ahead, behind, of |", "|---|---|---|"]
    lines += [
        f"| {each.claim} | {each.mean:+.1f} ± {each.std:.1f} | {each.num_ahead}, {each.num_behind}, {each.num_runs} |"
        for each in found
    ]
    return "\n".join(["Runs of the same task and seed, one less the other:", "", *lines])


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _listed(values: "set[int] | list[str]") -> str:
    return ", ".join(map(str, sorted(values)))
