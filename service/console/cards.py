"""Descriptions of versions, kept by digest: a version never changes, and to read its card takes some milliseconds."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.template import Template
from service.console.api import Caller, path

_MAX_CARDS = 512


class VersionCards:
    """The latest descriptions that were read. Whoever gets one has first been shown its digest by the API."""

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
    """The score on a card, beside what simpler answers reach on the same rows; None if it was not recorded."""

    metric: str
    score: float | None
    low: float | None
    high: float | None
    """Bounds of the score's 95 % interval."""
    constant: float | None
    """The best answer that is always the same."""
    linear: float | None
    """A linear model on word counts."""
    ece: float | None
    """Expected calibration error."""


def measured(card: Mapping[str, Any]) -> Measured:
    """Return what a card says about quality."""
    metrics = card["provenance"]["metrics"]
    part = "report" if "report_score" in metrics else "selection"
    return Measured(
        metric=str(card["provenance"]["hyperparameters"].get("metric") or "score"),
        score=metrics.get(f"{part}_score"),
        low=metrics.get(f"{part}_score_low"),
        high=metrics.get(f"{part}_score_high"),
        constant=metrics.get("baseline_constant_score", metrics.get(f"{part}_constant_score")),
        linear=metrics.get("baseline_tfidf_score"),
        ece=metrics.get(f"{part}_ece"),
    )


def fields_of(card: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a task's fields, in the order of its template."""
    return tuple(Template.parse(card["spec"]["template"]).fields)


def labels_of(card: Mapping[str, Any]) -> list[str]:
    """Return the names of a task's labels."""
    return [label["name"] for label in card["spec"]["labels"]]
