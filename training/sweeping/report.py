"""Report of a sweep: `sweep.json`, and `sweep.html` with the plots and all trials in one file."""

from collections.abc import Sequence
from pathlib import Path

import jinja2

from training.report.style import DARK, LIGHT
from training.report.svg import inline_svg, svg
from training.sweeping.figures import sweep_figures
from training.sweeping.sweep import EndedTrial, Sweep

_TEMPLATE = Path(__file__).with_name("page.html")


def write_sweep_report(sweep: Sweep, ended: Sequence[EndedTrial], *, command: str | None) -> None:
    """Replace both files.

    Args:
        ended: the best trial first
        command: repeats the best trial's run; None while the sweep is unfinished
    """
    importances = sweep.importances()
    outcome: dict[str, object] = {
        "best": ended[0].number if ended else None,
        "command": command,
        "lost": sweep.num_lost,
        "importances": importances,
        "trials": [
            {
                "number": trial.number,
                sweep.plan.metric: trial.value,
                "selection_loss": trial.loss,
                "best_epoch": trial.best_epoch,
                "stop": trial.stop,
                **{name: getattr(trial.arguments, name) for name in sweep.plan.space.dimensions_of(trial.arguments)},
            }
            for trial in ended
        ],
    }
    sweep.folder.write(outcome)
    sweep.folder.write_page(_page(sweep, ended, importances, command))


def title(dimension: str) -> str:
    """Return an argument's column title."""
    return "m" if dimension == "num_sampled_tokens" else dimension


def shown(value: object) -> str:
    """Format a number or a choice for a table."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _page(sweep: Sweep, ended: Sequence[EndedTrial], importances: dict[str, float], command: str | None) -> str:
    names = sweep.plan.space.dimensions
    figures = sweep_figures(
        ended, sweep.plan.space, importances, metric=sweep.plan.metric, lower_is_better=not sweep.maximise
    )
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(_TEMPLATE.read_text())
    return template.render(
        task=sweep.task.task.name,
        metric=sweep.plan.metric,
        light=LIGHT,
        dark=DARK,
        command=command,
        num_pruned=sum(trial.stop == "pruned" for trial in ended),
        columns=[title(name) for name in names],
        trials=[
            {
                "number": trial.number,
                "value": f"{trial.value:.4f}",
                "loss": f"{trial.loss:.4f}",
                "epoch": trial.best_epoch,
                "stop": trial.stop,
                "cells": [
                    shown(getattr(trial.arguments, name))
                    if name in sweep.plan.space.dimensions_of(trial.arguments)
                    else "–"
                    for name in names
                ],
            }
            for trial in ended
        ],
        plots=[
            {"title": title, "svg": inline_svg(svg(figure), name=f"plot{number}", description=title)}
            for number, (title, figure) in enumerate(figures.items())
        ],
    )
