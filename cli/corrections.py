"""Corrections of a server's answers for training: fetched once, into a file that a resumed run reads again."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.atomic_files import atomic_write
from cli.console import CommandError, status
from cli.targets.opening import is_address
from cli.targets.server import open_client

if TYPE_CHECKING:
    from training.task.task_file import TaskFile


def with_feedback(
    tasks: "Sequence[TaskFile]", server: str | None, key: str | None, *, folder: Path, resume: bool
) -> "list[TaskFile]":
    """Return the tasks with the corrections that a server has of them, written into a folder.

    Args:
        tasks: the tasks, by whose names the server knows them
        server: the server's address; None for the tasks as they are
        key: API key of role `publish`
        folder: where the files are written, `<task>-corrections-<version>.jsonl`
        resume: use the files that are there, since an interrupted run must not get other rows

    Raises:
        CommandError: it is not an address, or a run is resumed whose corrections are gone
        SuperposError: the server refuses, such as for a tenant that has not opted in
    """
    if server is None:
        return list(tasks)
    if not is_address(server):
        raise CommandError(f"--with-feedback is {server!r}, expected the address of a server: http://…")
    found = []
    for task in tasks:
        path = _fetched(task.name, folder) if resume else _fetch(task.name, server, key, folder)
        data = task.data if path is None else task.data.model_copy(update={"corrections": str(path)})
        found.append(task.model_copy(update={"data": data}))
    return found


def _fetch(task: str, server: str, key: str | None, folder: Path) -> Path | None:
    """Write a task's corrections, and return their file; None without any."""
    dataset = open_client(server, key).feedback.export(task)
    if not dataset.content:
        status(f"{task}: no corrections")
        return None
    path = folder / f"{task}-corrections-{dataset.version}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write({path: dataset.content})
    status(f"{task}: {len(dataset.content.splitlines())} corrections, data set version {dataset.version}, in {path}")
    return path


def _fetched(task: str, folder: Path) -> Path | None:
    """Return the file that the interrupted run has fetched; None if there were no corrections."""
    files = sorted(folder.glob(f"{task}-corrections-*.jsonl"), key=lambda path: path.stat().st_mtime)
    return files[-1] if files else None
