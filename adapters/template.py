"""Input templates: literal text and `{field}` placeholders. `str.format` is not used: it gives access to attributes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from adapters.errors import InvalidRow, InvalidTask

MAX_TEMPLATE_CHARS = 4_000
MAX_FIELDS = 16

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,63})\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template: placeholders, and one more literal around them."""

    literals: tuple[str, ...]
    placeholders: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a template such as `question: {question} sentence: {sentence}`.

        Raises:
            InvalidTask: a stray brace, no field, too many fields, or a text that is too long
        """
        return cls(*_parts(text))

    @property
    def fields(self) -> tuple[str, ...]:
        """The distinct fields, in order of first use."""
        return tuple(dict.fromkeys(self.placeholders))

    def render(self, item: str | Mapping[str, str] | tuple[str, ...]) -> str:
        """Return the text of one input. Values are inserted unchanged, braces included.

        Args:
            item: the fields' values, by name or in order; or the value itself if there is one field

        Raises:
            InvalidRow: a missing or unknown field, or a value that is not text
        """
        pieces = [self.literals[0]]
        for value, literal in zip(self.values(item), self.literals[1:], strict=True):
            pieces += [value, literal]
        return "".join(pieces)

    def values(self, item: str | Mapping[str, str] | tuple[str, ...]) -> tuple[str, ...]:
        """Return the text of each placeholder; arguments and errors as `render`."""
        values = self._values(item)
        if not all(map(_is_unicode, values.values())):
            raise InvalidRow("text has half of a surrogate pair, expected Unicode text")
        return tuple(values[name] for name in self.placeholders)

    def _values(self, item: str | Mapping[str, str] | tuple[str, ...]) -> Mapping[str, str]:
        fields = self.fields
        if isinstance(item, tuple):
            if len(item) != len(fields):
                raise InvalidRow(f"{len(item)} texts were given, the task's fields are {_names(fields)}")
            return dict(zip(fields, item, strict=True))
        if isinstance(item, str):
            if len(fields) > 1:
                raise InvalidRow(f"a plain string was given, the task needs an object with {_names(fields)}")
            return {fields[0]: item}
        missing = [name for name in fields if name not in item]
        unknown = [name for name in item if name not in fields]
        if missing or unknown:
            wrong = f"unknown field {unknown[0]!r}" if unknown else f"missing field {missing[0]!r}"
            raise InvalidRow(f"{wrong}, the task's fields are {_names(fields)}")
        for name in fields:
            if not isinstance(item[name], str):
                raise InvalidRow(f"field {name!r} is {item[name]!r}, expected a string")
        return item


@lru_cache(maxsize=1_024)
def _parts(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the literals and placeholders of a template; adapters with equal templates share them."""
    if len(text) > MAX_TEMPLATE_CHARS:
        raise InvalidTask(f"template has {len(text)} characters, expected at most {MAX_TEMPLATE_CHARS}")
    if not _is_unicode(text):
        raise InvalidTask(f"template {text!r} has half of a surrogate pair")
    parts = _FIELD.split(text)
    literals, placeholders = tuple(parts[::2]), tuple(parts[1::2])
    for literal in literals:
        if "{" in literal or "}" in literal:
            raise InvalidTask(f"template {text!r} has a brace that is not part of a {{field}}")
    if not 1 <= len(placeholders) <= MAX_FIELDS:
        raise InvalidTask(f"template {text!r} names {len(placeholders)} fields, expected 1 to {MAX_FIELDS}")
    return literals, placeholders


def _is_unicode(text: str) -> bool:
    """Return whether a text is encodable: JSON can contain half of a surrogate pair, UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _names(fields: tuple[str, ...]) -> str:
    return ", ".join(repr(name) for name in fields)
