"""The files of an adapter in a folder or an archive, for `publish` and `download`."""

import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

MANIFEST = "superpos.json"
NAMES = ("adapter_config.json", "adapter_model.safetensors", "readout.safetensors", MANIFEST, "README.md")
"""Files that the server accepts; others of a folder are left out."""
_RUN = "adapter"
"""The folder of the adapter in the folder of its run."""


def read_adapter(source: Path, *, max_bytes: int) -> dict[str, bytes]:
    """Return the files of the adapter in a folder, in the folder of its run, or in a `.zip` or `.tar` of either.

    Args:
        source: the folder or the archive
        max_bytes: of all files together

    Raises:
        ValueError: there is no adapter, a file is not a regular one, or the files are too large
        OSError: the source cannot be read
    """
    if source.is_dir():
        files = _of_folder(source / _RUN if (source / _RUN).is_dir() else source, max_bytes)
    elif zipfile.is_zipfile(source):
        files = _of_archive(_zipped(source, max_bytes), source)
    elif source.is_file() and tarfile.is_tarfile(source):
        files = _of_archive(_tarred(source, max_bytes), source)
    elif source.exists():
        raise ValueError(f"{source} is neither a folder nor a .zip or .tar")
    else:
        raise FileNotFoundError(f"{source}: no such folder or archive")
    if MANIFEST not in files:
        raise ValueError(f"{source} has no {MANIFEST}: it is not the folder of an adapter")
    if (size := sum(map(len, files.values()))) > max_bytes:
        raise ValueError(f"{source} has {size} bytes, the server accepts uploads of at most {max_bytes}")
    return files


def write_adapter(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files into a new or empty folder (`FileExistsError`) and return it; `ValueError` for a name with a path."""
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        if name != PurePosixPath(name).name or "\\" in name:
            raise ValueError(f"the server named a file {name!r}, expected a name without a path")
        (folder / name).write_bytes(data)
    return folder


def _of_folder(folder: Path, max_bytes: int) -> dict[str, bytes]:
    files = {}
    for name in NAMES:
        try:
            # a link could publish any file of this machine, a pipe never ends
            descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            continue
        except OSError as exc:
            if (folder / name).is_symlink():
                raise ValueError(f"{folder / name} is a link, expected a regular file of this folder") from exc
            raise
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError(f"{folder / name} is not a regular file")
            files[name] = file.read(max_bytes + 1)
    return files


def _of_archive(members: Iterator[tuple[str, bytes]], source: Path) -> dict[str, bytes]:
    """Return the members in the folder of the manifest."""
    found = dict(members)
    folders = sorted({path.rpartition("/")[0] for path in found if PurePosixPath(path).name == MANIFEST})
    if len(folders) > 1:
        raise ValueError(f"{source} has {len(folders)} adapters, in {', '.join(map(repr, folders))}; expected one")
    return {PurePosixPath(path).name: data for path, data in found.items() if path.rpartition("/")[0] in folders}


def _zipped(source: Path, max_bytes: int) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            if not member.is_dir() and PurePosixPath(member.filename).name in NAMES:
                with archive.open(member) as file:
                    yield member.filename, file.read(max_bytes + 1)


def _tarred(source: Path, max_bytes: int) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(source) as archive:
        for member in archive:
            if member.isfile() and PurePosixPath(member.name).name in NAMES:
                file = archive.extractfile(member)
                assert file is not None
                yield member.name, file.read(max_bytes + 1)
