"""Location of a task's rows: named files, a directory with conventional file names, or the Hub."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from training.data.formats import SUFFIXES
from training.data.hub import fetch_hub_rows
from training.errors import InvalidData
from training.task.task_file import DataSource

_ROLES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
_STEM = re.compile(r"[a-z]+")


@dataclass(frozen=True, slots=True)
class RowSources:
    """The files of a task's rows. Several files of a role are parts of one."""

    train: tuple[Path, ...]
    validation: tuple[Path, ...] = ()
    """If empty, a tenth of the training rows is used instead."""
    described: dict[str, str] = field(default_factory=dict)
    """Their origin, in addition to names and sums: the data set and commit on the Hub."""


def locate(data: DataSource) -> RowSources:
    """Find a task's files, downloading those on the Hub unless they are cached.

    Raises:
        InvalidData: the directory or data set does not exist or has no training rows, or the Hub cannot be reached
    """
    if data.hub is not None:
        fetched = fetch_hub_rows(data.hub, revision=data.revision)
        described = {"hub": fetched.dataset, "hub_config": fetched.config, "hub_revision": fetched.commit}
        return RowSources(fetched.train, fetched.validation, described)
    if data.directory is not None:
        return _in_directory(Path(data.directory))
    assert data.train is not None  # DataSource requires one of the three
    return RowSources((Path(data.train),), () if data.validation is None else (Path(data.validation),))


def role_of(path: Path) -> str | None:
    """Return `train`, `validation` or `test` if the file's name says so, else None."""
    word = _STEM.match(path.stem.lower())
    return next((role for role, words in _ROLES.items() if word and word[0] in words), None)


def beside(path: Path) -> Path | None:
    """Return the validation file in the directory of a training file: `validation.csv` for `train.csv`."""
    if role_of(path) != "train":
        return None
    files = sorted(other for other in path.parent.iterdir() if other.suffix.lower() == path.suffix.lower())
    for role in ("validation", "test"):
        found = [other for other in files if role_of(other) == role]
        if found:
            return found[0]
    return None


def _in_directory(folder: Path) -> RowSources:
    if not folder.is_dir():
        raise InvalidData(f"{folder}: no such directory")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    train, validation, test = (_of_role(files, role, folder) for role in ("train", "validation", "test"))
    if not train:
        found = ", ".join(path.name for path in files) or "no data files"
        raise InvalidData(f"{folder}: no training rows: found {found}, expected for example train.csv")
    # test files of shared tasks are often unlabelled, so one is used only if there is no validation file
    return RowSources(train, validation or test)


def _of_role(files: Iterable[Path], role: str, folder: Path) -> tuple[Path, ...]:
    """Return the file of a role, or its numbered parts."""
    found = tuple(path for path in files if role_of(path) == role)
    kinds = {(re.sub(r"\d+", "0", path.stem), path.suffix.lower()) for path in found}
    if len(kinds) > 1:
        names = ", ".join(path.name for path in found)
        raise InvalidData(f"{folder}: several files could hold its {role} rows ({names}); name one in data.train")
    return found
