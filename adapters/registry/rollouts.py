"""Promotion of a task's next version over any registry, by its metrics. Blocking."""

from dataclasses import dataclass

from adapters.adapter import PromptAdapter
from adapters.errors import PromotionRefused
from adapters.exams import PairedDifference, exam_of, paired_difference
from adapters.files import from_files
from adapters.names import PRODUCTION, Ref
from adapters.registry.protocol import ABSENT, Registry, TaskInfo, check_expected
from adapters.registry.rollback import AliasMove

_REPORT = "report_"
"""Prefix of metrics on rows that were used neither for training nor for choosing an epoch."""
_DEFAULT_METRIC = "accuracy"
_LOWER_IS_BETTER = ("loss", "ece", "brier", "nll", "error")


_OTHER_ROWS = "they are not known to be from the same rows; 'superpos promote --rows TASK.yaml' scores both on the same"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A candidate that is not shown to be worse."""

    metric: str | None
    """The metric that was compared; None if the promotion was forced."""
    paired: PairedDifference | None

    @property
    def in_words(self) -> str | None:
        """The paired difference as text."""
        return None if self.paired is None else str(self.paired)


@dataclass(frozen=True, slots=True)
class Promotion:
    """A version that became `production`."""

    move: AliasMove
    metric: str | None
    """The metric that was compared; None if the promotion was forced."""
    paired: str | None = None
    """The difference of the accuracies row by row, if both versions record their answers to the same rows."""
    corrections: str | None = None
    """The difference on the task's corrections, if they were compared."""


def promote(
    registry: Registry,
    tenant: str,
    task: str,
    version: int,
    *,
    actor: str,
    metric: str | None = None,
    force: bool = False,
    expected: int | None = None,
) -> Promotion:
    """Point `production` at a version whose metrics are no worse, and end its time as canary or shadow.

    Args:
        expected: the version that `production` must point at now, or `ABSENT`; None accepts any

    Raises:
        NotFound: no such task or version
        PromotionRefused: as `check_promotion`; never if forced
        Conflict: production does not point at `expected`, or moved meanwhile
    """
    info = registry.describe(tenant, task)
    current = info.aliases.get(PRODUCTION)
    check_expected(f"{task}@{PRODUCTION}", current or ABSENT, expected)
    compared = Comparison(None, None) if force else _compare(registry, info, version, metric)
    registry.set_alias(tenant, task, PRODUCTION, version, actor=actor, expected=current or ABSENT)
    return Promotion(AliasMove(PRODUCTION, current, version), compared.metric, compared.in_words)


def check_promotion(
    candidate: PromptAdapter, current: PromptAdapter | None, *, metric: str | None = None
) -> Comparison:
    """Compare two versions by a metric: the given one, else production's main one, else the candidate's.

    Both figures must be from the same rows, by the names in the manifests. An accuracy is compared row by row: the
    candidate is refused if the rows show that it is worse. Another metric must not be lower.

    Args:
        metric: a metric of the cards, such as `report_macro_f1`, with or without `report_`

    Raises:
        PromotionRefused: the candidate's metric is missing, or from other rows, or worse than the current version's
    """
    name = _full_name(candidate, metric) if metric else main_metric(current or candidate)
    offered = candidate.manifest.provenance.metrics.get(name)
    held = None if current is None else current.manifest.provenance.metrics.get(name)
    if offered is None:
        raise PromotionRefused(name, candidate=offered, current=held)
    if current is None or held is None or current.digest == candidate.digest:
        return Comparison(name, None)
    if exam_of(candidate) is None or exam_of(candidate) != exam_of(current):
        raise PromotionRefused(name, candidate=offered, current=held, reason=_OTHER_ROWS)
    paired = paired_difference(candidate, current) if name == _REPORT + _DEFAULT_METRIC else None
    if _worse(name, offered, held) if paired is None else paired.is_worse:
        raise PromotionRefused(name, candidate=offered, current=held, reason="" if paired is None else str(paired))
    return Comparison(name, paired)


def main_metric(adapter: PromptAdapter) -> str:
    """Return the metric that chose the best epoch in training, as scored on the report rows."""
    chosen = adapter.manifest.provenance.hyperparameters.get("metric")
    return _REPORT + (chosen if isinstance(chosen, str) else _DEFAULT_METRIC)


def _compare(registry: Registry, info: TaskInfo, version: int, metric: str | None) -> Comparison:
    production = info.aliases.get(PRODUCTION)

    def adapter(number: int) -> PromptAdapter:
        return from_files(registry.get(info.resolve(Ref(info.task, version=number)).digest))

    return check_promotion(adapter(version), None if production is None else adapter(production), metric=metric)


def _full_name(adapter: PromptAdapter, metric: str) -> str:
    return metric if metric in adapter.manifest.provenance.metrics else _REPORT + metric.removeprefix(_REPORT)


def _worse(name: str, offered: float, held: float) -> bool:
    if name.rpartition("_")[2] in _LOWER_IS_BETTER:
        return offered > held
    return offered < held
