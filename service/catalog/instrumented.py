"""Instrumentation of a registry: reports how long each call took, and whether the store was reachable."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal, cast, get_args

from adapters import Registry, RegistryUnavailable

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
    "files",
    "content_sizes",
    "snapshot",
    "changes",
    "trim_log",
]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)


@dataclass(frozen=True, slots=True)
class RegistryCall:
    """One call, with times on the clock of `time.monotonic`."""

    operation: Operation
    started: float
    ended: float
    failed: bool
    """Whether the registry was unavailable; a refusal is an answer."""


def instrument(registry: Registry, on_call: Callable[[RegistryCall], None]) -> Registry:
    """Return a view of the registry that reports each call to `on_call`, in the calling thread."""
    methods = {operation: _timed(registry, operation, on_call) for operation in OPERATIONS}
    return cast("Registry", SimpleNamespace(**methods))


def _timed(registry: Registry, operation: Operation, on_call: Callable[[RegistryCall], None]) -> Callable[..., object]:
    def call(*arguments: object, **options: object) -> object:
        started, failed = time.monotonic(), False
        try:
            return getattr(registry, operation)(*arguments, **options)
        except RegistryUnavailable:
            failed = True
            raise
        finally:
            on_call(RegistryCall(operation, started, time.monotonic(), failed))

    return call
