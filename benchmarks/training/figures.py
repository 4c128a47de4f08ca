"""Plot of an accuracy grid by line: one panel per set, a dot per seed and the mean of each line."""

import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence

from matplotlib.figure import Figure

from benchmarks.training.cells import CellResult
from benchmarks.training.tables import ordered, points, select
from training.report import style


def dots_figure(
    results: Sequence[CellResult],
    lines: Sequence[str],
    colours: Mapping[Hashable, str],
    *,
    series_of: Callable[[CellResult], Hashable],
    level: str | None = None,
    legend: Mapping[Hashable, str] | None = None,
) -> Figure:
    """Draw one panel per set, with the lines below each other and the score to the right.

    Args:
        lines: from top to bottom
        colours: of the series; a line may have several series, which are drawn in this order
        series_of: returns a result's series
        level: the line whose mean over a set is drawn as a level
        legend: names of series, written into the first panel in their colours
    """
    sets, _ = ordered(results)
    figure, axes = style.panels(len(sets), columns=3, width=3.9, height=0.9 + 0.2 * len(lines), left=1.2, right=0.2)
    for number, (panel, name) in enumerate(zip(axes, sets, strict=True)):
        style.title(panel, name)
        if level is not None and (found := points(select(results, line=level, set=name))):
            panel.axvline(statistics.fmean(found), color=style.MUTED, linewidth=0.9, dashes=(4, 3))
        for place, line in enumerate(lines):
            of_line = select(results, line=line, set=name)
            for series, colour in colours.items():
                scores = points(each for each in of_line if series_of(each) == series)
                if scores:
                    panel.scatter(scores, [place] * len(scores), s=8, color=colour, alpha=0.5, linewidth=0)
                    panel.scatter([statistics.fmean(scores)], [place], s=26, color=colour, linewidth=0, zorder=3)
        panel.set_yticks(range(len(lines)), lines if number % 3 == 0 else [""] * len(lines))
        panel.set(ylim=(len(lines) - 0.4, -0.6))
        panel.tick_params(axis="y", length=0)
    names = legend or {}
    for place, (series, text) in enumerate(names.items()):
        axes[0].annotate(
            text,
            xy=(0.02, 0.03 + 0.07 * (len(names) - 1 - place)),
            xycoords="axes fraction",
            color=colours[series],
            fontsize=7.5,
        )
    return figure
