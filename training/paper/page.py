"""`docs/results.md`: tables and plots of grids, written from their JSON and from nothing else."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from adapters.atomic_files import atomic_write
from training.paper.markdown import (
    claims_table,
    methods_table,
    published_table,
    rates_table,
    sampled_tokens_table,
    starts_table,
)
from training.paper.plots import CAPTIONS, figures
from training.paper.published import table1, table3
from training.paper.results import CellResult, Results
from training.paper.tables import make_table, ordered_tasks
from training.paper.variants import ABLATED, ANY_STARTS, variants
from training.report.svg import svg

_HEAD = """# The paper's grids, run here

`superpos paper render` writes this page from the JSON files that it names.
Scores are in points: the mean of a task's metrics × 100, on report rows that were not used for any choice, ± one \
population standard deviation over seeds.
"""
_METHODS = """Bold marks a task's best line; ◂ the rate of simple prompt tuning that the selection rows choose; ‡ a \
run whose prompt gave every row the same answer.
**Constant** is the majority-class baseline, the best constant answer on the same report rows: a score near it means \
that nothing was learnt.
**Overall** is the paper's standardised score (Table 2) over these lines: 0 the worst line on a task, 100 the best, \
mean ± deviation over tasks.
"""
_CLAIMS = """Differences of runs of the same task and seed in points: mean over seeds of each task, mean ± deviation \
over tasks, and how many runs are ahead.
**p** is of the exact two-sided sign-flip test over tasks; with n tasks it is never below 2^(1 − n), so few tasks \
decide little.
"""
_ABLATIONS = {
    "rates": ("SuperPos at larger rates than the paper's", rates_table),
    "sampled_tokens": ("How many tokens are superposed", sampled_tokens_table),
    "starts": ("How p′ starts", starts_table),
}
_FOREIGN = """The paper does not use the backbone `{id}`{derivative}: no number here is comparable with a published one.
Only the order of the methods is comparable.
"""


def render(results: Mapping[str, Results], *, images: str) -> tuple[str, dict[str, str]]:
    """The page, and the plots that it shows as SVG files by name.

    Args:
        results: by the JSON file's name without its suffix
        images: folder of the plots, relative to the page
    """
    parts = [_HEAD]
    plots: dict[str, str] = {}
    for name, grid in results.items():
        drawn = {kind: svg(figure) for kind, figure in figures(grid).items()}
        plots |= {f"{name}-{kind}.svg": text for kind, text in drawn.items()}
        shown = {kind: _shown(f"{images}/{name}-{kind}.svg", CAPTIONS[kind]) for kind in drawn}
        parts += [f"## {name}\n", _about(name, grid), *_sections(grid, shown)]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts if part), plots


def _sections(results: Results, plots: dict[str, str]) -> Iterator[str]:
    """Return tables under their headings, each ablation's plot with its table, other plots last."""
    if methods := methods_table(results):
        yield f"### Methods\n\n{_METHODS}\n{methods}"
    table = make_table(results, tuple(variants(ANY_STARTS)))
    yield published_table(table.published, table.tasks)
    if claims := claims_table(results):
        yield f"### What the paper claims\n\n{_CLAIMS}\n{claims}"
    for kind, (title, make) in _ABLATIONS.items():
        if ablation := make(results):
            yield f"### {title}\n\n{ablation}\n\n{plots.pop(kind, '')}"
    if plots:
        yield "### Curves and similarities\n"
        yield from plots.values()


def _shown(path: str, caption: str) -> str:
    return f"![{caption}]({path})\n\n*{caption}.*\n"


def write_page(out: Path, results: Mapping[str, Results], *, images: Path) -> None:
    """The page and its plots, replaced; plots of grids that are gone stay."""
    text, plots = render(results, images=images.resolve().relative_to(out.resolve().parent).as_posix())
    images.mkdir(parents=True, exist_ok=True)
    atomic_write({images / name: plot.encode() for name, plot in plots.items()} | {out: text.encode()})


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
        f"Metrics: {_metrics(cells)}.",
        _precisions(cells),
        _FOREIGN.format(id=results.backbone.id, derivative=derivative) if not _is_papers(results) else "",
        _missing(cells),
    ]
    return "\n".join(fact for fact in facts if fact)


def _metrics(cells: Sequence[CellResult]) -> str:
    """Return the metrics of each task; tasks with the same metrics form one group."""
    judged: dict[str, list[str]] = {}
    by_task = {cell.task: cell.metrics for cell in cells}
    for task in ordered_tasks(cells):
        judged.setdefault(" and ".join(by_task[task]).replace("_", " "), []).append(task)
    return "; ".join(f"{', '.join(tasks)} by {metrics}" for metrics, tasks in judged.items())


def _precisions(cells: Sequence[CellResult]) -> str:
    """Return the precision of the frozen network during training, unless it was always float32."""
    if all(cell.precision == "fp32" for cell in cells):
        return ""
    counts = Counter(cell.precision for cell in cells)
    listed = ", ".join(f"{precision} in {count} runs" for precision, count in sorted(counts.items()))
    return f"The frozen network trained in {listed}; report rows are always scored in fp32."


def _is_papers(results: Results) -> bool:
    return any(row.backbone == results.backbone.id for row in (*table1(), *table3()))


def _missing(cells: Sequence[CellResult]) -> str:
    """Which of the variants × tasks × seeds that these results have any run of have none; ablations ask for fewer."""
    have = {(cell.variant, cell.task, cell.seed) for cell in cells}
    gaps: dict[str, list[str]] = {}
    for seed in sorted({cell.seed for cell in cells}):
        for name in (each for each in variants(ANY_STARTS) if each not in ABLATED):
            lacking = [task for task in ordered_tasks(cells) if (name, task, seed) not in have]
            if lacking and any(cell.variant == name for cell in cells):
                gaps.setdefault(f"{', '.join(lacking)}, seed {seed}", []).append(name)
    listed = "; ".join(f"{', '.join(names)} on {where}" for where, names in gaps.items())
    return f"Runs that are missing: {listed}." if listed else ""


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _listed(values: "set[int] | list[str]") -> str:
    return ", ".join(map(str, sorted(values)))
