"""Plots of a report: their selection, their descriptions in words, and their files."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from adapters.atomic_files import atomic_write
from adapters.baselines import Baseline, read_baselines
from adapters.calibration import calibrated
from training.report.answer_figures import confidence_figure, confusion_figure, reliability_figure
from training.report.answers import confusion_matrix, reliability
from training.report.baseline_figures import ScorePoint, score_points
from training.report.comparison import NamedRun, loss_curves, score_curves
from training.report.figures import learning_curves, similarity_maps
from training.report.reading import RunRecord
from training.report.svg import inline_svg, png, svg

MAX_MAPS = 24
"""Similarity maps in one figure."""


@dataclass(frozen=True)
class Plot:
    """A figure with the name of its files and a description for readers who cannot see it."""

    name: str
    description: str
    figure: Figure

    @cached_property
    def file(self) -> str:
        """As SVG."""
        return svg(self.figure)

    @property
    def element(self) -> Markup:
        """As an element of a page. Safe: matplotlib escapes the text in it, and `inline_svg` the rest."""
        return Markup(inline_svg(self.file, name=self.name, description=self.description))  # noqa: S704

    def write(self, folder: Path) -> None:
        """`<name>.svg` and `<name>.png`."""
        atomic_write({folder / f"{self.name}.svg": self.file.encode(), folder / f"{self.name}.png": png(self.figure)})


def comparison_plots(runs: Sequence[NamedRun], *, suffix: str) -> list[Plot]:
    """Learning curves of the runs of one task, and their similarity maps where there are several."""
    first = runs[0].record
    constants = [run.record.evaluations[-1]["constant_score"] for run in runs if run.record.evaluations]
    reference = ("constant answer", sum(constants) / len(constants)) if constants else None
    titles = ", ".join(first.task.metrics).replace("_", " ")
    rows = "out of fold" if all(run.record.fitted_rows is not None for run in runs) else "selection rows"
    figure = learning_curves(score_curves(runs), loss_curves(runs), score_name=f"{titles}, {rows}", reference=reference)
    told = "; ".join(f"{run.name}: best {run.record.metrics['selection_score']:.3f}" for run in runs)
    plots = [Plot(f"learning-curves{suffix}", f"Selection score and training loss against the step. {told}", figure)]
    weights = {run.name: run.record.weights for run in runs[:MAX_MAPS] if run.record.weights is not None}
    if len(runs) > 1 and weights:
        maps = similarity_maps(weights)
        plots.append(Plot(f"similarity{suffix}", f"{_SIMILARITY} One map for each of {len(weights)} runs.", maps))
    return plots


def run_plots(record: RunRecord, *, suffix: str) -> list[Plot]:
    """Plot confusion, reliability, confidence and similarity of one run, as far as its folder has the data."""
    plots = []
    if baselines := read_baselines(record.metrics):
        plots.append(_baseline_plot(record, baselines, suffix))
    if record.predictions is not None:
        plots += _answer_plots(record, suffix)
    if record.weights is not None:
        figure = similarity_maps({"p′": record.weights})
        plots.append(Plot(f"prompt{suffix}", _SIMILARITY, figure))
    return plots


def _baseline_plot(record: RunRecord, baselines: Sequence[Baseline], suffix: str) -> Plot:
    metrics = record.metrics
    points = [
        ScorePoint(each.title, each.figures["score"], each.figures["score_low"], each.figures["score_high"])
        for each in baselines
        if {"score_low", "score_high"} <= each.figures.keys()
    ]
    points.append(
        ScorePoint("this run", metrics["report_score"], metrics["report_score_low"], metrics["report_score_high"])
    )
    told = "; ".join(f"{point.name} {point.value:.3f} ({point.low:.3f} to {point.high:.3f})" for point in points)
    titles = ", ".join(record.task.metrics).replace("_", " ")
    return Plot(
        f"baselines{suffix}", f"Scores on the report rows with 95 % intervals. {told}.", score_points(points, titles)
    )


def _answer_plots(record: RunRecord, suffix: str) -> list[Plot]:
    predictions = record.predictions
    assert predictions is not None
    probabilities, labels = record.probabilities(predictions), predictions.labels
    after = reliability(probabilities, labels)
    lines = {"confidence": after}
    if record.temperature != 1:
        before = reliability(calibrated(predictions.log_probs, 1.0), labels)
        lines = {"before": before, f"after (T = {record.temperature:.2f})": after}
    ece = "; ".join(f"{name}: expected calibration error {line.error:.3f}" for name, line in lines.items())
    reliable = Plot(f"reliability{suffix}", f"Accuracy against confidence. {ece}.", reliability_figure(lines))
    if predictions.is_multi_label:
        return [reliable]
    matrix = confusion_matrix(predictions)
    right = predictions.predicted == labels
    return [
        Plot(
            f"confusion{suffix}",
            f"Confusion matrix of {len(matrix)} labels over {len(labels)} rows, {int(right.sum())} of them right.",
            confusion_figure(matrix, predictions.label_names),
        ),
        reliable,
        Plot(
            f"confidence{suffix}",
            f"Histogram of confidence: {int(right.sum())} right and {int((~right).sum())} wrong answers.",
            confidence_figure(probabilities.max(axis=1), right),
        ),
    ]


_SIMILARITY = "Cosine similarity of the superposition weights between the prompt's tokens."
