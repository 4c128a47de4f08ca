"""Publishing what a command trained: its place is asked before anything is trained, and each task is tried after."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cli.console import CommandError, err, out
from cli.resume import without_credentials

if TYPE_CHECKING:
    from cli.client.targets import Target


def ask_place(place: str, key: str | None) -> None:
    """Raise, as `superpos list` would, where a place cannot be reached, is none, or does not take the key."""
    from cli.client.targets import open_target

    open_target(place, key).tasks()


def publish(place: "Target", task: str, files: Mapping[str, bytes], aliases: Sequence[str] | None) -> None:
    """Publish an adapter's files as a task's next version, and print what came of it."""
    done = place.publish(task, files, aliases)
    moved = f"only {', '.join(aliases)} moved" if aliases else "nothing changed"
    state = "published" if done.created else f"already there, {moved}:"
    out.print(f"{state} {task}@{done.version} {done.digest}", markup=False)


def publish_trained(runs: Sequence[tuple[str, Path]], to: str, key: str | None) -> None:
    """Publish the adapter of each task's run that learned something; tell the command that would publish the others.

    Args:
        runs: tasks, and their run folders

    Raises:
        CommandError: not all of them are published
    """
    left = []
    for task, folder in runs:
        if (reason := _publish_run(task, folder, to, key)) is not None:
            left.append(task)
            err.print(
                f"{task} is not published: {reason}; this would do it all the same:", style="yellow", markup=False
            )
            command = ["superpos", "push", str(folder), task, "--to", without_credentials(to)]
            err.print(f"  {shlex.join(command)}", markup=False)
    if left:
        raise CommandError(f"{len(left)} of {len(runs)} tasks are not published: {', '.join(left)}")


def _publish_run(task: str, folder: Path, to: str, key: str | None) -> str | None:
    """Why it was not done; None where it was."""
    from adapters.atomic_files import describe_oserror
    from adapters.errors import AdapterError
    from cli.client.targets import open_target
    from training.runs.adapter_folder import adapter_files
    from training.runs.outcome import read_outcome

    outcome = read_outcome(folder)
    if outcome.best_step == 0:
        return "no step made its prompt better than the untrained one"
    if outcome.trained.collapsed:
        return "it gave every row the same answer"
    try:
        publish(open_target(to, key), task, adapter_files(folder), None)
    except OSError as exc:
        return describe_oserror(exc)
    except (AdapterError, CommandError) as exc:
        return str(exc)
    return None
