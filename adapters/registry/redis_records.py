"""Conversion of the Redis registry's hashes and stream entries to values of the contract, and back."""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import cast

from adapters.registry.archive import TaskRecord
from adapters.registry.protocol import (
    NO_TRAFFIC,
    Change,
    ChangeKind,
    TaskInfo,
    Traffic,
    VersionInfo,
    read_traffic,
    shared_aliases,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def text(fields: Mapping[str | bytes, str | bytes]) -> dict[str, str]:
    """Decode the fields of a hash or an entry."""
    return {_text(name): _text(value) for name, value in fields.items()}


def task_record(tenant: str, task: str, fields: Mapping[str, str]) -> TaskRecord:
    """Read a task from its hash, which may be empty."""
    numbers = sorted(int(number) for number, _ in family(fields, "digest"))
    versions = tuple(
        VersionInfo(n, fields[f"digest:{n}"], _instant(fields[f"at:{n}"]), sys.intern(fields[f"actor:{n}"]))
        for n in numbers
    )
    aliases = shared_aliases(tuple((name, int(version)) for name, version in sorted(family(fields, "alias"))))
    traffic = read_traffic(fields.get("traffic")) or NO_TRAFFIC
    return TaskRecord(TaskInfo(tenant, task, versions, aliases, traffic), int(fields.get("last", 0)))


def change(entry_id: str | bytes, fields: Mapping[str, str]) -> Change:
    """Read a change from its entry in the stream."""
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
        traffic=read_traffic(fields.get("traffic")),
    )


def entry(logged: Change) -> tuple[str, list[str]]:
    """Return a change as its position and its entry's alternating names and values."""
    fields = {
        "kind": logged.kind,
        "tenant": logged.tenant,
        "task": logged.task,
        "version": str(logged.version),
        "digest": logged.digest,
        "actor": logged.actor,
        "at": at_field(logged.at),
    }
    if logged.alias is not None:
        fields["alias"] = logged.alias
    if logged.traffic is not None:
        fields["traffic"] = traffic_field(logged.traffic)
    return str(logged.position), [part for field in fields.items() for part in field]


def at_field(at: datetime) -> str:
    """Format an instant as microseconds since 1970."""
    return str((at - _EPOCH) // timedelta(microseconds=1))


def traffic_field(traffic: Traffic) -> str:
    """Format traffic as JSON; equal traffic gives equal text."""
    return json.dumps({**asdict(traffic), "percent": float(traffic.percent)})


def _instant(field: str) -> datetime:
    return _EPOCH + timedelta(microseconds=int(field))


def family(fields: Mapping[str, str], family: str) -> Iterable[tuple[str, str]]:
    """Yield the fields named `family:<member>`, by member."""
    for name, value in fields.items():
        kind, separator, member = name.partition(":")
        if separator and kind == family:
            yield member, value


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
