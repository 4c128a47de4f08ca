"""JSON that no two readers read differently: each key of an object once, and numbers as RFC 8259 has them."""

import json
from collections import Counter
from typing import Any


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
