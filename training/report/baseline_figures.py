"""Figure of a run's score next to its baselines: points with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from training.report import style


@dataclass(frozen=True, slots=True)
class ScorePoint:
    """A score and the bounds of its interval."""

    name: str
    value: float
    low: float
    high: float


def score_points(points: Sequence[ScorePoint], measure: str) -> Figure:
    """One line per point, from the top; the last one, the run's, in colour, with its score as a thin level."""
    width, height, left = 6.2, 0.75 + 0.32 * len(points), 2.1
    figure = Figure(figsize=(width, height))
    box = (left / width, 0.5 / height, (width - left - 0.6) / width, (height - 0.6) / height)
    axes = style.plain(figure.add_axes(box))
    last = len(points) - 1
    axes.axvline(points[last].value, color=style.RULE, linewidth=0.9)
    for place, point in enumerate(points):
        colour = style.BLUE if place == last else style.MUTED
        axes.plot([point.low, point.high], [place, place], color=colour, linewidth=1.6, solid_capstyle="round")
        axes.scatter([point.value], [place], s=30, color=colour, linewidth=0, zorder=3)
        style.name_at_edge(axes, f"{point.value:.3f}", place, colour=colour, gap=6)
    axes.set_yticks(range(len(points)), [point.name for point in points])
    axes.tick_params(axis="y", length=0)
    axes.set(ylim=(last + 0.6, -0.6), xlabel=f"{measure}, report rows")
    return figure
