"""The task file that a command names."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.task_file import TaskFile


def read_task_file(path: Path) -> "TaskFile":
    """A task file, its `${NAME}`s taken from the environment (this is an entry point: it may read it)."""
    from training.task_file import load_task_file

    return load_task_file(path, variables=os.environ)
