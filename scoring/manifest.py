"""The manifest of an output: the inputs, versions and options that it is from, and what is finished."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from adapters.atomic_files import atomic_write
from scoring.errors import Mismatch


class TaskRecord(BaseModel):
    """A task as it answers."""

    model_config = ConfigDict(frozen=True)

    ref: str
    version: int
    digest: str
    columns: dict[str, str]
    """The column of each field."""


class BackboneRecord(BaseModel):
    """The frozen model."""

    model_config = ConfigDict(frozen=True)

    id: str
    fingerprint: str
    precision: str


class OptionsRecord(BaseModel):
    """Options that change the output."""

    model_config = ConfigDict(frozen=True)

    truncate: str
    scores: bool
    prefix: str
    separator: str | None
    encoding: str | None
    part_rows: int
    part_bytes: int


class FileRecord(BaseModel):
    """An input file, and its output once it is finished."""

    model_config = ConfigDict(frozen=True)

    path: str
    size_bytes: int
    sha256: str
    rows: int
    state: Literal["begun", "finished"] = "begun"
    rejected: int = 0
    """Rows in the side file."""
    out_bytes: int = 0


class Manifest(BaseModel):
    """The record of a job."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    superpos: str
    tasks: tuple[TaskRecord, ...]
    backbone: BackboneRecord
    options: OptionsRecord
    files: dict[str, FileRecord] = {}
    """By the name of the output."""

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the manifest at a path; None if there is none.

        Raises:
            Mismatch: the file is not a manifest
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as exc:
            raise Mismatch(
                f"{path} is not a manifest that this version reads; replace the output with --restart"
            ) from exc

    def write(self, path: Path) -> None:
        """Replace the file at once."""
        atomic_write({path: self.model_dump_json(indent=2).encode() + b"\n"}, synced=True)

    def differences(self, begun: "Manifest") -> list[str]:
        """Return in words how this job differs from the one that began an output; its new inputs do not count."""
        found = _task_differences(self.tasks, begun.tasks)
        for what, now, then in (
            ("backbone", self.backbone.id, begun.backbone.id),
            ("fingerprint of the backbone", self.backbone.fingerprint, begun.backbone.fingerprint),
            ("precision", self.backbone.precision, begun.backbone.precision),
        ):
            if now != then:
                found.append(f"the {what} was {then}, now {now}")
        for name, value in self.options.model_dump().items():
            if (then := getattr(begun.options, name)) != value:
                found.append(f"--{name.replace('_', '-')} was {_shown(then)}, now {_shown(value)}")
        for name, file in self.files.items():
            before = begun.files.get(name)
            if before is not None and before.sha256 != file.sha256:
                found.append(f"input {file.path} was changed: {before.rows:,} rows then, {file.rows:,} now")
        return found


def _task_differences(now: Sequence[TaskRecord], then: Sequence[TaskRecord]) -> list[str]:
    if [task.ref for task in now] != [task.ref for task in then]:
        return [f"the tasks were {', '.join(task.ref for task in then)}, now {', '.join(task.ref for task in now)}"]
    found = []
    for task, before in zip(now, then, strict=True):
        if task.digest != before.digest:
            name = task.ref.partition("@")[0]
            found.append(
                f"{task.ref} was version {before.version}, now {task.version}; name {name}@{before.version} to keep "
                "the former"
            )
        if task.columns != before.columns:
            found.append(f"{task.ref} read {_columns(before.columns)}, now {_columns(task.columns)}")
    return found


def _columns(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{field} from column {column!r}" for field, column in columns.items())


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "not set" if value in (None, "") else str(value)
