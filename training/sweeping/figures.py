"""Figures of a sweep: values by trial, values by argument, and the importance of each argument."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from training.report import style
from training.sweeping.space import SearchSpace
from training.sweeping.sweep import EndedTrial


def sweep_figures(
    ended: Sequence[EndedTrial],
    space: SearchSpace,
    importances: Mapping[str, float],
    *,
    metric: str,
    lower_is_better: bool,
) -> dict[str, Figure]:
    """Draw the figures, by title. Filled dots are complete trials, hollow ones were pruned."""
    figures: dict[str, Figure] = {}
    if ended:
        figures[f"{metric} by trial, and the best so far"] = _history(ended, lower_is_better=lower_is_better)
    if ended and space.dimensions:
        figures[f"{metric} by argument"] = _slices(ended, space)
    if importances:
        figures[f"share of {metric} that each argument explains (PED-ANOVA)"] = _importances(importances)
    return figures


def _history(ended: Sequence[EndedTrial], *, lower_is_better: bool) -> Figure:
    figure, (axes,) = style.panels(1, width=7.2, height=2.6)
    trials = sorted(ended, key=lambda trial: trial.number)
    best = list(accumulate((trial.value for trial in trials), min if lower_is_better else max))
    axes.step([trial.number for trial in trials], best, where="post", color=style.ORANGE, linewidth=1.6)
    _dots(axes, trials, [trial.number for trial in trials])
    axes.set(xlabel="trial")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    return figure


def _slices(ended: Sequence[EndedTrial], space: SearchSpace) -> Figure:
    figure, panels = style.panels(len(space.dimensions), columns=3, width=3.2, height=2.5)
    for name, axes in zip(space.dimensions, panels, strict=True):
        using = [trial for trial in ended if name in space.dimensions_of(trial.arguments)]
        values = [getattr(trial.arguments, name) for trial in using]
        style.title(axes, name)
        if all(isinstance(value, float) for value in values):
            _dots(axes, using, values)
            axes.set_xscale("log" if space.is_logarithmic(name) else "linear")
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.minorticks_off()
        else:
            choices = sorted(set(values))
            _dots(axes, using, [choices.index(value) for value in values])
            axes.set_xticks(range(len(choices)), [str(choice) for choice in choices])
            axes.set_xlim(-0.5, len(choices) - 0.5)
    return figure


def _importances(importances: Mapping[str, float]) -> Figure:
    figure, (axes,) = style.panels(1, width=5.2, height=0.9 + 0.3 * len(importances))
    names = list(importances)[::-1]
    axes.barh(range(len(names)), [importances[name] for name in names], height=0.55, color=style.BLUE)
    for row, name in enumerate(names):
        axes.text(
            importances[name] + 0.01,
            row,
            f"{name}  {importances[name]:.2f}",
            color=style.INK,
            fontsize=8.5,
            va="center",
        )
    axes.set_yticks([])
    axes.set_xlim(0, 1.35)
    axes.set_xticks([0, 0.5, 1])
    return figure


def _dots(axes: Axes, trials: Sequence[EndedTrial], places: Sequence[float]) -> None:
    for trial, place in zip(trials, places, strict=True):
        fill = "none" if trial.stop == "pruned" else style.BLUE
        axes.plot(place, trial.value, "o", markersize=5, markerfacecolor=fill, markeredgecolor=style.BLUE, alpha=0.85)
