"""Baselines of an adapter: what simpler classifiers score on its report rows, as its provenance records them.

The trainer measures them (`training.baselines`); cards, reports and the command line read them here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

BaselineName = Literal["constant", "zero_shot", "tfidf", "head"]
BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)
"""From the simplest to the strongest."""
LEARNED: tuple[BaselineName, ...] = ("tfidf", "head")
"""Baselines that are fitted to the training rows."""
TITLES: Mapping[BaselineName, str] = {
    "constant": "constant answer",
    "zero_shot": "label words, untrained",
    "tfidf": "TF-IDF + logistic regression",
    "head": "frozen head",
}
_SUBJECTS: Mapping[BaselineName, str] = {
    "constant": "one answer for every row",
    "zero_shot": "the untrained model",
    "tfidf": "a bag of words",
    "head": "a head on the frozen model",
}
BASELINE_FOLDS = "baseline_folds"
"""Entry of a provenance's `data`: folds that chose the baselines' regularisation, if they were fitted to few rows."""
_PREFIX = "baseline"
_LEAD = "lead"


@dataclass(frozen=True, slots=True)
class Lead:
    """The adapter's score less a baseline's on the same rows, with its paired 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def is_shown(self) -> bool:
        """Whether the rows show that the adapter is better: the whole interval is above 0."""
        return self.low > 0

    def __str__(self) -> str:
        return f"{_signed(self.value)}, 95 % interval {_signed(self.low)} to {_signed(self.high)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A baseline on the report rows."""

    name: BaselineName
    figures: Mapping[str, float]
    """The task's metrics and `score`, each also with `_low` and `_high`, the bounds of its 95 % interval."""
    lead: Lead

    @property
    def title(self) -> str:
        """Return its name in tables."""
        return TITLES[self.name]

    def told(self, metric: str, *, digits: int = 3) -> str:
        """Return a metric with its interval, as `0.781 (0.752–0.809)`; empty if it is not recorded."""
        if metric not in self.figures:
            return ""
        low, high = (self.figures.get(f"{metric}_{end}") for end in ("low", "high"))
        bounds = "" if low is None or high is None else f" ({low:.3f}–{high:.3f})"
        return f"{self.figures[metric]:.{digits}f}{bounds}"


def baseline_figures(baselines: Sequence[Baseline]) -> dict[str, float]:
    """Return the entries of a provenance's `metrics`, such as `baseline_tfidf_lead`."""
    return {
        f"{_PREFIX}_{baseline.name}_{name}": round(value, 6)
        for baseline in baselines
        for name, value in {
            **baseline.figures,
            _LEAD: baseline.lead.value,
            f"{_LEAD}_low": baseline.lead.low,
            f"{_LEAD}_high": baseline.lead.high,
        }.items()
    }


def read_baselines(metrics: Mapping[str, float]) -> list[Baseline]:
    """Invert `baseline_figures`; empty for an adapter that records none."""
    found = []
    for name in BASELINES:
        prefix = f"{_PREFIX}_{name}_"
        figures = {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}
        if not {"score", _LEAD, f"{_LEAD}_low", f"{_LEAD}_high"} <= figures.keys():
            continue
        lead = Lead(figures.pop(_LEAD), figures.pop(f"{_LEAD}_low"), figures.pop(f"{_LEAD}_high"))
        found.append(Baseline(name=name, figures=figures, lead=lead))
    return found


def without_baselines(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics without the entries of baselines."""
    return {name: value for name, value in metrics.items() if not name.startswith(f"{_PREFIX}_")}


def verdict(baselines: Sequence[Baseline]) -> str:
    """Return in plain sentences whether the classifier beats its baselines; empty without any.

    A baseline is beaten if the whole paired interval of the difference is above 0.
    """
    if not baselines:
        return ""
    unbeaten = [baseline for baseline in baselines if not baseline.lead.is_shown]
    if not unbeaten:
        closest = min(baselines, key=lambda baseline: baseline.lead.value)
        return f"The classifier beats every baseline; the closest is {_SUBJECTS[closest.name]} ({closest.lead})."
    sentences = [_compared(baseline) for baseline in unbeaten]
    head = next((baseline for baseline in unbeaten if baseline.name == "head"), None)
    if head is not None:
        sentences.append(
            "Publish the head: it trains in seconds (superpos train --method head)."
            if head.lead.value <= 0
            else "The head trains in seconds; prefer it, or measure both on more rows."
        )
    return " ".join(sentences)


def is_unbeaten(baselines: Sequence[Baseline]) -> bool:
    """Whether at least one baseline is not beaten."""
    return any(not baseline.lead.is_shown for baseline in baselines)


def _compared(baseline: Baseline) -> str:
    """Compare the adapter with a baseline that it does not beat."""
    subject = _SUBJECTS[baseline.name]
    if baseline.lead.high < 0:
        return f"{_capitalised(subject)} does better ({baseline.lead})."
    if baseline.lead.value <= 0:
        return f"{_capitalised(subject)} does as well ({baseline.lead})."
    return f"These rows do not show that the classifier beats {subject} ({baseline.lead})."


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
