"""Descriptions of versions, kept by digest: a version never changes, and to read its card takes some milliseconds."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

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


def fields_of(card: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a task's fields, in the order of its template."""
    return tuple(Template.parse(card["spec"]["template"]).fields)


def labels_of(card: Mapping[str, Any]) -> list[str]:
    """Return the names of a task's labels."""
    return [label["name"] for label in card["spec"]["labels"]]
