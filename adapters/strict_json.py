"""JSON that no two readers read differently: each key of an object once, and numbers as RFC 8259 has them."""

import json
from collections import Counter
from typing import Any

_BACKSLASH = ord("\\")


class LargeJson(ValueError):
    """JSON with more values than its reader expects; nothing was read of them."""


class AmbiguousJson(ValueError):
    """JSON with a repeated key, of which parsers keep the first, the last or both; or with NaN or Infinity."""


def loads(text: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        AmbiguousJson: names the key or the constant
        ValueError, RecursionError: as `json.loads`
    """
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        name, times = Counter(name for name, _ in pairs).most_common(1)[0]
        raise AmbiguousJson(f"an object of the JSON has the key {name!r} {times} times, expected each key once")
    return members


def _refuse(constant: str) -> object:
    raise AmbiguousJson(f"{constant} is not JSON (RFC 8259), expected a number or null")


def check_count(text: bytes, *, max_values: int) -> None:
    """Refuse JSON with too many values before it is parsed: parsing holds the GIL, 70 ms for 2 MB of digits.

    Args:
        max_values: in all arrays and objects together; commas are counted, so slightly more values may pass

    Raises:
        LargeJson: there are more values
    """
    if text.count(b",") <= max_values:
        return
    commas = at = 0
    while 0 <= at < len(text) and commas <= max_values:
        opening = text.find(b'"', at)
        commas += text.count(b",", at, opening if opening >= 0 else len(text))
        at = -1 if opening < 0 else _after_string(text, opening)
    if commas > max_values:
        raise LargeJson(f"the body has more than {max_values} values in all")


def _after_string(text: bytes, opening: int) -> int:
    """Return the position after the string that begins with the quote at `opening`; -1 if it does not end."""
    closing = text.find(b'"', opening + 1)
    while closing >= 0:
        before = closing
        while text[before - 1] == _BACKSLASH:
            before -= 1
        if (closing - before) % 2 == 0:
            return closing + 1
        closing = text.find(b'"', closing + 1)
    return -1


def check_size(value: object, *, max_items: int, max_values: int) -> None:
    """Refuse large arrays and objects before anything looks at their values.

    Args:
        max_items: of one array or object
        max_values: of all of them together

    Raises:
        LargeJson: names the array or object by its place
    """
    total = 0
    waiting: list[tuple[str, object]] = [("the body", value)]
    while waiting:
        place, part = waiting.pop()
        if not isinstance(part, list | dict):
            continue
        kind = "items" if isinstance(part, list) else "members"
        if len(part) > max_items:
            raise LargeJson(f"{place} has {len(part)} {kind}, expected at most {max_items}")
        total += len(part)
        if total > max_values:
            raise LargeJson(f"the body has more than {max_values} values in all")
        members = enumerate(part) if isinstance(part, list) else part.items()
        waiting += ((f"{place[:100]}.{str(name)[:50]}".removeprefix("the body."), inner) for name, inner in members)
