"""Patterns of names, and the ref, which names a version of a task."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from adapters.errors import InvalidName

NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,63}"
NAME_RULE = "1 to 64 of a-z, 0-9, '.', '_', '-', the first a letter or digit"
ALIAS_PATTERN = rf"(?![0-9]+$){NAME_PATTERN}"
REF_PATTERN = rf"{NAME_PATTERN}(@([1-9][0-9]{{0,8}}|{ALIAS_PATTERN}|sha256:[0-9a-f]{{12,64}}))?"
"""For documentation; `Ref.parse` reads refs."""
DIGEST_PATTERN = r"sha256:[0-9a-f]{64}"
PRODUCTION = "production"
DEFAULT_TENANT = "default"

_NAME = re.compile(NAME_PATTERN)
_DIGEST_PREFIX = re.compile(r"sha256:[0-9a-f]{12,64}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_NEAR = 0.75
"""Similarity (difflib) from which a name is a misspelling of another."""


def check_name(kind: str, value: str) -> str:
    """Check a tenant's or task's name and return it.

    Raises:
        InvalidName: it does not match `NAME_PATTERN`
    """
    if not _NAME.fullmatch(value):
        raise InvalidName(kind, value, NAME_RULE)
    return value


def check_alias(value: str) -> str:
    """Check an alias and return it: a name that cannot be read as a version number."""
    check_name("alias", value)
    if value.isdecimal():
        raise InvalidName("alias", value, "a name that is not a number")
    return value


def check_publication(tenant: str, task: str, aliases: Sequence[str] | None) -> None:
    """Check the names that a publication needs (`InvalidName`)."""
    check_name("tenant", tenant)
    check_name("task", task)
    for alias in aliases or ():
        check_alias(alias)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that a misspelt one most likely means: case, `-` and `_` do not count."""
    folded = {_fold(each): each for each in known}
    meant = difflib.get_close_matches(_fold(name), list(folded), n=1, cutoff=_NEAR)
    return folded[meant[0]] if meant else None


def _fold(name: str) -> str:
    return name.casefold().replace("-", "_")


@dataclass(frozen=True, slots=True)
class Ref:
    """The name of an adapter in requests: `sst2`, `sst2@3`, `sst2@canary`, `sst2@sha256:ab12…` (12 digits or more).

    A bare task means its `production` alias. Exactly one of `version`, `alias`, `digest` is set.
    """

    task: str
    version: int | None = None
    alias: str | None = None
    digest: str | None = None

    def __post_init__(self) -> None:
        if sum(selector is not None for selector in (self.version, self.alias, self.digest)) != 1:
            raise InvalidName("ref", str(self), "exactly one of version, alias and digest")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a ref.

        Raises:
            InvalidName: it has none of the four forms
        """
        task, at, selector = text.partition("@")
        check_name("task", task)
        if not at:
            return cls(task, alias=PRODUCTION)
        if _VERSION.fullmatch(selector):
            return cls(task, version=int(selector))
        if _DIGEST_PREFIX.fullmatch(selector):
            return cls(task, digest=selector)
        if _NAME.fullmatch(selector) and not selector.isdecimal():
            return cls(task, alias=selector)
        raise InvalidName("ref", text, "task, task@version, task@alias or task@sha256:<at least 12 digits>")

    def __str__(self) -> str:
        return f"{self.task}@{self.version or self.digest or self.alias}"
