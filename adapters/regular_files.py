"""Reading of files that come from others: only regular files in the expected folder, up to a size limit.

A downloaded folder may contain links to files outside of it, or devices and pipes that never end. The user's own path
to the folder may lead through links; nothing below it may. One kind of link is followed: from a snapshot in a Hugging
Face cache to a blob of the same repository. The checks are made on the open file, so it cannot be replaced between
check and use.
"""

import errno
import os
import re
import stat
from io import BufferedReader
from pathlib import Path

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_BLOB = re.compile(r"((?:\.\./)+)blobs/([0-9a-f]{40,64})")
_REPOSITORIES = ("models--", "datasets--", "spaces--")
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotRegular(OSError):
    """The file is refused because it is not a regular file or too large; `strerror` says what it is, and what to do."""


def open_regular(path: Path, *, beneath: Path | None = None) -> BufferedReader:
    """Open a file for reading.

    Args:
        path: the file
        beneath: the folder that the user named, below which no link is followed; by default the file's own folder

    Raises:
        FileNotFoundError: no such file
        IsADirectoryError: a folder
        NotRegular: a link, a pipe, a socket or a device, or a hard link to a file of another owner
        OSError: it cannot be opened
    """
    folder = path.parent if beneath is None else beneath
    *between, name = path.relative_to(folder).parts
    at = os.open(folder, _OPEN_FOLDER)
    try:
        for part in between:
            at = _enter(at, part, path)
        file = _open_in(at, name, path)
    finally:
        os.close(at)
    os.set_blocking(file, True)
    return os.fdopen(file, "rb")


def read_regular(path: Path, *, max_bytes: int, beneath: Path | None = None) -> bytes:
    """Read a file.

    Args:
        path: the file
        max_bytes: the largest size that is read
        beneath: as for `open_regular`

    Raises:
        NotRegular: it is larger, or as for `open_regular`
        OSError: as for `open_regular`
    """
    with open_regular(path, beneath=beneath) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise NotRegular(errno.EFBIG, f"larger than {max_bytes} bytes", str(path))
    return data


def check_no_links(folder: Path, *, beneath: Path) -> None:
    """Raise `NotRegular` if the path from `beneath` down to `folder` leads through a link."""
    at = beneath
    for part in folder.relative_to(beneath).parts:
        at /= part
        if at.is_symlink():
            raise _link(at, str(at.readlink()))


def _enter(at: int, part: str, path: Path) -> int:
    """Open a subfolder, close the descriptor of its parent, and return the new descriptor."""
    try:
        inner = os.open(part, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=at)
    except OSError as exc:
        if stat.S_ISLNK(_mode(at, part)):
            raise _link(path, os.readlink(part, dir_fd=at)) from exc
        raise OSError(exc.errno, exc.strerror, str(path)) from exc
    os.close(at)
    return inner


def _open_in(at: int, name: str, path: Path) -> int:
    """Open a file in a folder, or the blob that it links to."""
    mode = _mode(at, name)
    if stat.S_ISLNK(mode):
        return _open_blob(at, os.readlink(name, dir_fd=at), path)
    _require_regular(mode, path)  # before opening it, since opening alone can trigger a device
    try:
        file = os.open(name, _OPEN_FILE, dir_fd=at)
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, str(path)) from exc
    try:
        found, holder = os.fstat(file), os.fstat(at)
        _require_regular(found.st_mode, path)
        if found.st_nlink > 1 and found.st_uid != holder.st_uid:
            owners = f"user {found.st_uid}, and the folder is user {holder.st_uid}'s"
            raise NotRegular(errno.EPERM, f"a hard link to a file of {owners}; copy the file itself", str(path))
    except OSError:
        os.close(file)
        raise
    return file


def _open_blob(at: int, target: str, path: Path) -> int:
    """Open the blob that a link in a snapshot of a Hugging Face cache names; refuse every other link."""
    found = _BLOB.fullmatch(target)
    ups = len(found.group(1)) // 3 if found else 0
    parts = path.parent.resolve().parts
    in_snapshot = ups >= 2 and len(parts) > ups and parts[-ups] == "snapshots"
    if found is None or not in_snapshot or not parts[-ups - 1].startswith(_REPOSITORIES):
        raise _link(path, target)
    here = os.dup(at)
    try:
        for _ in range(ups):
            here = _enter(here, "..", path)
        here = _enter(here, "blobs", path)
        if stat.S_ISLNK(_mode(here, found.group(2))):
            raise _link(path, target)
        return _open_in(here, found.group(2), path)
    finally:
        os.close(here)


def _mode(at: int, name: str) -> int:
    return os.stat(name, dir_fd=at, follow_symlinks=False).st_mode


def _require_regular(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, expected a file", str(path))
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "not a file")
        raise NotRegular(errno.EINVAL, f"{kind}, expected a regular file", str(path))


def _link(path: Path, target: str) -> NotRegular:
    shown = repr(target[:200])
    return NotRegular(
        errno.ELOOP, f"a link to {shown}, which is not followed; copy what it names into its place", str(path)
    )
