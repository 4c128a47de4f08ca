"""Figures of a run's answers: confusion, reliability, confidence of right and wrong answers."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.report import style
from training.report.answers import Reliability
from training.report.figures import heat_map

MAX_NAMED_LABELS = 20
"""A confusion matrix of more has no counts and no names: its cells would be too small to read."""
_MAX_NAME = 18
_CELL_STRENGTH = 0.85
"""Opacity of a cell with all rows of its label, at which its count is readable."""


def confusion_figure(matrix: NDArray[np.int64], names: Sequence[str]) -> Figure:
    """Right label down, given label across; a cell's strength is its share of the right label's rows."""
    size = len(names)
    named = size <= MAX_NAMED_LABELS
    support = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shares = matrix / support * _CELL_STRENGTH
    shown = [_short(name) for name in names] if named else []
    longest = max(map(len, shown), default=2)
    margin = 0.5 + 0.065 * longest
    side = max(1.3, 0.42 * size) if named else 3.6
    across = named and 0.065 * longest > side / size  # names that would touch are turned
    below = margin if across else 0.55
    figure = Figure(figsize=(margin + side + 0.25, side + below + 0.35))
    width, height = figure.get_size_inches()
    axes = style.plain(figure.add_axes((margin / width, below / height, side / width, side / height)))
    numbers = [[str(cell) if cell else "" for cell in row] for row in matrix.tolist()] if named else None
    heat_map(axes, shares, row_labels=shown, column_labels=shown, numbers=numbers)
    if across:
        axes.tick_params(axis="x", labelrotation=90)
    axes.set(xlabel="given", ylabel="right")
    return figure


def reliability_figure(lines: Mapping[str, Reliability]) -> Figure:
    """Accuracy against confidence; on the diagonal a probability means what it says. A point's size is its rows."""
    figure, (axes,) = style.panels(1, columns=1, width=4.1, height=3.2, right=1.15)
    axes.plot([0, 1], [0, 1], color=style.MUTED, linewidth=0.9, dashes=(4, 3))
    for number, (name, line) in enumerate(lines.items()):
        colour = (style.ORANGE, style.BLUE)[number % 2] if len(lines) > 1 else style.BLUE
        axes.plot(line.confidence, line.accuracy, color=colour, linewidth=1.6)
        sizes = 12 + 60 * line.counts / line.counts.sum()
        axes.scatter(line.confidence, line.accuracy, s=sizes, color=colour, linewidth=0, zorder=3)
        axes.annotate(
            f"{name}\nECE {line.error:.3f}",
            xy=(1, 0.62 - 0.22 * number),
            xycoords="axes fraction",
            xytext=(8, 0),
            textcoords="offset points",
            color=colour,
            fontsize=8.5,
            va="center",
        )
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
    style.title(axes, "does a probability mean what it says?")
    return figure


def confidence_figure(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Figure:
    """How many rows got their answer with what probability, right ones below, wrong ones on top."""
    figure, (axes,) = style.panels(1, columns=1, width=4.1, height=3.2, right=0.6)
    edges = np.linspace(0, 1, 21)
    hits, misses = (np.histogram(confidence[kind], edges)[0] for kind in (right, ~right))
    for counts, bottom, colour in ((hits, np.zeros(20), style.BLUE), (misses, hits, style.ORANGE)):
        axes.bar(edges[:-1] + 0.003, counts, width=0.044, bottom=bottom, align="edge", color=colour, linewidth=0)
    axes.set(xlim=(0, 1.0), xlabel="confidence", ylabel="rows")
    axes.set_ylim(0, max(1, (hits + misses).max()) * 1.18)
    style.title(axes, "how sure are right and wrong answers?")
    _key(axes, f"{int(right.sum())} right", style.BLUE, 0)
    _key(axes, f"{int((~right).sum())} wrong", style.ORANGE, 1)
    return figure


def _key(axes: Axes, text: str, colour: str, line: int) -> None:
    axes.annotate(text, xy=(0.02, 0.97 - 0.09 * line), xycoords="axes fraction", color=colour, fontsize=8.5, va="top")


def _short(name: str) -> str:
    return name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"
