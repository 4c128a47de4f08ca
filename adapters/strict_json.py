"""JSON that no two readers read differently: each key of an object once, and numbers as RFC 8259 has them."""

import json
from collections import Counter
from typing import Any


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
