"""Curves and heat maps: drawn on axes that they are given, so that a report and a paper's figure can share them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from training.report import style

_LABEL_GAP = 0.085
"""Between the names of two lines, of the axes' height."""
_DISTINCT_BANDS = 3
"""Maximum number of overlapping bands that remain distinguishable."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One run's line: values against x. Curves of one group (seeds, say) share a colour and have a mean."""

    group: str
    x: NDArray[np.float64]  # [n]
    y: NDArray[np.float64]  # [n]


def lines_with_band(
    axes: Axes,
    curves: Sequence[Curve],
    *,
    x_label: str,
    y_label: str = "",
    reference: tuple[str, float] | None = None,
    log_x: bool = False,
) -> None:
    """Every run thin; of a group of several its mean thick, with a band of one population deviation. Named at the end.

    Args:
        axes: where to draw
        curves: in the order of their groups' colours
        reference: a name and a value, drawn as a dashed level
        log_x: x is drawn to base 2, each of its values a tick
    """
    names: dict[str, tuple[float, str]] = {}
    groups = _groups(curves)
    faint = 1.0 if len(groups) <= _DISTINCT_BANDS else 0.4  # many bands over each other hide the means
    for number, (group, members) in enumerate(groups.items()):
        colour = style.SERIES[number % len(style.SERIES)]
        dashes = "-" if number < len(style.SERIES) else "--"
        alone = len(members) == 1
        for curve in members:
            axes.plot(
                curve.x,
                curve.y,
                dashes,
                color=colour,
                linewidth=1.8 if alone else 0.7,
                alpha=1 if alone else 0.5 * faint,
            )
        x, mean, deviation = mean_and_deviation(members)
        if not alone:
            axes.fill_between(x, mean - deviation, mean + deviation, color=colour, alpha=0.18 * faint, linewidth=0)
            axes.plot(x, mean, dashes, color=colour, linewidth=2.2)
        named = group if dashes == "-" else f"{group}, dashed"
        names[named] = (float(mean[-1]), colour)
    if reference is not None:
        axes.axhline(reference[1], color=style.MUTED, linewidth=0.9, dashes=(4, 3))
        names[reference[0]] = (reference[1], style.MUTED)
    axes.set(xlabel=x_label, ylabel=y_label)
    if log_x:
        axes.set_xscale("log", base=2)
        ticks = sorted({float(x) for curve in curves for x in curve.x})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    if len(names) > 1:
        _name_lines(axes, names)


def learning_curves(
    scores: Sequence[Curve],
    losses: Sequence[Curve],
    *,
    score_name: str,
    reference: tuple[str, float] | None = None,
) -> Figure:
    """Two panels against the step: the score that selects, and the training loss."""
    figure, (left, right) = style.panels(2, columns=2, width=5.15, height=3.1, right=1.3)
    style.title(left, score_name)
    lines_with_band(left, scores, x_label="step", reference=reference)
    style.title(right, "training loss (nats)")
    lines_with_band(right, losses, x_label="step")
    return figure


def heat_map(
    axes: Axes,
    values: ArrayLike,  # [R, C], −1 to 1
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    numbers: Sequence[Sequence[str]] | None = None,
) -> None:
    """Cells whose strength is the value's: one hue above zero, another below, paper at zero; so it suits any paper.

    Args:
        axes: where to draw
        values: of each cell
        row_labels: from the top
        column_labels: from the left
        numbers: what is written into each cell, [R][C]
    """
    matrix = np.clip(np.nan_to_num(np.asarray(values, dtype=np.float64)), -1, 1)
    num_rows, num_columns = matrix.shape
    for (row, column), value in np.ndenumerate(matrix):
        if abs(value) >= 0.01:
            colour = style.HEAT if value > 0 else style.COLD
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, alpha=round(abs(value), 2), linewidth=0))
        if numbers is not None and numbers[row][column]:
            axes.text(
                column + 0.5,
                row + 0.5,
                numbers[row][column],
                color=style.INK,
                fontsize=8,
                ha="center",
                va="center_baseline",
            )
    axes.set(xlim=(0, num_columns), ylim=(num_rows, 0), aspect="equal")
    axes.set_xticks(np.arange(len(column_labels)) + 0.5, column_labels)
    axes.set_yticks(np.arange(len(row_labels)) + 0.5, row_labels)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set(visible=True, color=style.RULE)


def similarity_maps(weights: Mapping[str, NDArray[np.float32]], *, columns: int = 4) -> Figure:
    """Cosine similarity of superposition weights p′ between prompt tokens, one panel per run (paper, Figure 2d).

    Args:
        weights: p′ [P, m] by the name of its run or task
        columns: panels per row
    """
    figure, axes = style.panels(len(weights), columns=columns, width=2.6, height=2.7)
    for panel, (name, matrix) in zip(axes, weights.items(), strict=True):
        style.title(panel, name)
        size = len(matrix)
        shown = [str(i + 1) if i % max(1, size // 10) == 0 else "" for i in range(size)]
        heat_map(panel, cosine_similarity(matrix), row_labels=shown, column_labels=shown)
    return figure


def cosine_similarity(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine similarity of all pairs, [P, m] → [P, P]; zero for a zero vector."""
    rows = vectors.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    similarity: NDArray[np.float64] = unit @ unit.T
    return similarity


def mean_and_deviation(
    curves: Sequence[Curve],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """x, mean and population deviation of a group: at the x of any, each curve read between its points.

    A curve that ended earlier (patience, divergence) keeps its last value, as its best prompt would.
    """
    x = np.unique(np.concatenate([curve.x for curve in curves]))
    values = np.stack([np.interp(x, curve.x, curve.y) for curve in curves])  # [runs, n]
    return x, values.mean(axis=0), values.std(axis=0)


def _groups(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        groups.setdefault(curve.group, []).append(curve)
    return groups


def _name_lines(axes: Axes, names: Mapping[str, tuple[float, str]]) -> None:
    """Write each line's name at its end, moved apart where two would touch."""
    low, high = axes.get_ylim()
    gap = _LABEL_GAP * (high - low)
    ordered = sorted(names.items(), key=lambda item: item[1][0])
    for (name, (_, colour)), place in zip(
        ordered, _places([value for _, (value, _) in ordered], gap, high), strict=True
    ):
        style.name_at_edge(axes, name, place, colour=colour, gap=5)


def _places(values: Sequence[float], gap: float, high: float) -> list[float]:
    """Where ascending values' names go: a gap apart at least, and not above `high` into the panel over this one."""
    places: list[float] = []
    for value in values:
        places.append(max(value, places[-1] + gap) if places else value)
    top = high
    for index in reversed(range(len(places))):
        places[index] = min(places[index], top)
        top = places[index] - gap
    return places
