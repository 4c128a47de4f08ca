"""Entity tags and what `If-Match` and `If-None-Match` ask of them (RFC 9110, section 13). Pure."""

import re
from dataclasses import dataclass
from typing import Self

from adapters import Resolution
from service.errors import PreconditionFailed

_TAG = re.compile(r'(W/)?("[!#-~]*")')
_TAGS = re.compile(rf"\*|{_TAG.pattern}( *, *{_TAG.pattern})*")


def alias_tag(resolution: Resolution) -> str:
    """The strong tag of where an alias points."""
    return f'"{resolution.version}-{resolution.digest}"'


def version_tag(digest: str) -> str:
    """The tag of what a version is made of: weak, since it stands for gzipped and plain bytes alike."""
    return f'W/"{digest}"'


def is_listed(field: str, current: str) -> bool:
    """Whether `If-None-Match` has a tag, weak ones compared as strong ones; what is no list of tags has none."""
    if not _TAGS.fullmatch(field):
        return False
    return field == "*" or current.removeprefix("W/") in {tag for _, tag in _TAG.findall(field)}


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What a write asks of the state that it changes."""

    if_match: str | None = None
    if_none_match: str | None = None

    def __bool__(self) -> bool:
        return self.if_match is not None or self.if_none_match is not None

    def check(self, current: str | None) -> Self:
        """Hold them against the tag of what is there, None where nothing is (`PreconditionFailed`).

        A field that is no list of tags holds never: who sends one means to be careful.
        """
        for name, given in (("If-Match", self.if_match), ("If-None-Match", self.if_none_match)):
            if given is not None and not _TAGS.fullmatch(given):
                raise PreconditionFailed(f"{name} is {given!r}, expected * or entity tags in double quotes")
        if self.if_match is not None and not _matches(self.if_match, current):
            raise PreconditionFailed(f"If-Match is {self.if_match}, the present tag is {current or 'none'}")
        if self.if_none_match is not None and current is not None and is_listed(self.if_none_match, current):
            raise PreconditionFailed(f"If-None-Match is {self.if_none_match}, the present tag is {current}")
        return self


def _matches(field: str, current: str | None) -> bool:
    """The strong comparison: a weak tag is like no other."""
    return current is not None and (field == "*" or current in {tag for weak, tag in _TAG.findall(field) if not weak})
