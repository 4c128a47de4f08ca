"""Tasks that the arguments of a command name: by a task file, or by rows from which the task is guessed."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cli.backbone_options import BackboneOptions, load_backbone
from cli.console import CommandError

if TYPE_CHECKING:
    from backbone import Backbone
    from cli.drafts import GuessedTask
    from training.task.task_file import TaskFile


def read_task_file(path: Path) -> "TaskFile":
    """Read a task file; `${NAME}` in it stands for an environment variable."""
    from cli.drafts import holds_rows
    from training.task.task_file import load_task_file

    if holds_rows(path):
        raise CommandError(f"{path} holds rows, expected a task file; 'superpos task init {path}' drafts one")
    return load_task_file(path, variables=os.environ)


@dataclass(frozen=True, slots=True)
class GuessedTasks:
    """The tasks that were guessed from rows, and the backbone that was loaded for it."""

    by_path: "Mapping[Path, GuessedTask]" = field(default_factory=dict)
    backbone: "Backbone | None" = None
    """None if it is not kept, or if every task has a file."""


def guess_tasks(
    paths: Sequence[Path],
    options: BackboneOptions,
    *,
    keep_backbone: bool,
    name: str | None,
    label: str | None,
    text: Sequence[str],
) -> GuessedTasks:
    """Guess the task of each argument that names rows instead of a task file.

    Args:
        options: of the backbone, with the device to load it on
        keep_backbone: return it too, so that it need not be loaded again
        name: of the only such task; derived from the file's name if omitted
        label: the label column, guessed if omitted
        text: the text columns, guessed if empty

    Raises:
        CommandError: an option does not apply, or the rows do not decide which column is the label or the text
    """
    from cli.drafts import guess_task, holds_rows

    of_rows = [path for path in paths if holds_rows(path)]
    given = {"--label": label, "--text": text, "--name": name}
    if not of_rows:
        for option, value in given.items():
            if value:
                raise CommandError(f"{option} is for rows without a task file; edit {paths[0]} instead")
        return GuessedTasks()
    if name is not None and len(of_rows) > 1:
        raise CommandError(f"--name is {name!r}, but {len(of_rows)} tasks are guessed; expected one")
    loaded = load_backbone(options)
    found = {path: guess_task(path, loaded, name=name, label=label, text=text) for path in of_rows}
    return GuessedTasks(found, loaded if keep_backbone else None)
