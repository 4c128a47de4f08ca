"""Registry wrapper that reports every call: its duration, and whether the store was reachable."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from adapters import Change, Publication, Ref, Registry, RegistryUnavailable, Resolution, TaskInfo, Traffic

T = TypeVar("T")

Operation = Literal[
    "publish",
    "get",
    "resolve",
    "set_alias",
    "delete_alias",
    "set_traffic",
    "list",
    "describe",
    "delete",
    "size_bytes",
    "changes",
]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)


@dataclass(frozen=True, slots=True)
class RegistryCall:
    """One call, on `time.monotonic`'s clock."""

    operation: Operation
    started: float
    ended: float
    failed: bool
    """The registry was unavailable; a refusal is an answer."""


class InstrumentedRegistry:
    """Registry that reports each call to `on_call`, in the calling thread."""

    def __init__(self, registry: Registry, on_call: Callable[[RegistryCall], None]) -> None:
        self._registry, self._on_call = registry, on_call

    def publish(
        self,
        tenant: str,
        task: str,
        files: Mapping[str, bytes],
        *,
        actor: str,
        aliases: Sequence[str] | None = None,
        digest: str | None = None,
    ) -> Publication:
        return self._call(
            "publish",
            lambda: self._registry.publish(tenant, task, files, actor=actor, aliases=aliases, digest=digest),
        )

    def get(self, digest: str) -> dict[str, bytes]:
        return self._call("get", lambda: self._registry.get(digest))

    def resolve(self, tenant: str, ref: Ref) -> Resolution:
        return self._call("resolve", lambda: self._registry.resolve(tenant, ref))

    def set_alias(
        self, tenant: str, task: str, alias: str, version: int, *, actor: str, expected: int | None = None
    ) -> None:
        self._call(
            "set_alias",
            lambda: self._registry.set_alias(tenant, task, alias, version, actor=actor, expected=expected),
        )

    def delete_alias(self, tenant: str, task: str, alias: str, *, actor: str, expected: int | None = None) -> None:
        self._call(
            "delete_alias", lambda: self._registry.delete_alias(tenant, task, alias, actor=actor, expected=expected)
        )

    def set_traffic(self, tenant: str, task: str, traffic: Traffic, *, actor: str) -> None:
        self._call("set_traffic", lambda: self._registry.set_traffic(tenant, task, traffic, actor=actor))

    def list(self, tenant: str) -> Sequence[TaskInfo]:
        return self._call("list", lambda: self._registry.list(tenant))

    def describe(self, tenant: str, task: str) -> TaskInfo:
        return self._call("describe", lambda: self._registry.describe(tenant, task))

    def delete(self, tenant: str, task: str, version: int, *, actor: str) -> None:
        self._call("delete", lambda: self._registry.delete(tenant, task, version, actor=actor))

    def size_bytes(self, digests: Collection[str]) -> int:
        return self._call("size_bytes", lambda: self._registry.size_bytes(digests))

    def changes(self, since: int = 0, *, limit: int | None = None) -> Sequence[Change]:
        return self._call("changes", lambda: self._registry.changes(since, limit=limit))

    def _call(self, operation: Operation, call: Callable[[], T]) -> T:
        started, failed = time.monotonic(), False
        try:
            return call()
        except RegistryUnavailable:
            failed = True
            raise
        finally:
            self._on_call(RegistryCall(operation, started, time.monotonic(), failed))
