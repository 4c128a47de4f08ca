"""A registry, opened in this process."""

from collections.abc import Iterator, Mapping, Sequence

from adapters.adapter import Provenance
from adapters.files import from_files
from adapters.names import DEFAULT_TENANT, Ref
from adapters.printable import check_texts
from adapters.registry.log_reading import task_log
from adapters.registry.protocol import Change, Publication, Registry, TaskInfo, Traffic
from adapters.registry.rollback import AliasHistory, AliasMove, previous_target, roll_back
from adapters.registry.rollouts import Promotion, promote
from cli.console import CommandError

_PAGE = 500


class DirectRegistry:
    """The default tenant's tasks in a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def publish(self, task: str, files: Mapping[str, bytes], aliases: Sequence[str] | None) -> Publication:
        check_texts(files)
        return self._registry.publish(DEFAULT_TENANT, task, files, actor="cli", aliases=aliases)

    def set_alias(self, task: str, alias: str, version: int, expected: int | None) -> None:
        self._registry.set_alias(DEFAULT_TENANT, task, alias, version, actor="cli", expected=expected)

    def set_traffic(self, task: str, traffic: Traffic, expected: Traffic) -> None:
        self._registry.set_traffic(DEFAULT_TENANT, task, traffic, actor="cli", expected=expected)

    def roll_back(self, task: str, alias: str, expected: int | None) -> AliasMove:
        history = AliasHistory()
        history.apply(self._registry.changes())
        info = self._registry.describe(DEFAULT_TENANT, task)
        move = previous_target(info, history, alias=alias, expected=expected)
        roll_back(self._registry, DEFAULT_TENANT, task, move, actor="cli")
        return move

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
        if corrections:
            raise CommandError("--corrections needs a server, which answers them; name it with --to http://…")
        return promote(
            self._registry, DEFAULT_TENANT, task, version, actor="cli", metric=metric, force=force, expected=expected
        )

    def tasks(self) -> Sequence[TaskInfo]:
        return self._registry.list(DEFAULT_TENANT)

    def files(self, ref: Ref) -> dict[str, bytes]:
        found = self._registry.resolve(DEFAULT_TENANT, ref)
        return self._registry.files(DEFAULT_TENANT, found.task, found.version)

    def provenance(self, task: str, version: int) -> Provenance:
        return from_files(self._registry.files(DEFAULT_TENANT, task, version)).manifest.provenance

    def history(self, task: str) -> Iterator[Change]:
        self._registry.describe(DEFAULT_TENANT, task)
        since, complete = 0, False
        while not complete:
            part = task_log(self._registry, DEFAULT_TENANT, task, since=since, limit=_PAGE)
            yield from part.entries
            since, complete = part.position, part.complete

    def observed(self, task: str) -> None:
        """Return None: a registry answers no traffic."""

    def delete_version(self, task: str, version: int) -> None:
        self._registry.delete(DEFAULT_TENANT, task, version, actor="cli")

    def delete_alias(self, info: TaskInfo, alias: str) -> None:
        expected = info.aliases[alias]
        self._registry.delete_alias(DEFAULT_TENANT, info.task, alias, actor="cli", expected=expected)
