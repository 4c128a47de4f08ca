"""The operations that commands need of a server or a registry."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from adapters.adapter import Provenance
from adapters.names import Ref
from adapters.registry.protocol import Change, Publication, TaskInfo, Traffic
from adapters.registry.rollback import AliasMove
from adapters.registry.rollouts import Promotion
from cli.console import CommandError


class Target(Protocol):
    """A server or registry that holds adapters."""

    def publish(self, task: str, files: Mapping[str, bytes], aliases: Sequence[str] | None) -> Publication:
        """Publish an adapter as the next version of a task."""
        ...

    def set_alias(self, task: str, alias: str, version: int, expected: int | None) -> None:
        """Point an alias at a version, if it still points at `expected` (None: always)."""
        ...

    def set_traffic(self, task: str, traffic: Traffic, expected: Traffic) -> None:
        """Set the canary and shadow versions of a task, if they are still as expected."""
        ...

    def roll_back(self, task: str, alias: str, expected: int | None) -> AliasMove:
        """Return an alias to its previous version, if it still points at `expected` (None: always)."""
        ...

    def promote(
        self,
        task: str,
        version: int,
        metric: str | None,
        *,
        force: bool,
        corrections: bool = False,
        expected: int | None = None,
    ) -> Promotion:
        """Point `production` at a version whose metric is not worse, or at any with `force`.

        Args:
            corrections: require that it answers the task's corrections better too; a server only
            expected: the version that `production` must still point at; None accepts any
        """
        ...

    def tasks(self) -> Sequence[TaskInfo]:
        """Return every task."""
        ...

    def files(self, ref: Ref) -> dict[str, bytes]:
        """Return the files of the version that a ref resolves to."""
        ...

    def provenance(self, task: str, version: int) -> Provenance:
        """Return the origin of a version, with the metrics on its card."""
        ...

    def history(self, task: str) -> Iterator[Change]:
        """Yield the changes of a task, oldest first."""
        ...

    def observed(self, task: str) -> Mapping[str, Any] | None:
        """Return `shadows` and `drift` of a task as `GET /tasks/{task}` does; None for a registry."""
        ...

    def delete_version(self, task: str, version: int) -> None:
        """Delete a version that no alias, canary or shadow uses."""
        ...

    def delete_alias(self, info: TaskInfo, alias: str) -> None:
        """Delete an alias, if it still points where `info` says."""
        ...


def find_task(target: Target, task: str) -> TaskInfo:
    """Return a task by name, or raise `CommandError`."""
    found = next((info for info in target.tasks() if info.task == task), None)
    if found is None:
        raise CommandError(f"no task {task!r} there; 'superpos list' shows the tasks")
    return found
