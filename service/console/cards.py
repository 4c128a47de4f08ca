"""Descriptions of versions, kept by digest: a version never changes, and to read its card takes some milliseconds."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.baselines import BASELINES, TITLES
from adapters.template import Template
from service.console.api import Caller, path

_MAX_CARDS = 512


class VersionCards:
    """The latest descriptions that were read. A person gets one only after the API has stated its digest to them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, dict[str, Any]] = OrderedDict()

    async def get(self, api: Caller, task: str, version: int, digest: str) -> dict[str, Any]:
        """Return a version as `GET /tasks/{task}/versions/{version}` describes it (`ApiProblem`).

        Args:
            api: reads what is not kept
            task: its name
            version: its number
            digest: as the API has stated it to the same person in this request
        """
        kept = self._kept.get(digest)
        if kept is None:
            kept = self._kept[digest] = await api.get(path("tasks", task, "versions", version))
            if len(self._kept) > _MAX_CARDS:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(digest)
        return {**kept, "version": version}


@dataclass(frozen=True, slots=True)
class Measured:
    """The score on a card, with those of simpler classifiers on the same rows. A value that is not recorded is None."""

    metric: str
    score: float | None
    low: float | None
    high: float | None
    """Bounds of the score's 95 % interval."""
    baselines: Mapping[str, float]
    """Scores by the baseline's title, from the simplest to the strongest."""
    ece: float | None
    """Expected calibration error."""

    @property
    def best_baseline(self) -> float | None:
        """The highest score of a baseline."""
        return max(self.baselines.values(), default=None)


def measured(card: Mapping[str, Any]) -> Measured:
    """Return what a card says about quality."""
    metrics: Mapping[str, float] = card["provenance"]["metrics"]
    part = "report" if "report_score" in metrics else "selection"
    constant = f"{part}_constant_score"
    found = {name: metrics.get(f"baseline_{name}_score") for name in BASELINES}
    found["constant"] = metrics.get(constant) if found["constant"] is None else found["constant"]
    return Measured(
        metric=str(card["provenance"]["hyperparameters"].get("metric") or "score"),
        score=metrics.get(f"{part}_score"),
        low=metrics.get(f"{part}_score_low"),
        high=metrics.get(f"{part}_score_high"),
        baselines={TITLES[name]: score for name, score in found.items() if score is not None},
        ece=metrics.get(f"{part}_ece"),
    )


def fields_of(card: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a task's fields, in the order of its template."""
    return tuple(Template.parse(card["spec"]["template"]).fields)


def labels_of(card: Mapping[str, Any]) -> list[str]:
    """Return the names of a task's labels."""
    return [label["name"] for label in card["spec"]["labels"]]
