"""Checks of a correction: a label of the task, and a text that the task can answer."""

from collections.abc import Callable, Collection, Mapping, Sized
from itertools import islice

from adapters import InvalidRow
from adapters.names import nearest
from adapters.template import Template
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
            raise InvalidRequest(f"label {each[:200]!r} is not one of task {task!r}; {label_hint(each, names)}")
    if isinstance(label, str):
        return label
    if len(set(label)) < len(label):
        raise InvalidRequest(f"label is {_shown(label)}, expected each label once")
    return in_order(label, names)


def checked_input(item: Item, adapter: LoadedAdapter, *, max_chars: int) -> Mapping[str, str]:
    """Return the text of each field of an input that the task can answer (`InvalidRow`)."""
    return checked_fields(item, adapter.template, adapter.frame.fill, where="input", max_chars=max_chars)


def checked_fields(
    item: Item, template: Template, fill: Callable[[tuple[str, ...]], Sized], *, where: str, max_chars: int
) -> Mapping[str, str]:
    """Return the text of each field of a template.

    Args:
        item: a text, or the text of each field
        template: names the fields
        fill: returns the whole text with those values
        where: place of the item in the request
        max_chars: maximum length of that text

    Raises:
        InvalidRow: the item does not fit the template, is empty or too long
    """
    try:
        values = template.values(item)
        length = len(fill(values))
    except InvalidRow as exc:
        raise InvalidRow(f"{where}: {exc}") from exc
    if length > max_chars:
        raise InvalidRow(f"{where}: text has {length} characters, expected at most {max_chars}")
    if not any(value.strip() for value in values):
        raise InvalidRow(f"{where}: the text is empty, expected at least one visible character")
    return dict(zip(template.placeholders, values, strict=True))


def label_hint(label: str, names: Collection[str]) -> str:
    """Return the hint for a label that is not among a task's: the nearest one, or the first names."""
    meant = nearest(label[:200], names)
    if meant:
        return f"did you mean {meant!r}?"
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"expected {', '.join(islice(names, _MAX_NAMED))}{more}"


def _kind(is_multi_label: bool) -> str:
    return "multi-label" if is_multi_label else "of one label per text"


def _shown(label: Label) -> str:
    return repr(label[:200]) if isinstance(label, str) else repr(list(label))[:200]
