"""The HTML page about scored files with right labels, in the style of the trainer's reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.atomic_files import atomic_write
from scoring.evaluation import Evaluation
from scoring.manifest import Manifest
from training.report.answer_figures import confidence_figure, confusion_figure, reliability_figure
from training.report.answers import ConfusedPair, LabelScores, most_confused, reliability_of
from training.report.page import rendered
from training.report.plots import Plot

_TEMPLATE = Path(__file__).with_name("report.html.j2")
_NUM_PAIRS = 15
_NUM_LABELS = 20
_NUM_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationView:
    """One task of the page."""

    evaluation: Evaluation
    confusion: Plot | None
    confidence: Sequence[Plot]
    pairs: Sequence[ConfusedPair]
    labels: Sequence[LabelScores]
    """The labels with the lowest F1, if there are many."""
    all_labels: Sequence[LabelScores]
    """Empty where `labels` are all."""


def write_report(evaluations: Sequence[Evaluation], manifest: Manifest, out: Path) -> None:
    """Write the page about tasks on scored files."""
    views = [_view(evaluation, f"task{number}") for number, evaluation in enumerate(evaluations, start=1)]
    page = rendered(_TEMPLATE, views=views, manifest=manifest, shown=_NUM_SHOWN)
    atomic_write({out: page.encode()})


def _view(evaluation: Evaluation, name: str) -> EvaluationView:
    labels = evaluation.labels
    few = sorted(labels, key=lambda label: label.f1)[:_NUM_LABELS] if len(labels) > _NUM_LABELS else labels
    matrix = evaluation.matrix
    names = [label.name for label in labels]
    return EvaluationView(
        evaluation=evaluation,
        confusion=None
        if matrix is None
        else Plot(
            f"{name}-confusion",
            f"Confusion matrix of {len(matrix)} labels over {evaluation.num_rows} rows.",
            confusion_figure(matrix, names),
        ),
        confidence=_confidence_plots(evaluation, name),
        pairs=[] if matrix is None or len(names) <= 2 else most_confused(matrix, names, count=_NUM_PAIRS),
        labels=few,
        all_labels=[] if few is labels else labels,
    )


def _confidence_plots(evaluation: Evaluation, name: str) -> list[Plot]:
    confidence, right = evaluation.confidence, evaluation.right
    if confidence is None or right is None:
        return []
    line = reliability_of(confidence, right)
    counts = f"{int(right.sum())} right and {int((~right).sum())} wrong answers"
    return [
        Plot(
            f"{name}-reliability",
            f"Accuracy against confidence: expected calibration error {line.error:.3f}.",
            reliability_figure({"confidence": line}),
        ),
        Plot(f"{name}-confidence", f"Histogram of confidence: {counts}.", confidence_figure(confidence, right)),
    ]
