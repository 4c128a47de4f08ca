"""A grid's tables in Markdown: methods, claims, ablations and what the paper published."""

from collections.abc import Iterable, Sequence

from training.paper.claims import differences, swept_best
from training.paper.published import PublishedRow
from training.paper.results import Results
from training.paper.tables import Line, Table, make_table, ordered_tasks
from training.paper.variants import ABLATED, ANY_STARTS, SAMPLED_TOKENS, STARTS, SUPERPOS_RATES, sampled, variants

_NONE = "–"


def methods_table(results: Results) -> str:
    """Return the table of methods without ablations, one line per method and one column per task; empty without any."""
    names = [name for name in variants(ANY_STARTS) if name not in ABLATED]
    table = make_table(results, names)
    if not table.lines:
        return ""
    best = {task: max(line.entries[task].mean for line in table.lines if task in line.entries) for task in table.tasks}
    swept = swept_best(results)
    lines = [[*_named(line, swept), *_entries(line, table, best), *_summary(line, table)] for line in table.lines]
    for title, values in (("*untrained, mean*", table.untrained), ("*constant*", table.constant)):
        mean = sum(values.values()) / len(values)
        lines.append([title, "", "", *(f"{values[task]:.1f}" for task in table.tasks), f"{mean:.1f}", ""])
    return _table(["method", "rate", "dropout", *table.tasks, "mean", "overall"], lines, words=3)


def sampled_tokens_table(results: Results) -> str:
    """The m ablation on the tasks and seeds that it was run on; empty without any."""
    return _ablation(results, "m", {f"{m}": sampled(m) for m in SAMPLED_TOKENS})


def starts_table(results: Results) -> str:
    """How p′ starts, on both bases, on the tasks and seeds that it was run on; empty without any."""
    named = {f"{basis.replace('_', ' ')}, {init}": name for (basis, init), name in STARTS.items()}
    return _ablation(results, "basis, start of p′", named)


def rates_table(results: Results) -> str:
    """SuperPos at larger rates, on the tasks and seeds that it was run on with them; empty without any."""
    return _ablation(results, "rate", {f"{lr:g}": name for lr, name in SUPERPOS_RATES.items()})


def claims_table(results: Results) -> str:
    """Return the table of the paper's claims as differences by task; empty if no runs are comparable."""
    found = differences(results)
    if not found:
        return ""
    tasks = ordered_tasks([cell for cell in results.cells if any(cell.task in each.by_task for each in found)])
    lines = []
    for each in found:
        by_task = [_signed(each.by_task[task]) if task in each.by_task else _NONE for task in tasks]
        over = f"{_signed(each.mean)} ± {each.std:.1f}"
        lines.append([each.claim, *by_task, over, f"{each.num_ahead} of {each.num_runs}", f"{each.p_value:.2f}"])
    return _table(["claim", *tasks, "mean ± std", "ahead", "p"], lines, words=1)


def published_table(table: Sequence[PublishedRow], tasks: Sequence[str]) -> str:
    """The paper's own lines, where the backbone is one of the paper's; empty without any."""
    lines = []
    for row in table:
        cells = [row.cells[task].printed if task in row.cells else _NONE for task in tasks]
        dropout = _NONE if row.dropout is None else "on" if row.dropout else "off"
        lines.append([row.title, dropout, *cells, _NONE if row.average is None else f"{row.average}"])
    return _table(["published", "dropout", *tasks, "avg. of 13"], lines, words=2) if lines else ""


def _ablation(results: Results, title: str, named: dict[str, str]) -> str:
    """Variants by what they are called here, compared on the tasks and seeds that have an ablated run of them."""
    where = {(c.task, c.seed) for c in results.cells if c.variant in named.values() and c.variant in ABLATED}
    within = results.model_copy(update={"cells": tuple(c for c in results.cells if (c.task, c.seed) in where)})
    titles = {name: label for label, name in named.items()}
    table = make_table(within, list(titles))
    best = {task: max(line.entries[task].mean for line in table.lines if task in line.entries) for task in table.tasks}
    lines = [[titles[line.variant], *_entries(line, table, best), _average(line, table)] for line in table.lines]
    return _table([title, *table.tasks, "mean"], lines, words=1) if len(lines) > 1 else ""


def _named(line: Line, swept: str | None) -> list[str]:
    rate = _NONE if line.lr is None else f"{line.lr:g}"
    return [line.title, rate + (" ◂" if line.variant == swept else ""), "on" if line.dropout else "off"]


def _entries(line: Line, table: Table, best: dict[str, float]) -> list[str]:
    entries = []
    for task in table.tasks:
        entry = line.entries.get(task)
        shown = _NONE if entry is None else _printed(str(entry))
        entries.append(f"**{shown}**" if entry is not None and entry.mean == best[task] else shown)
    return entries


def _summary(line: Line, table: Table) -> list[str]:
    return [_average(line, table), f"{line.overall.mean:.1f} ± {line.overall.std:.1f}" if line.overall else _NONE]


def _average(line: Line, table: Table) -> str:
    """Return a mean only over all tasks, since means over different tasks are not comparable."""
    whole = line.average is not None and len(line.entries) == len(table.tasks)
    return _printed(f"{line.average:.1f}") if whole else _NONE


def _printed(number: str) -> str:
    """With a minus sign where it has a hyphen."""
    return number.replace("-", "−")


def _signed(points: float) -> str:
    return _printed(f"{points:+.1f}")


def _table(head: Sequence[str], lines: Iterable[Sequence[str]], *, words: int) -> str:
    """Columns of words first, then of numbers, those to the right."""
    rule = "|---" * words + "|---:" * (len(head) - words) + "|"
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(cells)} |" for cells in lines)])
