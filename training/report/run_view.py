"""View of one run: values for the page's template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.baselines import Baseline, is_unbeaten, read_baselines, verdict
from adapters.calibration import Calibration
from training.report.answer_figures import MAX_NAMED_LABELS
from training.report.answers import (
    ConfusedPair,
    LabelScores,
    Mistake,
    confusion_matrix,
    decision_scores,
    label_scores,
    most_confused,
    num_wrong,
    worst_mistakes,
)
from training.report.comparison import NamedRun
from training.report.plots import Plot
from training.report.reading import Json, RunRecord
from training.scoring.calibration import calibration_told
from training.scoring.decisions import FITTED_THRESHOLDS

NUM_MISTAKES = 12
NUM_PAIRS = 15
_WORST_LABELS = 20
_NEAR_CONSTANT = 0.01

SPLITS: Mapping[str, str] = {
    "honest": "The best step was chosen on held-out training rows; the report rows were scored once.",
    "paper": "The best step was chosen on the report rows themselves, as in the paper: the score flatters.",
    "kfold": "The report rows are a fold of the training rows that this prompt did not train on.",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunView:
    """One run in full."""

    run: NamedRun
    warnings: Sequence[str]
    plots: Mapping[str, Plot]
    """By the first word of their name."""
    labels: Sequence[LabelScores]
    """Maximum number of labels shown; of more, those with the lowest F1."""
    all_labels: Sequence[LabelScores]
    """Empty where `labels` are all."""
    pairs: Sequence[ConfusedPair]
    mistakes: Sequence[Mistake]
    num_mistakes: int
    words: Sequence[tuple[Sequence[Json], Sequence[Json]]]
    """Nearest and superposed pieces of each prompt vector."""
    split_meaning: str
    fitted_rows: str
    """Numbers of rows that a head was fitted to, if they are few; empty for another run."""
    baselines: Sequence[Baseline]
    """Empty if they were not measured."""
    verdict: str
    """States that the run beats them; empty if it does not, which is a warning."""
    calibration: str
    """Result and rows of the calibration; empty if it was not measured."""


def run_view(run: NamedRun, plots: Sequence[Plot]) -> RunView:
    """Lay out one run."""
    record = run.record
    scores: list[LabelScores] = []
    pairs: list[ConfusedPair] = []
    mistakes: list[Mistake] = []
    num_mistakes = 0
    if (predictions := record.predictions) is not None:
        if predictions.is_multi_label:
            scores = decision_scores(predictions, record.label_thresholds)
        else:
            matrix, names = confusion_matrix(predictions), predictions.label_names
            scores = label_scores(matrix, names)
            pairs = most_confused(matrix, names, count=NUM_PAIRS) if len(names) > MAX_NAMED_LABELS else []
        mistakes = worst_mistakes(predictions, record.probabilities(predictions), count=NUM_MISTAKES)
        num_mistakes = num_wrong(predictions)
    many = len(scores) > MAX_NAMED_LABELS
    baselines = read_baselines(record.metrics)
    return RunView(
        run=run,
        warnings=warnings(record),
        plots={plot.name.split("--")[0]: plot for plot in plots},
        labels=sorted(scores, key=lambda label: label.f1)[:_WORST_LABELS] if many else scores,
        all_labels=scores if many else (),
        pairs=pairs,
        mistakes=mistakes,
        num_mistakes=num_mistakes,
        words=_words(record),
        split_meaning=_split_meaning(record),
        fitted_rows=_fitted_rows(record),
        baselines=baselines,
        verdict="" if is_unbeaten(baselines) else verdict(baselines),
        calibration=_calibration(record),
    )


def warnings(record: RunRecord) -> list[str]:
    """Warnings to read before the score."""
    found = []
    metrics, stop = record.metrics, record.result["stop"]
    if metrics.get("collapsed"):
        found.append("Every report row got the same answer: this run collapsed.")
    elif metrics["report_score"] <= metrics["report_constant_score"] + _NEAR_CONSTANT:
        found.append("The score is no better than that of one answer for every row.")
    if is_unbeaten(baselines := read_baselines(metrics)):
        found.append(verdict(baselines))
    if stop == "diverged":
        found.append("The loss stopped being a number; what was best before is shown.")
    if stop == "interrupted":
        found.append("The run was interrupted; what was best so far is shown.")
    if cut := record.result.get("num_truncated"):
        found.append(f"{cut} training rows were cut to {record.task.spec.max_tokens} tokens.")
    return found


def _split_meaning(record: RunRecord) -> str:
    split = str(record.run.get("split"))
    if (fitted := record.fitted_rows) is None:
        return SPLITS.get(split, "")
    reported = SPLITS["kfold"] if split == "kfold" else "The report rows were scored once."
    return f"{fitted.meaning[0].upper()}{fitted.meaning[1:]}. {reported}"


def _fitted_rows(record: RunRecord) -> str:
    data = record.run["data"]
    fitted = record.fitted_rows
    return "" if fitted is None else fitted.told(train=data["train_rows"], selection=data["selection_rows"])


def _calibration(record: RunRecord) -> str:
    if "report_ece" not in record.metrics:
        return ""
    calibration = Calibration.model_validate(record.result["calibration"])
    measured = record.result.get("calibration_measured")
    data = record.run["data"] | {"calibration_measured": measured}
    data |= {name: record.result[name] for name in (FITTED_THRESHOLDS,) if name in record.result}
    data |= {} if record.fitted_rows is None else record.fitted_rows.described()
    told = calibration_told(calibration, record.metrics, data)
    if measured == "halves":
        told += " The plotted curve is under the one temperature that is served: on these rows it flatters."
    return told


def _words(record: RunRecord) -> list[tuple[Sequence[Json], Sequence[Json]]]:
    if record.words is None:
        return []
    nearest, superposed = record.words["nearest"], record.words["superposed"]
    return [(near, superposed[i] if i < len(superposed) else ()) for i, near in enumerate(nearest)]
