"""Media type and size of the body that a route expects, checked before the first byte is read."""

from dataclasses import dataclass
from typing import Literal

from fastapi import Request

from service.errors import UnsupportedMediaType
from service.settings import Settings

FORM = "multipart/form-data"
BODY_LIMIT = "body_limit"
"""Key of the body's size limit in the request's state, for `BodyLimitMiddleware`."""
_SMALL_BYTES = 64 << 10
"""Enough for every body without rows or files."""

BodySize = Literal["small", "rows", "job", "upload"]


def body_limit(size: BodySize, settings: Settings) -> int:
    """Return the largest number of bytes that a body of this kind may have."""
    if size == "upload":
        return settings.max_upload_bytes
    if size == "job":
        return settings.max_job_bytes
    return settings.max_body_bytes if size == "rows" else min(_SMALL_BYTES, settings.max_body_bytes)


@dataclass(frozen=True, slots=True)
class ExpectedBody:
    """A check of a body's media type, which sets its size limit; `StrictRoute` takes it among its dependencies."""

    media_type: str
    size: BodySize = "small"
    others: frozenset[str] = frozenset()
    """Further media types; the empty text is one too: it stands for a request that states none."""

    async def __call__(self, request: Request) -> None:
        """Check the media type (`UnsupportedMediaType`) and set the size limit."""
        request.scope["state"][BODY_LIMIT] = body_limit(self.size, request.app.state.runtime.settings)
        given = request.headers.get("Content-Type", "")
        media_type = given.partition(";")[0].strip().lower()
        if media_type != self.media_type and media_type not in self.others:
            raise UnsupportedMediaType(f"Content-Type is {given!r}, expected {self.media_type!r}")
