"""Where adapters go to and come from: a running server over HTTP, or a registry itself. One face for both."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import httpx2

from adapters.names import DEFAULT_TENANT, Ref
from adapters.opening import open_registry
from adapters.registry import Publication, Registry, TaskInfo, VersionInfo
from adapters.resolution import resolve_among
from cli.output import CommandError

_TIMEOUT_S = 60.0


class Place(Protocol):
    """Somewhere that holds adapters."""

    def publish(self, task: str, files: Mapping[str, bytes], aliases: Sequence[str] | None) -> Publication:
        """Add an adapter as a task's next version."""
        ...

    def set_alias(self, task: str, alias: str, version: int, expected: int | None) -> None:
        """Point an alias at a version; with `expected`, only if it points there now."""
        ...

    def tasks(self) -> Sequence[TaskInfo]:
        """Every task."""
        ...

    def files(self, ref: Ref) -> dict[str, bytes]:
        """The files of the version that a ref means."""
        ...


def open_place(place: str) -> Place:
    """A server where the text is an http address, else a registry: a file, or Redis by its URL."""
    if place.startswith(("http://", "https://")):
        return Server(place)
    return OpenRegistry(open_registry(place))


def open_source(place: str) -> Place:
    """As `open_place`, for what is there already: a registry's file must exist."""
    if "://" not in place and not Path(place).is_file():
        raise CommandError(f"registry {place}: no such file")
    return open_place(place)


class OpenRegistry:
    """A registry, reached with no server between."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def publish(self, task: str, files: Mapping[str, bytes], aliases: Sequence[str] | None) -> Publication:
        return self._registry.publish(DEFAULT_TENANT, task, files, actor="cli", aliases=aliases)

    def set_alias(self, task: str, alias: str, version: int, expected: int | None) -> None:
        self._registry.set_alias(DEFAULT_TENANT, task, alias, version, actor="cli", expected=expected)

    def tasks(self) -> Sequence[TaskInfo]:
        return self._registry.list(DEFAULT_TENANT)

    def files(self, ref: Ref) -> dict[str, bytes]:
        return self._registry.get(self._registry.resolve(DEFAULT_TENANT, ref).digest)


class Server:
    """A running server. Its problem details become `CommandError`s."""

    def __init__(self, address: str) -> None:
        self._address = address

    def request(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        """Send a request; raise `CommandError` with the server's own words where it refuses."""
        try:
            with httpx2.Client(base_url=self._address, timeout=_TIMEOUT_S) as client:
                response = client.request(method, path, **arguments)
        except httpx2.InvalidURL as exc:
            raise CommandError(f"{self._address!r} is not an address: {exc}") from exc
        except httpx2.HTTPError as exc:
            raise CommandError(f"cannot reach {self._address}: {exc}; is 'superpos serve' running?") from exc
        if response.is_error:
            raise CommandError(f"{self._address} refused: {_detail(response)}")
        return response

    def publish(self, task: str, files: Mapping[str, bytes], aliases: Sequence[str] | None) -> Publication:
        parts = [("files", (name, data)) for name, data in files.items()]
        form = {} if aliases is None else {"alias": list(aliases) or [""]}
        body = self.request("POST", f"/tasks/{task}/versions", files=parts, data=form).json()
        return Publication(body["version"], body["adapter"], body["created"])

    def set_alias(self, task: str, alias: str, version: int, expected: int | None) -> None:
        self.request("PUT", f"/tasks/{task}/aliases/{alias}", json={"version": version, "expected": expected})

    def tasks(self) -> Sequence[TaskInfo]:
        return [_task_info(task) for task in self.request("GET", "/tasks").json()["tasks"]]

    def files(self, ref: Ref) -> dict[str, bytes]:
        task = next((info for info in self.tasks() if info.task == ref.task), None)
        if task is None:
            raise CommandError(f"{self._address} has no task {ref.task!r}")
        version = resolve_among(task, ref).version
        path = f"/tasks/{ref.task}/versions/{version}/files"
        names = self.request("GET", path).json()["files"]
        return {name: self.request("GET", f"{path}/{name}").content for name in names}


def _detail(response: httpx2.Response) -> str:
    try:
        body = response.json()
        return f"{body['detail']} ({response.status_code} {body['code']})"
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.reason_phrase}"


def _task_info(body: Mapping[str, Any]) -> TaskInfo:
    versions = tuple(
        VersionInfo(v["version"], v["adapter"], datetime.fromisoformat(v["created_at"]), v["actor"])
        for v in body["versions"]
    )
    return TaskInfo(DEFAULT_TENANT, body["task"], versions, body["aliases"])
