"""Servers and registries that commands read adapters from and publish them to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import httpx2

from adapters.adapter import Provenance
from adapters.files import from_files
from adapters.names import DEFAULT_TENANT, Ref
from adapters.printable import check_texts
from adapters.registry.log_reading import task_log
from adapters.registry.opening import open_registry
from adapters.registry.protocol import Change, Publication, Registry, TaskInfo, Traffic, VersionInfo
from adapters.registry.rollback import AliasHistory, AliasMove, previous_target, roll_back
from adapters.registry.rollouts import Promotion, promote
from cli.console import CommandError
from service.releases.preconditions import alias_tag, traffic_tag
from service.tenancy.api_keys import RULE, ApiKey

_TIMEOUT_S = 60.0
_PAGE = 500


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
        self, task: str, version: int, metric: str | None, *, force: bool, expected: int | None = None
    ) -> Promotion:
        """Point `production` at a version whose metric is not worse, or at any with `force`.

        Args:
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


def is_address(location: str) -> bool:
    """Return whether a location is a server's address."""
    return location.startswith(("http://", "https://"))


def require_registry(location: str) -> None:
    """Refuse the path of a registry file that does not exist."""
    if "://" not in location and not Path(location).is_file():
        raise CommandError(f"registry {location}: no such file; 'superpos serve --registry {location}' creates it")


def open_target(location: str, key: str | None = None, *, create: bool = False) -> Target:
    """Open a server by its http address, or a registry by its file or Redis URL.

    Args:
        location: the address, path or URL
        key: API key, for a server only
        create: whether to create a registry file that does not exist
    """
    if is_address(location):
        return Server(location, key)
    if not create:
        require_registry(location)
    return DirectRegistry(open_registry(location))


def find_task(target: Target, task: str) -> TaskInfo:
    """Return a task by name, or raise `CommandError`."""
    found = next((info for info in target.tasks() if info.task == task), None)
    if found is None:
        raise CommandError(f"no task {task!r} there; 'superpos list' shows the tasks")
    return found


class DirectRegistry:
    """A registry, opened in this process."""

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
        self, task: str, version: int, metric: str | None, *, force: bool, expected: int | None = None
    ) -> Promotion:
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


class Refused(CommandError):
    """An error response of a server."""

    def __init__(self, address: str, response: httpx2.Response) -> None:
        self.status = response.status_code
        try:
            body = response.json()
            self.code, self.detail = str(body["code"]), str(body["detail"])
            self.locations = tuple(str(error["location"]) for error in body.get("errors", ()))
        except (ValueError, KeyError, TypeError):
            self.code, self.detail, self.locations = response.reason_phrase, "", ()
        wait = response.headers.get("Retry-After", "")
        self.retry_after_s = int(wait) if wait.isdecimal() else None
        super().__init__(f"{address} refused: {self.reason}")

    @property
    def reason(self) -> str:
        """The server's message, with status and code."""
        return f"{self.detail} ({self.status} {self.code})" if self.detail else f"{self.status} {self.code}"


class Server:
    """A running server, over HTTP. Error responses raise `Refused` with the server's message."""

    def __init__(self, address: str, key: str | None = None) -> None:
        self._address = address
        self._headers = {} if key is None else {"Authorization": f"Bearer {_valid_key(key)}"}

    def request(self, method: str, *path: object, **arguments: Any) -> httpx2.Response:
        """Send a request and return its successful response.

        Args:
            path: segments, each of them literally what the user gave
        """
        try:
            url = "".join(f"/{quote(str(segment), safe='@:')}" for segment in path)
            with httpx2.Client(base_url=self._address, headers=self._headers, timeout=_TIMEOUT_S) as client:
                response = client.request(method, url, **arguments)
        except httpx2.InvalidURL as exc:
            raise CommandError(f"{self._address!r} is not a valid address: {exc}") from exc
        except httpx2.HTTPError as exc:
            raise CommandError(f"cannot reach {self._address}: {exc}; is 'superpos serve' running?") from exc
        if response.is_error:
            raise Refused(self._address, response)
        return response

    def publish(self, task: str, files: Mapping[str, bytes], aliases: Sequence[str] | None) -> Publication:
        parts = [("files", (name, data)) for name, data in files.items()]
        # the server refuses files that do not arrive as they were sent
        form: dict[str, object] = {"sha256": from_files(files).digest}
        if aliases is not None:
            form["alias"] = list(aliases) or [""]
        body = self.request("POST", "tasks", task, "versions", files=parts, data=form).json()
        return Publication(body["version"], body["adapter"], body["created"])

    def set_alias(self, task: str, alias: str, version: int, expected: int | None) -> None:
        self.request("PUT", "tasks", task, "aliases", alias, json={"version": version, "expected": expected})

    def set_traffic(self, task: str, traffic: Traffic, expected: Traffic) -> None:
        unchanged = {"If-Match": traffic_tag(expected)}
        self._change("traffic", task, "PUT", "tasks", task, "traffic", json=asdict(traffic), headers=unchanged)

    def roll_back(self, task: str, alias: str, expected: int | None) -> AliasMove:
        body = self.request("POST", "tasks", task, "rollback", json={"alias": alias, "expected": expected}).json()
        return AliasMove(body["alias"], body["previous"], body["version"])

    def promote(
        self, task: str, version: int, metric: str | None, *, force: bool, expected: int | None = None
    ) -> Promotion:
        asked = {"version": version, "metric": metric, "force": force}
        asked |= {} if expected is None else {"expected": expected}
        body = self.request("POST", "tasks", task, "promote", json=asked).json()
        return Promotion(AliasMove(body["alias"], body["previous"], body["version"]), body["metric"], body["paired"])

    def tasks(self) -> Sequence[TaskInfo]:
        return [_task_info(task) for task in self.request("GET", "tasks").json()["tasks"]]

    def files(self, ref: Ref) -> dict[str, bytes]:
        version = find_task(self, ref.task).resolve(ref).version
        path = ("tasks", ref.task, "versions", version, "files")
        names = self.request("GET", *path).json()["files"]
        return {name: self.request("GET", *path, name).content for name in names}

    def provenance(self, task: str, version: int) -> Provenance:
        return Provenance.model_validate(self.request("GET", "tasks", task, "versions", version).json()["provenance"])

    def history(self, task: str) -> Iterator[Change]:
        since, complete = 0, False
        while not complete:
            part = self.request("GET", "tasks", task, "history", params={"since": since, "limit": _PAGE}).json()
            yield from map(_change, part["entries"])
            since, complete = part["position"], part["complete"]

    def observed(self, task: str) -> Mapping[str, Any]:
        body: Mapping[str, Any] = self.request("GET", "tasks", task).json()
        return body

    def delete_version(self, task: str, version: int) -> None:
        self.request("DELETE", "tasks", task, "versions", version)

    def delete_alias(self, info: TaskInfo, alias: str) -> None:
        unchanged = {"If-Match": alias_tag(info.resolve(Ref(info.task, alias=alias)))}
        self._change(f"alias {alias}", info.task, "DELETE", "tasks", info.task, "aliases", alias, headers=unchanged)

    def _change(self, what: str, task: str, method: str, *path: object, **arguments: Any) -> None:
        """Send a write with a precondition; report a failed precondition in the command's terms."""
        try:
            self.request(method, *path, **arguments)
        except Refused as exc:
            if exc.status != 412:
                raise
            raise CommandError(
                f"the {what} of {task} was changed meanwhile, so nothing was done; check it with "
                f"'superpos show {task}' and try again"
            ) from exc


def _valid_key(key: str) -> str:
    """Return a well-formed key; an error does not repeat the text, which may be a secret."""
    if ApiKey.parse(key) is None:
        raise CommandError(f"--key (SUPERPOS_API_KEY) is not a valid key; expected {RULE}")
    return key


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
