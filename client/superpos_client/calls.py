"""Every call of the API once: its route, what is sent, and how the answer is read. No I/O.

Clients with and without `async` share these, so that neither has a route, a member or a model of its own.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cache
from typing import Any, Generic, TypeVar, cast
from urllib.parse import quote

from pydantic import BaseModel, TypeAdapter

from superpos_client.answers import Limits, Options, Prediction, predictions_of
from superpos_client.errors import SuperposError, task_error
from superpos_client.feedback import Correction, Dataset, FeedbackDeletion, FeedbackPage, FeedbackState, View
from superpos_client.jobs import Job, JobDetail, LabelledRow
from superpos_client.resources import (
    Adapter,
    Alias,
    AuditEntry,
    Change,
    Key,
    Move,
    NewKey,
    Promotion,
    Publication,
    Readiness,
    Role,
    TaskDetail,
    TaskPage,
    Tenant,
    Traffic,
    Usage,
)
from superpos_client.retries import Repeat

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

PAGE = 500
"""Entries of a log per request."""
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer."""

    status: int
    headers: Mapping[str, str]
    """By name, whatever its case."""
    content: bytes
    """Decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request, and how its successful answer is read."""

    method: str
    path: str
    """Quoted, below the server's address."""
    read: Callable[[Answer], T]
    """May raise `ValueError`, `KeyError` or `TypeError` for an answer that the API does not have."""
    repeat: Repeat
    params: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: Callable[[int], bytes] | None = None
    """Makes the body from the milliseconds that are left for the server."""
    form: Mapping[str, Any] | None = None
    files: Sequence[tuple[str, tuple[str, bytes]]] | None = None
    allowed: frozenset[int] = frozenset()
    """Statuses of answers that are read although they are errors."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a log."""

    entries: list[T]
    position: int
    complete: bool


def limits() -> Call[Limits]:
    return _get("/limits", Limits)


def readiness() -> Call[Readiness]:
    return _call("GET", _path("healthz", "ready"), _model(Readiness), "always", allowed=frozenset({503}))


def classify(ref: str, rows: Sequence[bytes], options: Options) -> Call[list[Prediction]]:
    """Return the classification of encoded rows."""

    def read(answer: Answer) -> list[Prediction]:
        return _each_answered(predictions_of(_json(answer), _request_id(answer)), len(rows))

    path = _path("classify", ref)
    return _call("POST", path, read, "always", content=lambda left_ms: options.body(rows, left_ms), headers=_JSON)


def classify_tasks(
    refs: Sequence[str], rows: Sequence[bytes], options: Options, *, address: str
) -> Call[list[list[Prediction] | SuperposError]]:
    """Return the classification of encoded rows by several tasks: predictions or an error per ref."""

    def read(answer: Answer) -> list[list[Prediction] | SuperposError]:
        request_id = _request_id(answer)
        found: list[list[Prediction] | SuperposError] = [
            task_error(address, result["problem"], request_id)
            if "problem" in result
            else _each_answered(predictions_of(result, request_id), len(rows))
            for result in _json(answer)["results"]
        ]
        return _each_answered(found, len(refs))

    def content(left_ms: int) -> bytes:
        return options.body(rows, left_ms, refs=refs)

    return _call("POST", "/classify", read, "always", content=content, headers=_JSON)


def room_for_rows(limits_of: Limits, options: Options) -> int:
    """Return the bytes that the rows of a request may have."""
    return limits_of.max_body_bytes - len(options.body([], limits_of.max_timeout_ms))


def tasks(cursor: str | None, limit: int) -> Call[TaskPage]:
    params = {"limit": str(limit)} | ({} if cursor is None else {"cursor": cursor})
    return _call("GET", "/tasks", _model(TaskPage), "always", params=params)


def task(name: str) -> Call[TaskDetail]:
    return _get(_path("tasks", name), TaskDetail)


def history(name: str, since: int) -> Call[Page[Change]]:
    return _log(_path("tasks", name, "history"), Change, since)


def publish(
    name: str, files: Mapping[str, bytes], aliases: Sequence[str] | None, digest: str | None
) -> Call[Publication]:
    """Return the upload of an adapter: a retry of one that arrived publishes nothing again."""
    form: dict[str, Any] = {} if digest is None else {"sha256": digest}
    if aliases is not None:
        form["alias"] = list(aliases) or [""]  # an empty one moves none
    parts = [("files", (file, data)) for file, data in files.items()]
    path = _path("tasks", name, "versions")
    return _call("POST", path, _model(Publication), "always", files=parts, form=form)


def adapter(name: str, version: int) -> Call[Adapter]:
    return _get(_path("tasks", name, "versions", version), Adapter)


def files(name: str, version: int) -> Call[list[str]]:
    return _call("GET", _path("tasks", name, "versions", version, "files"), _list("files", str), "always")


def file(name: str, version: int, file_name: str) -> Call[bytes]:
    path = _path("tasks", name, "versions", version, "files", file_name)
    return _call("GET", path, lambda answer: answer.content, "always")


def delete_version(name: str, version: int, if_match: str | None) -> Call[None]:
    return _delete(_path("tasks", name, "versions", version), if_match)


def alias(name: str, alias_name: str) -> Call[Alias]:
    return _call("GET", _path("tasks", name, "aliases", alias_name), _tagged(Alias), "always")


def set_alias(
    name: str, alias_name: str, version: int, *, expected: int | None, if_match: str | None, if_none_match: str | None
) -> Call[Alias]:
    body = {"version": version, "expected": expected}
    guards = _guards(if_match, if_none_match)
    return _write("PUT", _path("tasks", name, "aliases", alias_name), _tagged(Alias), body, guards)


def delete_alias(name: str, alias_name: str, if_match: str | None) -> Call[None]:
    return _delete(_path("tasks", name, "aliases", alias_name), if_match)


def traffic(name: str) -> Call[Traffic]:
    return _call("GET", _path("tasks", name, "traffic"), _tagged(Traffic), "always")


def set_traffic(
    name: str, *, canary: int | None, percent: float, shadow: int | None, if_match: str | None
) -> Call[Traffic]:
    body = {"canary": canary, "percent": percent, "shadow": shadow}
    return _write("PUT", _path("tasks", name, "traffic"), _tagged(Traffic), body, _guards(if_match))


def end_traffic(name: str, if_match: str | None) -> Call[None]:
    return _delete(_path("tasks", name, "traffic"), if_match)


def roll_back(name: str, alias_name: str, *, expected: int | None, if_match: str | None) -> Call[Move]:
    body = {"alias": alias_name, "expected": expected}
    return _write("POST", _path("tasks", name, "rollback"), _model(Move), body, _guards(if_match))


def promote(
    name: str,
    version: int,
    *,
    metric: str | None,
    force: bool,
    corrections: bool,
    expected: int | None,
    if_match: str | None,
) -> Call[Promotion]:
    body = {"version": version, "metric": metric, "force": force, "expected": expected}
    body |= {"corrections": True} if corrections else {}
    return _write("POST", _path("tasks", name, "promote"), _model(Promotion), body, _guards(if_match))


def correct(
    label: str | Sequence[str],
    *,
    request_id: str | None,
    task: str | None,
    index: int | None,
    text: str | Mapping[str, str] | None,
    row: str | None,
    who: str | None,
) -> Call[Correction]:
    named = {"request_id": request_id, "task": task, "index": index, "id": row, "who": who}
    body: dict[str, object] = {name: value for name, value in named.items() if value is not None}
    body["label"] = label if isinstance(label, str) else list(label)
    if text is not None:
        body["input"] = text if isinstance(text, str) else dict(text)
    return _write("POST", "/feedback", _model(Correction), body)


def feedback_state() -> Call[FeedbackState]:
    return _get("/feedback", FeedbackState)


def feedback(name: str, view: View, cursor: str | None, limit: int) -> Call[FeedbackPage]:
    params = {"view": view, "limit": str(limit)} | ({} if cursor is None else {"cursor": cursor})
    return _call("GET", _path("tasks", name, "feedback"), _model(FeedbackPage), "always", params=params)


def export_feedback(name: str) -> Call[Dataset]:
    def read(answer: Answer) -> Dataset:
        return Dataset(task=name, version=int(answer.headers["X-Superpos-Dataset-Version"]), content=answer.content)

    return _call("GET", _path("tasks", name, "feedback", "export"), read, "always")


def delete_feedback(ids: Sequence[str], who: str | None, task: str | None, *, everything: bool) -> Call[int]:
    given: dict[str, Any] = {"id": list(ids), "who": who, "task": task, "all": "true" if everything else None}
    params = {name: value for name, value in given.items() if value not in (None, [])}
    read = _model(FeedbackDeletion)
    return _call("DELETE", "/feedback", lambda answer: read(answer).deleted, "unsent", params=params)


def train(
    name: str,
    *,
    rows: Iterable[LabelledRow],
    validation: Iterable[LabelledRow],
    definition: Mapping[str, object] | None,
    examples: Mapping[str, Sequence[str]] | None,
    corrections_since: int | None,
    arguments: Mapping[str, object],
) -> Call[Job]:
    body: dict[str, object] = {"rows": _rows(rows), "validation": _rows(validation), "arguments": dict(arguments)}
    if definition is not None:
        body["task"] = dict(definition)
    if examples is not None:
        body["examples"] = {label: list(texts) for label, texts in examples.items()}
    if corrections_since is not None:
        body["corrections_since"] = corrections_since
    return _write("POST", _path("tasks", name, "jobs"), _model(Job), body)


def jobs(task_name: str | None) -> Call[list[Job]]:
    return _call("GET", "/jobs", _list("jobs", Job), "always", params={} if task_name is None else {"task": task_name})


def job(job_id: str) -> Call[JobDetail]:
    return _get(_path("jobs", job_id), JobDetail)


def cancel_job(job_id: str) -> Call[Job]:
    return _call("POST", _path("jobs", job_id, "cancel"), _model(Job), "always")


def delete_job(job_id: str) -> Call[None]:
    return _delete(_path("jobs", job_id))


def usage(*, task_name: str | None, since: date | None, until: date | None, tenant: str | None) -> Call[Usage]:
    params = _usage_params(task_name, since, until, tenant)
    return _call("GET", "/usage", _model(Usage), "always", params=params)


def usage_csv(*, task_name: str | None, since: date | None, until: date | None, tenant: str | None) -> Call[str]:
    params = _usage_params(task_name, since, until, tenant)
    accept = {"Accept": "text/csv"}
    return _call("GET", "/usage", lambda answer: answer.content.decode(), "always", params=params, headers=accept)


def tenants() -> Call[list[Tenant]]:
    return _call("GET", _path("admin", "tenants"), _list("tenants", Tenant), "always")


def tenant(name: str) -> Call[Tenant]:
    return _get(_path("admin", "tenants", name), Tenant)


def create_tenant(name: str, limits_of: Mapping[str, object]) -> Call[Tenant]:
    return _write("POST", _path("admin", "tenants"), _model(Tenant), {"id": name, **limits_of})


def update_tenant(name: str, changes: Mapping[str, object]) -> Call[Tenant]:
    return _write("PATCH", _path("admin", "tenants", name), _model(Tenant), changes)


def delete_tenant(name: str) -> Call[None]:
    return _delete(_path("admin", "tenants", name))


def keys(tenant_name: str) -> Call[list[Key]]:
    return _call("GET", _path("admin", "tenants", tenant_name, "keys"), _list("keys", Key), "always")


def create_key(
    tenant_name: str, role: Role, *, note: str, expires_at: datetime | None, default_task: str | None
) -> Call[NewKey]:
    body = {"role": role, "note": note, "expires_at": None if expires_at is None else expires_at.isoformat()}
    if default_task is not None:
        body["default_task"] = default_task
    return _write("POST", _path("admin", "tenants", tenant_name, "keys"), _model(NewKey), body)


def update_key(tenant_name: str, key: str, *, default_task: str | None) -> Call[Key]:
    body = {"default_task": default_task}
    return _write("PATCH", _path("admin", "tenants", tenant_name, "keys", key), _model(Key), body)


def rotate_key(tenant_name: str, key: str, *, overlap_s: float | None) -> Call[NewKey]:
    body = {} if overlap_s is None else {"overlap_s": overlap_s}
    return _write("POST", _path("admin", "tenants", tenant_name, "keys", key, "rotate"), _model(NewKey), body)


def revoke_key(tenant_name: str, key: str) -> Call[None]:
    return _delete(_path("admin", "tenants", tenant_name, "keys", key))


def audit(since: int) -> Call[Page[AuditEntry]]:
    return _log(_path("admin", "audit"), AuditEntry, since)


def audit_tasks(since: int) -> Call[Page[Change]]:
    return _log(_path("admin", "audit", "tasks"), Change, since)


def _rows(rows: Iterable[LabelledRow]) -> list[dict[str, object]]:
    return [
        {
            "input": text if isinstance(text, str) else dict(text),
            "label": label if isinstance(label, str) else list(label),
        }
        for text, label in rows
    ]


def _call(method: str, path: str, read: Callable[[Answer], T], repeat: Repeat, **parts: Any) -> Call[T]:
    return Call(method=method, path=path, read=read, repeat=repeat, **parts)


def _get(path: str, model: type[M]) -> Call[M]:
    return _call("GET", path, _model(model), "always")


def _write(
    method: str,
    path: str,
    read: Callable[[Answer], T],
    body: Mapping[str, object],
    guards: Mapping[str, str] | None = None,
) -> Call[T]:
    content = json.dumps(body).encode()
    return _call(method, path, read, "unsent", content=lambda _: content, headers={**_JSON, **(guards or {})})


def _delete(path: str, if_match: str | None = None) -> Call[None]:
    return _call("DELETE", path, lambda _: None, "unsent", headers=_guards(if_match))


def _log(path: str, model: type[M], since: int) -> Call[Page[M]]:
    params = {"since": str(since), "limit": str(PAGE)}

    def read(answer: Answer) -> Page[M]:
        body = _json(answer)
        entries: list[M] = _items(cast(Any, model)).validate_python(body["entries"])
        return Page(entries, int(body["position"]), bool(body["complete"]))

    return _call("GET", path, read, "always", params=params)


def _each_answered(answers: list[T], expected: int) -> list[T]:
    if len(answers) != expected:
        raise ValueError(f"{len(answers)} answers for {expected} inputs")
    return answers


def _model(model: type[M]) -> Callable[[Answer], M]:
    return lambda answer: model.model_validate_json(answer.content)


def _list(member: str, kind: type[T]) -> Callable[[Answer], list[T]]:
    def read(answer: Answer) -> list[T]:
        items: list[T] = _items(cast(Any, kind)).validate_python(_json(answer)[member])
        return items

    return read


@cache
def _items(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(list[kind])


def _tagged(model: type[M]) -> Callable[[Answer], M]:
    return lambda answer: model.model_validate({**_json(answer), "etag": answer.headers.get("ETag")})


def _json(answer: Answer) -> Any:
    return json.loads(answer.content)


def _request_id(answer: Answer) -> str | None:
    return answer.headers.get("X-Request-ID")


def _guards(if_match: str | None, if_none_match: str | None = None) -> dict[str, str]:
    given = (("If-Match", if_match), ("If-None-Match", if_none_match))
    return {name: tag for name, tag in given if tag is not None}


def _usage_params(
    task_name: str | None, since: date | None, until: date | None, tenant_name: str | None
) -> dict[str, str]:
    given = {"task": task_name, "tenant": tenant_name, "from": since, "to": until}
    return {name: str(value) for name, value in given.items() if value is not None}


def _path(*segments: object) -> str:
    """Return the path of segments, each of them literally what the caller gave."""
    return "".join(f"/{quote(str(segment), safe='@:')}" for segment in segments)
