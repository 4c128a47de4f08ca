"""Publishing adapters, by hand or after training."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from adapters.atomic_files import describe_oserror
from adapters.errors import AdapterError
from adapters.files import check_stated_backbone, from_files
from cli.console import CommandError, err, out
from cli.resume import without_credentials
from cli.targets.opening import open_target
from cli.targets.target import Target
from superpos_client import SuperposError
from training.runs.adapter_folder import adapter_files


def check_target(location: str, key: str | None) -> None:
    """Fail before training if the target of a later publish is unreachable or rejects the key."""
    open_target(location, key, create=True).tasks()


def publish(target: Target, task: str, files: Mapping[str, bytes], aliases: Sequence[str] | None) -> None:
    """Publish an adapter's files as the next version of a task, and print the result.

    Raises:
        InvalidAdapter: the files are invalid, or name two backbones
    """
    from_files(files)
    check_stated_backbone(files)
    done = target.publish(task, files, aliases)
    moved = f"only {', '.join(aliases)} moved" if aliases else "nothing changed"
    state = "published" if done.created else f"already published, {moved}:"
    out.print(f"{state} {task}@{done.version} {done.digest}")


def publish_trained(runs: Sequence[tuple[str, Path]], to: str, key: str | None) -> None:
    """Publish the adapter of each run that learned something, and print the commands that publish the others.

    Args:
        runs: tasks and their run folders
        to: address, path or URL of the target
        key: API key

    Raises:
        CommandError: not all of them are published
    """
    left = []
    for task, folder in runs:
        if (reason := _publish_run(task, folder, to, key)) is not None:
            left.append(task)
            err.print(f"{task} is not published: {reason}; to publish it anyway:", style="yellow")
            command = ["superpos", "push", str(folder), task, "--to", without_credentials(to)]
            err.print(f"  {shlex.join(command)}")
    if left:
        raise CommandError(f"{len(left)} of {len(runs)} tasks are not published: {', '.join(left)}")


def _publish_run(task: str, folder: Path, to: str, key: str | None) -> str | None:
    """Publish one run's adapter; return the reason if that failed."""
    from training.runs.run_result import read_run_result

    outcome = read_run_result(folder)
    if outcome.best_step == 0:
        return "no training step improved on the untrained prompt"
    if outcome.is_collapsed:
        return "it predicts the same label for every row"
    try:
        publish(open_target(to, key, create=True), task, adapter_files(folder), None)
    except OSError as exc:
        return describe_oserror(exc)
    except (AdapterError, CommandError, SuperposError) as exc:
        return str(exc)
    return None
