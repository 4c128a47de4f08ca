"""Flags of moderation: which label of which task says that a text is to be flagged. Independent of HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from adapters.task import MAX_LABELS
from service.errors import InvalidRequest
from service.inference.predictions import Classification, Prediction


@dataclass(frozen=True, slots=True)
class Flag:
    """A task that flags texts, or one of its labels."""

    ref: str
    label: str | None
    """None for the second label of a task with two, or for every label of a multi-label task."""

    @classmethod
    def parse_all(cls, text: str) -> list[Self]:
        """Read flags that are separated by commas, each a ref or `ref/label`."""
        parts = (part.strip().partition("/") for part in text.split(","))
        return [cls(ref, label if slash else None) for ref, slash, label in parts]


@dataclass(frozen=True, slots=True)
class Category:
    """A label of a task under the name that it has in the answer."""

    name: str
    label: str
    answer: int
    """Index of the task's classification."""

    def reached(self, prediction: Prediction) -> bool:
        """Whether a text has the label: as one of a multi-label task's, or as the most probable one."""
        return self.label == prediction.label if prediction.labels is None else self.label in prediction.labels


def categories_of(flags: Sequence[Flag], classifications: Sequence[Classification]) -> list[Category]:
    """Return the categories of flags.

    Args:
        flags: in the order of the answer
        classifications: of the flags' different refs, in the order in which the flags name them first

    Raises:
        InvalidRequest: a flag's task has no such label, or several labels of which one applies; two categories have one
            name; or there are too many
    """
    answers = {ref: index for index, ref in enumerate(dict.fromkeys(flag.ref for flag in flags))}
    found: dict[str, Category] = {}
    for flag in flags:
        index = answers[flag.ref]
        for name, label in _labels(flag, classifications[index]):
            if name in found:
                raise InvalidRequest(
                    f"two flags have the category {name!r}, expected different ones; ask for one at a time"
                )
            found[name] = Category(name, label, index)
    if len(found) > MAX_LABELS:
        raise InvalidRequest(f"the flags have {len(found)} categories, expected at most {MAX_LABELS}")
    return list(found.values())


def _labels(flag: Flag, classification: Classification) -> list[tuple[str, str]]:
    """Return the names and labels of a flag's categories."""
    task, labels = classification.resolution.task, classification.label_names
    if flag.label is not None:
        if flag.label not in labels:
            raise InvalidRequest(f"task {task!r} has no label {flag.label!r}, expected one of {_some(labels)}")
        return [(f"{task}/{flag.label}", flag.label)]
    if classification.is_multi_label:
        return [(label, label) for label in labels]
    if len(labels) == 2:
        return [(task, labels[1])]
    raise InvalidRequest(
        f"task {task!r} has {len(labels)} labels, of which one applies to a text; name the one that is to be flagged, "
        f"for example {f'{flag.ref}/{labels[-1]}'!r}"
    )


def _some(labels: Sequence[str]) -> str:
    shown = ", ".join(map(repr, labels[:10]))
    return shown if len(labels) <= 10 else f"{shown}, … ({len(labels)} labels)"
