"""Entity tags, `If-Match` and `If-None-Match` (RFC 9110, section 13)."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Self

from adapters import ABSENT, Conflict, NotFound, Ref, Registry, Resolution, Traffic
from adapters.names import check_alias, check_name
from service.errors import PreconditionFailed

_TAG = re.compile(r'(W/)?("[!#-~]*")')
_TAGS = re.compile(rf"\*|{_TAG.pattern}( *, *{_TAG.pattern})*")


def alias_tag(resolution: Resolution) -> str:
    """Return the strong tag of an alias: it changes when the alias moves."""
    return f'"{resolution.version}-{resolution.digest}"'


def version_tag(digest: str) -> str:
    """Return the tag of a version's contents: weak, since it is the same for gzipped and plain bytes."""
    return f'W/"{digest}"'


def traffic_tag(traffic: Traffic) -> str:
    """Return the strong tag of a task's traffic."""
    return f'"{hashlib.sha256(json.dumps(asdict(traffic), sort_keys=True).encode()).hexdigest()[:16]}"'


def is_listed(field: str, current: str) -> bool:
    """Whether `If-None-Match` lists a tag, by weak comparison; an invalid field lists none."""
    if not _TAGS.fullmatch(field):
        return False
    return field == "*" or current.removeprefix("W/") in {tag for _, tag in _TAG.findall(field)}


@dataclass(frozen=True, slots=True)
class Preconditions:
    """Conditions on the state that a write changes."""

    if_match: str | None = None
    if_none_match: str | None = None

    def __bool__(self) -> bool:
        return self.if_match is not None or self.if_none_match is not None

    def check(self, current: str | None) -> Self:
        """Raise `PreconditionFailed` unless the conditions hold for the current tag; None means absent.

        An invalid field never holds: a client that sends one means to be careful.
        """
        for name, given in (("If-Match", self.if_match), ("If-None-Match", self.if_none_match)):
            if given is not None and not _TAGS.fullmatch(given):
                raise PreconditionFailed(f"{name} is {given!r}, expected * or entity tags in double quotes")
        if self.if_match is not None and not _matches(self.if_match, current):
            raise PreconditionFailed(f"If-Match is {self.if_match}, the current tag is {current or 'none'}")
        if self.if_none_match is not None and current is not None and is_listed(self.if_none_match, current):
            raise PreconditionFailed(f"If-None-Match is {self.if_none_match}, the current tag is {current}")
        return self


def _matches(field: str, current: str | None) -> bool:
    """Whether a field lists a tag, by strong comparison: a weak tag matches nothing."""
    return current is not None and (field == "*" or current in {tag for weak, tag in _TAG.findall(field) if not weak})


def checked_alias(conditions: Preconditions, registry: Registry, tenant: str, ref: Ref) -> int | None:
    """Check conditions on an alias; return the version that it points at then, or `ABSENT`. Blocking.

    Without conditions the result is None: the write may start from any version.

    Raises:
        InvalidName: an invalid task or alias name
        PreconditionFailed: the conditions do not hold
    """
    if not conditions:
        return None
    check_name("task", ref.task)  # an invalid name is an error of its own, not a failed condition
    check_alias(str(ref.alias))
    try:
        current = registry.resolve(tenant, ref)  # the catalog may be one poll interval behind
    except NotFound:
        conditions.check(None)
        return ABSENT
    conditions.check(alias_tag(current))
    return current.version


@contextmanager
def compare_and_set(conditions: Preconditions) -> Iterator[None]:
    """Turn the conflict of a write that starts from what was checked into `PreconditionFailed`."""
    try:
        yield
    except Conflict as exc:
        if conditions:
            raise PreconditionFailed(str(exc)) from exc
        raise
