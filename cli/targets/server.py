"""A running server, through its Python client."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import superpos_client
from adapters.adapter import Provenance
from adapters.files import from_files
from adapters.names import DEFAULT_TENANT, Ref
from adapters.registry.protocol import Change, ChangeKind, Publication, TaskInfo, Traffic, VersionInfo
from adapters.registry.rollback import AliasMove
from adapters.registry.rollouts import Promotion
from cli.console import CommandError, close_at_end
from cli.targets.target import find_task
from service.releases.preconditions import alias_tag, traffic_tag
from service.tenancy.api_keys import RULE, ApiKey
from superpos_client import Client, PreconditionFailed

_TIMEOUT_S = 60.0


def open_client(address: str, key: str | None, *, max_retries: int = 0) -> Client:
    """Make a client of the server at an address; its connections are closed when the command ends.

    Args:
        address: as the user gave it
        key: API key
        max_retries: a command that a person waits for reports the first error

    Raises:
        CommandError: the address or the key is invalid
    """
    try:
        client = Client(address, None if key is None else _valid_key(key), timeout=_TIMEOUT_S, max_retries=max_retries)
    except ValueError as exc:
        raise CommandError(str(exc)) from exc
    close_at_end(client.close)
    return client


class Server:
    """The tasks of a key's tenant on a server. Error responses raise `SuperposError` with the server's message."""

    def __init__(self, address: str, key: str | None = None) -> None:
        self._tasks = open_client(address, key).tasks

    def publish(self, task: str, files: Mapping[str, bytes], aliases: Sequence[str] | None) -> Publication:
        # the server refuses files that do not arrive as they were sent
        done = self._tasks.publish(task, files, aliases=aliases, digest=from_files(files).digest)
        return Publication(done.version, done.digest, done.created)

    def set_alias(self, task: str, alias: str, version: int, expected: int | None) -> None:
        self._tasks.set_alias(task, alias, version, expected=expected)

    def set_traffic(self, task: str, traffic: Traffic, expected: Traffic) -> None:
        with _unchanged("traffic", task):
            self._tasks.set_traffic(
                task,
                canary=traffic.canary,
                percent=traffic.percent,
                shadow=traffic.shadow,
                if_match=traffic_tag(expected),
            )

    def roll_back(self, task: str, alias: str, expected: int | None) -> AliasMove:
        return _move(self._tasks.roll_back(task, alias, expected=expected))

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
        done = self._tasks.promote(
            task, version, metric=metric, force=force, corrections=corrections, expected=expected
        )
        return Promotion(_move(done), done.metric, done.paired, done.corrections)

    def tasks(self) -> Sequence[TaskInfo]:
        return list(map(_task_info, self._tasks.list()))

    def files(self, ref: Ref) -> dict[str, bytes]:
        version = find_task(self, ref.task).resolve(ref).version
        names = self._tasks.files(ref.task, version)
        return {name: self._tasks.file(ref.task, version, name) for name in names}

    def provenance(self, task: str, version: int) -> Provenance:
        return Provenance.model_validate(self._tasks.adapter(task, version).provenance)

    def history(self, task: str) -> Iterator[Change]:
        return map(_change, self._tasks.history(task))

    def observed(self, task: str) -> Mapping[str, Any]:
        return self._tasks.get(task).model_dump(mode="json", include={"shadows", "drift"})

    def delete_version(self, task: str, version: int) -> None:
        self._tasks.delete_version(task, version)

    def delete_alias(self, info: TaskInfo, alias: str) -> None:
        with _unchanged(f"alias {alias}", info.task):
            self._tasks.delete_alias(info.task, alias, if_match=alias_tag(info.resolve(Ref(info.task, alias=alias))))


@contextmanager
def _unchanged(what: str, task: str) -> Iterator[None]:
    """Report a failed precondition in the command's terms."""
    try:
        yield
    except PreconditionFailed as exc:
        raise CommandError(
            f"the {what} of {task} was changed meanwhile, so nothing was done; check it with "
            f"'superpos show {task}' and try again"
        ) from exc


def _valid_key(key: str) -> str:
    """Return a well-formed key; an error does not repeat the text, which may be a secret."""
    if ApiKey.parse(key) is None:
        raise CommandError(f"--key (SUPERPOS_API_KEY) is not a valid key; expected {RULE}")
    return key


def _task_info(task: superpos_client.Task) -> TaskInfo:
    versions = tuple(VersionInfo(each.version, each.digest, each.created_at, each.actor) for each in task.versions)
    return TaskInfo(DEFAULT_TENANT, task.task, versions, task.aliases, _traffic(task.traffic))


def _traffic(traffic: superpos_client.Traffic) -> Traffic:
    return Traffic(traffic.canary, traffic.percent, traffic.shadow)


def _move(move: superpos_client.Move) -> AliasMove:
    return AliasMove(move.alias, move.previous, move.version)


def _change(change: superpos_client.Change) -> Change:
    return Change(
        position=change.position,
        kind=cast(ChangeKind, change.action),
        tenant=change.tenant,
        task=change.task,
        version=change.version or 0,
        digest=change.digest or "",
        alias=change.alias,
        actor=change.actor,
        at=change.at,
        traffic=None if change.traffic is None else _traffic(change.traffic),
    )
