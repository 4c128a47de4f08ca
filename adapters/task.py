"""`TaskSpec`: the input template and the labels of a task. It is part of the adapter."""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, FailFast, Field, field_validator, model_validator

from adapters.errors import InvalidTask
from adapters.template import Template

Kind = Literal["single_label", "ordinal", "multi_label"]
"""`single_label`: one label per text; `ordinal`: one label, and the labels are ascending numbers; `multi_label`: any
number of labels per text, none included, each with a probability of its own."""
Activation = Literal["softmax", "sigmoid"]
"""How the logits of a learned readout become probabilities: of one label among all, or of each label by itself."""

MAX_LABELS = 1_000
MAX_TASK_TOKENS = 4_096


class Label(BaseModel):
    """A label's public name, and the words that the model generates for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=128)]
    words: Annotated[str, Field(min_length=1, max_length=512)]


class TaskSpec(BaseModel):
    """A task: input template, ordered labels, token limit.

    In a file, `labels` is a list of `{name, words}` or a mapping `name: words`. It is kept as a list, because the order
    is part of the task.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))

    template: str
    labels: Annotated[tuple[Label, ...], FailFast()]
    max_tokens: Annotated[int, Field(ge=2, le=MAX_TASK_TOKENS)] = 256
    """Maximum length of a text, including its end-of-sequence token, without the prompt."""
    truncation_side: Literal["start", "end"] = "end"
    """The side on which fields are cut where a text is longer, in training and evaluation."""
    kind: Kind = "single_label"

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_from_mapping(cls, value: object) -> object:
        if isinstance(value, Mapping):
            return [{"name": name, "words": words} for name, words in value.items()]
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            _ = self.parsed_template
        except InvalidTask as exc:
            raise ValueError(str(exc)) from exc
        _check_labels(self.labels)
        if self.kind == "ordinal":
            _check_grid(self.label_names)
        return self

    @cached_property
    def parsed_template(self) -> Template:
        return Template.parse(self.template)

    @property
    def fields(self) -> tuple[str, ...]:
        """The field names of an input."""
        return self.parsed_template.fields

    @property
    def is_multi_label(self) -> bool:
        return self.kind == "multi_label"

    @property
    def activation(self) -> Activation:
        return "sigmoid" if self.is_multi_label else "softmax"

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @property
    def label_words(self) -> tuple[str, ...]:
        return tuple(label.words for label in self.labels)

    def render(self, item: str | Mapping[str, str]) -> str:
        """Return the model's text for one input (`InvalidRow`)."""
        return self.parsed_template.render(item)


def _check_labels(labels: tuple[Label, ...]) -> None:
    if not 2 <= len(labels) <= MAX_LABELS:
        raise ValueError(f"a task needs 2 to {MAX_LABELS} labels, got {len(labels)}")
    for what, values in (("name", [x.name for x in labels]), ("words", [x.words for x in labels])):
        seen: set[str] = set()
        for value in values:
            if not value.strip() or not value.isprintable():
                raise ValueError(f"label {what} {value!r} is blank or has control characters")
            if value in seen:
                raise ValueError(f"label {what} {value!r} appears twice")
            seen.add(value)


def _check_grid(names: tuple[str, ...]) -> None:
    """Check that ordinal labels are numbers in ascending order."""
    previous = -math.inf
    for name in names:
        try:
            value = float(name)
        except ValueError:
            raise ValueError(f"label {name!r} of an ordinal task is not a number") from None
        if not previous < value < math.inf:
            raise ValueError(f"labels of an ordinal task must ascend, {name!r} does not")
        previous = value
