"""Reads the locked requirements: what a file of `requirements/` pins, and which package requires which."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "lock.txt"
PROJECT = "superpos"
_PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[\w.]+)\n(?P<comments>(?:    #.*\n)*)", flags=re.MULTILINE)
_REQUIRED_BY = re.compile(r"^    #(?: via|  ) +(?P<name>\w[\w.-]*)", flags=re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Locked:
    """A pinned package."""

    name: str
    version: str
    required_by: frozenset[str]
    """Names of the packages that require it; `superpos` is the project itself."""


def read_lock(path: Path) -> list[Locked]:
    """Return the packages of a file that `pip-compile` wrote, in its order."""
    return [
        Locked(pin["name"], pin["version"], frozenset(_REQUIRED_BY.findall(pin["comments"])))
        for pin in _PIN.finditer(path.read_text(encoding="utf-8"))
    ]


def only_for(roots: Iterable[str], packages: Iterable[Locked]) -> set[str]:
    """Return the roots and the packages that nothing but them requires, directly or not."""
    found = set(roots)
    candidates = list(packages)
    while new := {each.name for each in candidates if each.required_by <= found} - found:
        found |= new
    return found
