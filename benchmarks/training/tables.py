"""Tables of the accuracy grids in Markdown, and the statistics in them."""

import statistics
from collections.abc import Iterable, Sequence

import typer
from scipy.stats import t

from benchmarks.training.cells import LINES, SETS, CellResult, num_steps

LEVEL = 0.95


def chosen_lines(text: str | None, known: Sequence[str]) -> list[str]:
    """Return the lines that `--only` names.

    Raises:
        typer.BadParameter: an unknown name
    """
    names = list(known) if text is None else text.split(",")
    possible = tuple(dict.fromkeys((*LINES, *known)))
    if unknown := [name for name in names if name not in possible]:
        raise typer.BadParameter(f"unknown line {unknown[0]!r}, expected one of {', '.join(possible)}")
    return names


def select(results: Iterable[CellResult], **wanted: object) -> list[CellResult]:
    """Return the results whose cells have these values, by seed."""
    found = [each for each in results if all(getattr(each.cell, name) == value for name, value in wanted.items())]
    return sorted(found, key=lambda each: each.cell.seed)


def ordered(results: Sequence[CellResult]) -> tuple[list[str], list[str]]:
    """Return the sets and the lines that occur, in the order of the grids; others after them."""
    sets = {each.cell.set for each in results}
    lines = {each.cell.line for each in results}
    return _in_order(sets, SETS), _in_order(lines, LINES)


def _in_order(names: set[str], known: Sequence[str]) -> list[str]:
    return [*(name for name in known if name in names), *sorted(names - set(known))]


def points(results: Iterable[CellResult]) -> list[float]:
    """Return the scores × 100."""
    return [100 * each.score for each in results]


def half_width(values: Sequence[float]) -> float | None:
    """Return half the width of the mean's 95 % interval by Student's t over seeds; None for fewer than two."""
    if len(values) < 2:
        return None
    quantile = float(t.ppf((1 + LEVEL) / 2, len(values) - 1))
    return quantile * statistics.stdev(values) / len(values) ** 0.5


def mean_and_half_width(values: Sequence[float]) -> str:
    """Return `84.2 ± 1.3`, a mean alone for one value, and a dash for none."""
    if not values:
        return "–"
    width = half_width(values)
    return f"{statistics.fmean(values):.1f}".replace("-", "−") + ("" if width is None else f" ± {width:.1f}")


def facts(results: Sequence[CellResult]) -> str:
    """Return in sentences what was run: seeds, rows, metrics, arguments and commits."""
    seeds = ", ".join(map(str, sorted({each.cell.seed for each in results})))
    rows = [f"{_span(each.rows[role] for each in results)} {role}" for role in ("train", "selection", "report")]
    by_measure: dict[str, list[str]] = {}
    for name in ordered(results)[0]:
        by_measure.setdefault(select(results, set=name)[0].measure.replace("_", " "), []).append(name)
    measures = "; ".join(f"{', '.join(names)} by {measure}" for measure, names in by_measure.items())
    trained = [(each, count) for each in results if (count := num_steps(each)) is not None]
    given = sorted({f"{name} {value}" for each, _ in trained for name, value in each.cell.arguments})
    told = [
        f"{len(results)} cells, seeds {seeds}; {', '.join(rows)} rows.",
        f"Score × 100: {measures}, the mean where there are several.",
        "± is half the 95 % interval of the mean over seeds, by Student's t: with few seeds it is wide.",
        f"Arguments that differ from the defaults: {', '.join(given).replace('_', ' ')}." if given else "",
        f"Optimiser steps of a run, at most: {_span(count for _, count in trained)}." if trained else "",
        _in_bf16(results),
        f"Commits: {', '.join(sorted({each.commit for each in results}))}.",
    ]
    return "\n".join(line for line in told if line)


def _in_bf16(results: Sequence[CellResult]) -> str:
    """Return which cells were trained in bf16; empty if none was."""
    found = [each for each in results if each.precision == "bf16"]
    counts = sorted({"all" if each.cell.shots is None else str(each.cell.shots) for each in found})
    return f"{len(found)} cells, with {' or '.join(counts)} rows per label, were trained in bf16." if found else ""


def _span(values: Iterable[int]) -> str:
    found = list(values)
    low, high = min(found), max(found)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: int) -> str:
    """Return a table whose first columns hold words and whose others hold numbers, those to the right."""
    rule = "|---" * words + "|---:" * (len(head) - words) + "|"
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)])
