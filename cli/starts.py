"""Adapters that a new task could start from: those in folders, of a registry or of a server."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.errors import InvalidAdapter
from adapters.files import from_files
from adapters.names import Ref
from cli.console import CommandError, err
from cli.targets.opening import open_target
from training.runs.adapter_folder import adapter_files

if TYPE_CHECKING:
    from backbone import Backbone
    from training.library.similar import Candidate


def is_folder(location: str) -> bool:
    """Return whether a location is a folder on this machine, and not a registry or a server."""
    return "://" not in location and Path(location).is_dir()


def candidates(backbone: "Backbone", location: str, key: str | None = None) -> "list[Candidate]":
    """Read the adapters at a location: each run or adapter under a folder, or production of each task of a registry.

    Adapters for another backbone are left out, and reported.

    Raises:
        CommandError: there is none for this backbone
    """
    found = _in_folder(Path(location)) if is_folder(location) else _of_tasks(location, key)
    fitting = []
    for candidate in found:
        try:
            candidate.adapter.check_backbone(fingerprint=backbone.identity.fingerprint, width=backbone.width)
        except InvalidAdapter as exc:
            err.print(f"left out {candidate.name}: {exc}", style="yellow")
        else:
            fitting.append(candidate)
    if not fitting:
        raise CommandError(f"{location} has no adapter for backbone {backbone.identity.id}; name another with --from")
    return fitting


def _in_folder(folder: Path) -> "list[Candidate]":
    from training.library.similar import Candidate

    return [Candidate(str(path), from_files(adapter_files(path))) for path in _adapter_folders(folder)]


def _adapter_folders(folder: Path) -> Sequence[Path]:
    """Return every folder with an adapter under a folder, the folder itself included; for a run, the run's folder."""
    from adapters.files import CONFIG
    from training.runs.layout import ADAPTER

    holding = sorted(path.parent for path in folder.rglob(CONFIG))
    return [path.parent if path.name == ADAPTER else path for path in holding]


def _of_tasks(location: str, key: str | None) -> "list[Candidate]":
    from training.library.similar import Candidate

    target = open_target(location, key)
    found = []
    for info in target.tasks():
        if "production" in info.aliases:
            found.append(Candidate(info.task, from_files(target.files(Ref.parse(info.task)))))
    return found
