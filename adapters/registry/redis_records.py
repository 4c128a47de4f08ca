"""Records of the Redis registry: conversion of hashes and stream entries to values of the contract, and back."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import cast

from adapters.registry.archive import TaskRecord
from adapters.registry.protocol import NO_TRAFFIC, Change, ChangeKind, TaskInfo, Traffic, VersionInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def text(fields: Mapping[str | bytes, str | bytes]) -> dict[str, str]:
    """A hash's or an entry's fields as text."""
    return {_text(name): _text(value) for name, value in fields.items()}


def task_record(tenant: str, task: str, fields: Mapping[str, str]) -> TaskRecord:
    """A task from its hash, which may be empty."""
    numbers = sorted(int(number) for number, _ in _family(fields, "digest"))
    versions = tuple(
        VersionInfo(n, fields[f"digest:{n}"], _instant(fields[f"at:{n}"]), fields[f"actor:{n}"]) for n in numbers
    )
    aliases = {name: int(version) for name, version in sorted(_family(fields, "alias"))}
    traffic = NO_TRAFFIC if "traffic" not in fields else Traffic(**json.loads(fields["traffic"]))
    return TaskRecord(TaskInfo(tenant, task, versions, aliases, traffic), int(fields.get("last", 0)))


def change(entry_id: str | bytes, fields: Mapping[str, str]) -> Change:
    """A change from its entry in the stream."""
    return Change(
        position=int(_text(entry_id).partition("-")[0]),
        kind=cast(ChangeKind, fields["kind"]),
        tenant=fields["tenant"],
        task=fields["task"],
        version=int(fields["version"]),
        digest=fields["digest"],
        alias=fields.get("alias"),
        actor=fields["actor"],
        at=_instant(fields["at"]),
        traffic=None if "traffic" not in fields else Traffic(**json.loads(fields["traffic"])),
    )


def entry(told: Change) -> tuple[str, list[str]]:
    """A change as its position and its entry's fields, names and values in turn."""
    fields = {
        "kind": told.kind,
        "tenant": told.tenant,
        "task": told.task,
        "version": str(told.version),
        "digest": told.digest,
        "actor": told.actor,
        "at": at_field(told.at),
    }
    if told.alias is not None:
        fields["alias"] = told.alias
    if told.traffic is not None:
        fields["traffic"] = traffic_field(told.traffic)
    return str(told.position), [part for field in fields.items() for part in field]


def at_field(at: datetime) -> str:
    """An instant in microseconds since 1970."""
    return str((at - _EPOCH) // timedelta(microseconds=1))


def traffic_field(traffic: Traffic) -> str:
    """Traffic as JSON, equal for equal traffic."""
    return json.dumps({**asdict(traffic), "percent": float(traffic.percent)})


def _instant(field: str) -> datetime:
    return _EPOCH + timedelta(microseconds=int(field))


def _family(fields: Mapping[str, str], family: str) -> Iterable[tuple[str, str]]:
    """The fields named `family:<member>`, by member."""
    for name, value in fields.items():
        kind, separator, member = name.partition(":")
        if separator and kind == family:
            yield member, value


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
