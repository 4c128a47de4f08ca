"""Where adapters go to and come from: a running server over HTTP, or a registry itself. One face for both."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import httpx2

from adapters.files import from_files
from adapters.names import DEFAULT_TENANT, Ref
from adapters.registry.log_reading import task_log
from adapters.registry.opening import open_registry
from adapters.registry.protocol import Change, Publication, Registry, TaskInfo, Traffic, VersionInfo
from adapters.registry.rollback import AliasHistory, AliasMove, previous_target, roll_back
from adapters.registry.rollouts import Promotion, promote, set_traffic
from cli.console import CommandError

_TIMEOUT_S = 60.0
_PAGE = 500


class Target(Protocol):
    """Somewhere that holds adapters."""

    def publish(self, task: str, files: Mapping[str, bytes], aliases: Sequence[str] | None) -> Publication:
        """Add an adapter as a task's next version."""
        ...

    def set_alias(self, task: str, alias: str, version: int, expected: int | None) -> None:
        """Point an alias at a version; with `expected`, only if it points there now."""
        ...

    def set_traffic(self, task: str, traffic: Traffic) -> None:
        """Say how a task's bare name is answered."""
        ...

    def roll_back(self, task: str, alias: str, expected: int | None) -> AliasMove:
        """Point an alias back to where it pointed before; with `expected`, only if it points there now."""
        ...

    def promote(self, task: str, version: int, metric: str | None, force: bool) -> Promotion:
        """Point `production` at a version that passes the gate."""
        ...

    def tasks(self) -> Sequence[TaskInfo]:
        """Every task."""
        ...

    def files(self, ref: Ref) -> dict[str, bytes]:
        """The files of the version that a ref means."""
        ...

    def history(self, task: str) -> Iterator[Change]:
        """What was done to a task, oldest first."""
        ...


def is_address(place: str) -> bool:
    """Whether a place is a server's address."""
    return place.startswith(("http://", "https://"))


def open_target(place: str, key: str | None = None) -> Target:
    """A server where the text is an http address, else a registry: a file, or Redis by its URL, which take no key."""
    if is_address(place):
        return Server(place, key)
    return OpenRegistry(open_registry(place))


def open_source(place: str, key: str | None = None) -> Target:
    """As `open_place`, for what is there already: a registry's file must exist."""
    if "://" not in place and not Path(place).is_file():
        raise CommandError(f"registry {place}: no such file")
    return open_target(place, key)


class OpenRegistry:
    """A registry, reached with no server between."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def publish(self, task: str, files: Mapping[str, bytes], aliases: Sequence[str] | None) -> Publication:
        return self._registry.publish(DEFAULT_TENANT, task, files, actor="cli", aliases=aliases)

    def set_alias(self, task: str, alias: str, version: int, expected: int | None) -> None:
        self._registry.set_alias(DEFAULT_TENANT, task, alias, version, actor="cli", expected=expected)

    def set_traffic(self, task: str, traffic: Traffic) -> None:
        set_traffic(self._registry, DEFAULT_TENANT, task, traffic, actor="cli")

    def roll_back(self, task: str, alias: str, expected: int | None) -> AliasMove:
        history = AliasHistory()
        history.apply(self._registry.changes())
        before = history.before(DEFAULT_TENANT, task, alias)
        info = self._registry.describe(DEFAULT_TENANT, task)
        move = previous_target(info, before, alias=alias, expected=expected)
        roll_back(self._registry, DEFAULT_TENANT, task, move, actor="cli")
        return move

    def promote(self, task: str, version: int, metric: str | None, force: bool) -> Promotion:
        return promote(self._registry, DEFAULT_TENANT, task, version, actor="cli", metric=metric, force=force)

    def tasks(self) -> Sequence[TaskInfo]:
        return self._registry.list(DEFAULT_TENANT)

    def files(self, ref: Ref) -> dict[str, bytes]:
        return self._registry.get(self._registry.resolve(DEFAULT_TENANT, ref).digest)

    def history(self, task: str) -> Iterator[Change]:
        self._registry.describe(DEFAULT_TENANT, task)
        since, complete = 0, False
        while not complete:
            part = task_log(self._registry, DEFAULT_TENANT, task, since=since, limit=_PAGE)
            yield from part.entries
            since, complete = part.position, part.complete


class Server:
    """A running server. Its problem details become `CommandError`s."""

    def __init__(self, address: str, key: str | None = None) -> None:
        self._address = address
        self._headers = {} if key is None else {"Authorization": f"Bearer {_checked(key)}"}

    def request(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        """Send a request; raise `CommandError` with the server's own words where it refuses."""
        try:
            with httpx2.Client(base_url=self._address, headers=self._headers, timeout=_TIMEOUT_S) as client:
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
        form: dict[str, object] = {"sha256": from_files(files).digest}  # what arrives is what was sent
        if aliases is not None:
            form["alias"] = list(aliases) or [""]
        body = self.request("POST", f"/tasks/{task}/versions", files=parts, data=form).json()
        return Publication(body["version"], body["adapter"], body["created"])

    def set_alias(self, task: str, alias: str, version: int, expected: int | None) -> None:
        self.request("PUT", f"/tasks/{task}/aliases/{alias}", json={"version": version, "expected": expected})

    def set_traffic(self, task: str, traffic: Traffic) -> None:
        self.request("PUT", f"/tasks/{task}/traffic", json=asdict(traffic))

    def roll_back(self, task: str, alias: str, expected: int | None) -> AliasMove:
        body = self.request("POST", f"/tasks/{task}/rollback", json={"alias": alias, "expected": expected}).json()
        return AliasMove(body["alias"], body["previous"], body["version"])

    def promote(self, task: str, version: int, metric: str | None, force: bool) -> Promotion:
        asked = {"version": version, "metric": metric, "force": force}
        body = self.request("POST", f"/tasks/{task}/promote", json=asked).json()
        return Promotion(AliasMove(body["alias"], body["previous"], body["version"]), body["metric"])

    def tasks(self) -> Sequence[TaskInfo]:
        return [_task_info(task) for task in self.request("GET", "/tasks").json()["tasks"]]

    def files(self, ref: Ref) -> dict[str, bytes]:
        task = next((info for info in self.tasks() if info.task == ref.task), None)
        if task is None:
            raise CommandError(f"{self._address} has no task {ref.task!r}")
        version = task.resolve(ref).version
        path = f"/tasks/{ref.task}/versions/{version}/files"
        names = self.request("GET", path).json()["files"]
        return {name: self.request("GET", f"{path}/{name}").content for name in names}

    def history(self, task: str) -> Iterator[Change]:
        since, complete = 0, False
        while not complete:
            part = self.request("GET", f"/tasks/{task}/history", params={"since": since, "limit": _PAGE}).json()
            yield from map(_change, part["entries"])
            since, complete = part["position"], part["complete"]


def _checked(key: str) -> str:
    """A key that a header can hold; what is none is not repeated."""
    from service.tenancy.api_keys import RULE, ApiKey

    if ApiKey.parse(key) is None:
        raise CommandError(f"--key (SUPERPOS_API_KEY) is no key, expected {RULE}")
    return key


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
    return TaskInfo(DEFAULT_TENANT, body["task"], versions, body["aliases"], Traffic(**body["traffic"]))


def _change(body: Mapping[str, Any]) -> Change:
    return Change(
        position=body["position"],
        kind=body["action"],
        tenant=body["tenant"],
        task=body["task"],
        version=body["version"] or 0,
        digest=body["adapter"] or "",
        alias=body["alias"],
        actor=body["actor"],
        at=datetime.fromisoformat(body["at"]),
        traffic=None if body["traffic"] is None else Traffic(**body["traffic"]),
    )
