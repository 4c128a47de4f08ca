"""Checks of a correction: a label of the task, and a text that the task can answer."""

from collections.abc import Mapping
from itertools import islice

from adapters import InvalidRow
from adapters.names import nearest
from service.catalog.adapter_cache import LoadedAdapter
from service.errors import InvalidRequest
from service.feedback.answers import in_order
from service.feedback.models import Label
from service.inference.request import Item

_MAX_NAMED = 20
"""Labels that an error names."""


def checked_label(label: Label, task: str, adapter: LoadedAdapter) -> Label:
    """Return a right label as it is stored (`InvalidRequest` if the task does not have it).

    Args:
        label: one label, or the labels of a text of a multi-label task
        task: name of the task
        adapter: the version that says which labels the task has
    """
    is_multi_label = adapter.label_thresholds is not None
    if isinstance(label, str) is is_multi_label:
        expected = "a list of labels, which may be empty" if is_multi_label else "one label"
        raise InvalidRequest(f"label is {_shown(label)}, expected {expected}: task {task!r} is {_kind(is_multi_label)}")
    names = adapter.label_names
    for each in (label,) if isinstance(label, str) else label:
        if each not in names:
            meant = nearest(each[:200], names)
            hint = f"did you mean {meant!r}?" if meant else f"expected {_listed(names)}"
            raise InvalidRequest(f"label {each[:200]!r} is not one of task {task!r}; {hint}")
    if isinstance(label, str):
        return label
    if len(set(label)) < len(label):
        raise InvalidRequest(f"label is {_shown(label)}, expected each label once")
    return in_order(label, names)


def checked_input(item: Item, adapter: LoadedAdapter, *, max_chars: int) -> Mapping[str, str]:
    """Return the text of each field of an input that the task can answer (`InvalidRow`)."""
    try:
        values = adapter.template.values(item)
        length = len(adapter.frame.fill(values))
    except InvalidRow as exc:
        raise InvalidRow(f"input: {exc}") from exc
    if length > max_chars:
        raise InvalidRow(f"input: text has {length} characters, expected at most {max_chars}")
    if not any(value.strip() for value in values):
        raise InvalidRow("input: the text is empty, expected at least one visible character")
    return dict(zip(adapter.template.placeholders, values, strict=True))


def _kind(is_multi_label: bool) -> str:
    return "multi-label" if is_multi_label else "of one label per text"


def _shown(label: Label) -> str:
    return repr(label[:200]) if isinstance(label, str) else repr(list(label))[:200]


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(islice(names, _MAX_NAMED)) + more
