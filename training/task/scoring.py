"""The metrics that a task names, and the choices that its predictions are scored by."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

MetricName = Literal[
    "accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman", "f1a", "exact_match", "micro_f1", "map"
]
METRIC_NAMES: tuple[MetricName, ...] = get_args(MetricName)
METRIC_TITLES: Mapping[MetricName, str] = {
    "accuracy": "accuracy",
    "f1": "F1",
    "macro_f1": "macro F1",
    "matthews": "Matthews",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "f1a": "F1a",
    "exact_match": "exact match",
    "micro_f1": "micro F1",
    "map": "mAP",
}
ALWAYS: tuple[MetricName, ...] = ("accuracy", "macro_f1")
"""Measured for every task, whether it names them or not."""
MULTI_LABEL_METRICS = frozenset[MetricName]({"micro_f1", "macro_f1", "map", "accuracy"})
"""The metrics of multi-label tasks. Their accuracy is that of whole rows (subset accuracy), as in scikit-learn."""
MULTI_LABEL_ONLY = frozenset[MetricName]({"micro_f1", "map"})
MULTI_LABEL_DEFAULT: tuple[MetricName, ...] = ("micro_f1",)
_ALWAYS_MULTI_LABEL: tuple[MetricName, ...] = ("micro_f1", "macro_f1", "map", "accuracy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """The metrics of a task, with what their computation needs."""

    metrics: tuple[MetricName, ...] = ("accuracy",)
    """The task's score is their mean."""
    positive: int = 1
    """The label that `f1` and `f1a` refer to."""
    values: tuple[float, ...] | None = None
    """The numeric values of an ordinal task's labels. `pearson` and `spearman` compare that of the served label."""
    multi_label: bool = False
    """Whether a row may have any number of labels."""

    @property
    def measured(self) -> tuple[MetricName, ...]:
        """The task's metrics and those that are always measured."""
        return tuple(dict.fromkeys(self.metrics + (_ALWAYS_MULTI_LABEL if self.multi_label else ALWAYS)))

    @property
    def titles(self) -> dict[str, str]:
        """The titles of the measured metrics, by name."""
        exact = {"accuracy": "exact match"} if self.multi_label else {}
        return {name: METRIC_TITLES[name] for name in self.measured} | exact


ACCURACY = Scoring()
"""The scoring of a task that names no metric."""
