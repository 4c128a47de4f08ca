"""The promotion gate: whether a version's own figures let it take production's place. Pure."""

from adapters.adapter import PromptAdapter
from adapters.errors import PromotionRefused

_REPORT = "report_"
"""Figures of the rows that neither trained a prompt nor chose among its epochs."""
_DEFAULT_METRIC = "accuracy"
_LOWER_IS_BETTER = ("loss", "ece", "brier", "nll", "error")


def main_metric(adapter: PromptAdapter) -> str:
    """The figure by which an adapter's training chose its best epoch, as scored on the report rows."""
    chosen = adapter.manifest.provenance.hyperparameters.get("metric")
    return _REPORT + (chosen if isinstance(chosen, str) else _DEFAULT_METRIC)


def check_promotion(candidate: PromptAdapter, current: PromptAdapter | None, *, metric: str | None = None) -> str:
    """The figure that was compared: the one asked for, else production's main one, else the candidate's.

    Args:
        metric: a figure of the cards, as `report_macro_f1` or without `report_`

    Raises:
        PromotionRefused: the candidate's figure is worse than the present version's, or missing
    """
    name = _figure_name(candidate, metric) if metric else main_metric(current or candidate)
    offered = candidate.manifest.provenance.metrics.get(name)
    held = None if current is None else current.manifest.provenance.metrics.get(name)
    if offered is None or (held is not None and _worse(name, offered, held)):
        raise PromotionRefused(name, candidate=offered, current=held)
    return name


def _figure_name(adapter: PromptAdapter, metric: str) -> str:
    return metric if metric in adapter.manifest.provenance.metrics else _REPORT + metric.removeprefix(_REPORT)


def _worse(name: str, offered: float, held: float) -> bool:
    if name.rpartition("_")[2] in _LOWER_IS_BETTER:
        return offered > held
    return offered < held
