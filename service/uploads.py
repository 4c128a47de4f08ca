"""From the parts of a multipart body to an adapter's files, names and sizes checked before anything is read."""

from collections.abc import Sequence

from fastapi import UploadFile

from adapters import InvalidAdapter
from adapters.files import SIZE_LIMITS


async def read_uploads(parts: Sequence[UploadFile]) -> dict[str, bytes]:
    """The uploaded files by name.

    Raises:
        InvalidAdapter: a name that no adapter has, one that stands twice, or a file over its limit
    """
    files: dict[str, bytes] = {}
    for part in parts:
        name = part.filename or ""
        if name not in SIZE_LIMITS:
            raise InvalidAdapter("file name", repr(name), f"one of {', '.join(SIZE_LIMITS)}")
        if name in files:
            raise InvalidAdapter("file name", f"{name} twice", "each file once")
        if (part.size or 0) > SIZE_LIMITS[name]:
            raise InvalidAdapter(f"size of {name}", f"{part.size} bytes", f"at most {SIZE_LIMITS[name]} bytes")
        files[name] = await part.read()
    return files
