"""Figure 2 of the paper out of a grid's results: curves, the m ablation, similarities; and how p′ starts."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from training.paper.results import Results
from training.paper.tables import ordered_tasks
from training.paper.variants import (
    DROPOUT_CURVES,
    METHOD_CURVES,
    OTHERS_DROPOUT_CURVES,
    SAMPLED_TOKENS,
    STARTS,
    sampled,
    variant,
)
from training.report import style
from training.report.figures import Curve, heat_map, lines_with_band

_WIDTH, _HEIGHT, _RIGHT = 4.35, 2.7, 1.7


def figures(results: Results) -> dict[str, Figure]:
    """By name, those that the results have runs for."""
    found = {
        "dropout": _curves(results, DROPOUT_CURVES, beside=METHOD_CURVES),
        "dropout_others": _curves(results, OTHERS_DROPOUT_CURVES, beside=METHOD_CURVES),
        "methods": _curves(results, METHOD_CURVES),
        "sampled_tokens": _sampled_tokens(results),
        "starts": _curves(results, tuple(STARTS.values()), beside=("superpos", "superpos-shared")),
        "similarity": _similarity(results),
    }
    return {name: figure for name, figure in found.items() if figure is not None}


CAPTIONS = {
    "dropout": "SuperPos with dropout in the frozen network and without: score on the selection rows (Figure 2a)",
    "dropout_others": "The same of simple prompt tuning at 0.3 and of residual tuning",
    "methods": "Methods without dropout: score on the selection rows (Figure 2b)",
    "sampled_tokens": "The number m of superposed tokens: best score on the selection rows (Figure 2c)",
    "starts": "How p′ starts, on a basis for each prompt vector and on one for all: score on the selection rows",
    "similarity": "Cosine similarity of p′ between tasks, mean over the prompt's vectors (Figure 2d)",
}


def _curves(results: Results, names: Sequence[str], *, beside: Sequence[str] = ()) -> Figure | None:
    """Plot score against step with one panel per task: seeds thin, their mean and one deviation thick.

    Only tasks with more than the reference variants have a panel; returns None without variants to compare.
    """
    cells = [cell for cell in results.cells if cell.variant in names]
    tasks = ordered_tasks([cell for cell in cells if cell.variant not in beside])
    if len({cell.variant for cell in cells}) < 2 or not tasks:
        return None
    figure, axes = style.panels(len(tasks), columns=2, width=_WIDTH, height=_HEIGHT, right=_RIGHT)
    for panel, task in zip(axes, tasks, strict=True):
        style.title(panel, task)
        curves = [
            Curve(
                name,
                np.array([point.step for point in cell.curve], dtype=np.float64),
                np.array([100 * point.score for point in cell.curve]),
            )
            for name in names
            for cell in results.of(variant=name, task=task)
        ]
        lines_with_band(panel, curves, x_label="step")
    return figure


def _sampled_tokens(results: Results) -> Figure | None:
    """Plot one panel per task, since scores of tasks are too far apart for one axis."""
    ablated = [cell for cell in results.cells if cell.variant == "superpos-m8"]
    tasks = ordered_tasks(ablated)
    if not tasks:
        return None
    figure, axes = style.panels(len(tasks), columns=3, width=3.1, height=2.6, right=0.3)
    for panel, task in zip(axes, tasks, strict=True):
        style.title(panel, task)
        curves = [_by_m(results, task, seed) for seed in sorted({c.seed for c in ablated if c.task == task})]
        lines_with_band(panel, curves, x_label="m, superposed tokens", log_x=True)
    return figure


def _by_m(results: Results, task: str, seed: int) -> Curve:
    """The best score on the selection rows against m."""
    runs = {m: [c for c in results.of(variant=sampled(m), task=task) if c.seed == seed] for m in SAMPLED_TOKENS}
    known = {m: max(point.score for point in found[0].curve) for m, found in runs.items() if found}
    return Curve("", np.array(list(known), dtype=np.float64), 100 * np.array(list(known.values())))


def _similarity(results: Results) -> Figure | None:
    shown = [each for each in results.similarity if each.variant == "superpos"]
    if not shown:
        return None
    figure, axes = style.panels(len(shown), columns=2, width=3.4, height=3.3)
    for panel, each in zip(axes, shown, strict=True):
        style.title(panel, f"{variant(each.variant).title}, seed {each.seed}")
        mean = np.array(each.matrices).mean(axis=0)
        numbers = [[f"{value:.2f}" for value in row] for row in mean]
        heat_map(panel, mean, row_labels=each.tasks, column_labels=each.tasks, numbers=numbers)
    return figure
