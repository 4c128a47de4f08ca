"""The SQLite registry's schema, and conversion of its rows to values of the contract and back."""

import json
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

from adapters.errors import NotFound
from adapters.files import content_id
from adapters.registry.protocol import (
    NO_TRAFFIC,
    Change,
    ChangeKind,
    TaskInfo,
    Traffic,
    VersionInfo,
    known_fields,
    read_traffic,
    shared_aliases,
)

SCHEMA = """
CREATE TABLE IF NOT EXISTS tasks (
    tenant TEXT NOT NULL, task TEXT NOT NULL, last_version INTEGER NOT NULL, PRIMARY KEY (tenant, task)
) STRICT;
CREATE TABLE IF NOT EXISTS versions (
    tenant TEXT NOT NULL, task TEXT NOT NULL, version INTEGER NOT NULL, digest TEXT NOT NULL,
    actor TEXT NOT NULL, created_at TEXT NOT NULL,
    PRIMARY KEY (tenant, task, version), UNIQUE (tenant, task, digest)
) STRICT;
CREATE INDEX IF NOT EXISTS versions_by_digest ON versions (digest);
CREATE TABLE IF NOT EXISTS aliases (
    tenant TEXT NOT NULL, task TEXT NOT NULL, alias TEXT NOT NULL, version INTEGER NOT NULL,
    PRIMARY KEY (tenant, task, alias)
) STRICT;
CREATE TABLE IF NOT EXISTS traffic (
    tenant TEXT NOT NULL, task TEXT NOT NULL, traffic TEXT NOT NULL, PRIMARY KEY (tenant, task)
) STRICT;
CREATE TABLE IF NOT EXISTS files (
    digest TEXT NOT NULL, -- the content id of a set of files; of versions without one, the adapter's digest
    name TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (digest, name)
) STRICT;
CREATE TABLE IF NOT EXISTS changes (
    position INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, tenant TEXT NOT NULL, task TEXT NOT NULL,
    version INTEGER NOT NULL, digest TEXT NOT NULL, alias TEXT, actor TEXT NOT NULL, at TEXT NOT NULL, traffic TEXT
) STRICT;
"""

CONTENTS_SCHEMA = """
CREATE TABLE IF NOT EXISTS contents (
    tenant TEXT NOT NULL, task TEXT NOT NULL, version INTEGER NOT NULL, content TEXT NOT NULL,
    PRIMARY KEY (tenant, task, version)
) STRICT;
CREATE INDEX IF NOT EXISTS contents_by_content ON contents (content);
CREATE VIEW IF NOT EXISTS version_contents AS
    SELECT v.tenant, v.task, v.version, v.digest, COALESCE(c.content, v.digest) AS content
    FROM versions v LEFT JOIN contents c ON c.tenant = v.tenant AND c.task = v.task AND c.version = v.version;
"""
"""The content id of each version's files; a version of an older file has none, its files are under its digest."""


def one(db: sqlite3.Connection, sql: str, values: tuple[object, ...]) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(sql, values).fetchone()
    return row


def count(db: sqlite3.Connection, table: Literal["tasks", "aliases"], **key: str) -> int:
    """Return the number of a table's rows with these values."""
    where = " AND ".join(f"{column}=?" for column in key)
    row = one(db, f"SELECT count(*) AS number FROM {table} WHERE {where}", tuple(key.values()))  # noqa: S608
    assert row is not None
    return int(row["number"])


def next_version(db: sqlite3.Connection, tenant: str, task: str) -> int:
    row = one(
        db,
        "INSERT INTO tasks VALUES (?,?,1) ON CONFLICT DO UPDATE SET last_version=last_version+1 RETURNING last_version",
        (tenant, task),
    )
    assert row is not None
    return int(row["last_version"])


def set_last_version(db: sqlite3.Connection, tenant: str, task: str, last: int) -> None:
    db.execute(
        "INSERT INTO tasks VALUES (?,?,?) "
        "ON CONFLICT DO UPDATE SET last_version=max(last_version, excluded.last_version)",
        (tenant, task, last),
    )


def insert_version(
    db: sqlite3.Connection, key: tuple[str, str], version: VersionInfo, files: Mapping[str, bytes]
) -> None:
    row = (*key, version.version, version.digest, version.actor, version.created_at.isoformat())
    db.execute("INSERT INTO versions VALUES (?,?,?,?,?,?)", row)
    content = content_id(files)
    db.execute("INSERT INTO contents VALUES (?,?,?,?)", (*key, version.version, content))
    db.executemany(
        "INSERT OR IGNORE INTO files VALUES (?,?,?)", [(content, name, data) for name, data in files.items()]
    )


def delete_version(db: sqlite3.Connection, tenant: str, task: str, version: int) -> None:
    """Delete a version, and its files if they are no other version's."""
    key = (tenant, task, version)
    row = one(db, "SELECT content FROM version_contents WHERE tenant=? AND task=? AND version=?", key)
    assert row is not None
    db.execute("DELETE FROM versions WHERE tenant=? AND task=? AND version=?", key)
    db.execute("DELETE FROM contents WHERE tenant=? AND task=? AND version=?", key)
    db.execute(
        "DELETE FROM files WHERE digest=?1 AND NOT EXISTS (SELECT 1 FROM contents WHERE content=?1)"
        " AND NOT EXISTS (SELECT 1 FROM version_contents WHERE digest=?1 AND content=?1)",
        (row["content"],),
    )


def version_row(db: sqlite3.Connection, tenant: str, task: str, version: int) -> sqlite3.Row:
    row = one(db, "SELECT * FROM versions WHERE tenant=? AND task=? AND version=?", (tenant, task, version))
    if row is None:
        raise NotFound(f"no {task}@{version}")
    return row


def alias_version(db: sqlite3.Connection, tenant: str, task: str, alias: str) -> int | None:
    row = one(db, "SELECT version FROM aliases WHERE tenant=? AND task=? AND alias=?", (tenant, task, alias))
    return None if row is None else int(row["version"])


def point(db: sqlite3.Connection, key: tuple[str, str], alias: str, version: int, digest: str, *, actor: str) -> None:
    db.execute("INSERT OR REPLACE INTO aliases VALUES (?,?,?,?)", (*key, alias, version))
    log(db, "alias_set", key, version, digest, actor=actor, alias=alias)


def set_production_traffic(
    db: sqlite3.Connection, key: tuple[str, str], version: int, *, end_canary: bool, actor: str
) -> None:
    """Take the version in production out of the task's canary and shadow, and end the canary if asked to."""
    before = traffic_of(db, key)
    if (after := before.under(version, end_canary=end_canary)) != before:
        store_traffic(db, key, after, actor=actor)


def store_traffic(db: sqlite3.Connection, key: tuple[str, str], traffic: Traffic, *, actor: str) -> None:
    value = json.dumps(asdict(traffic))
    db.execute("INSERT OR REPLACE INTO traffic VALUES (?,?,?)", (*key, value))
    log(db, "traffic_set", key, 0, "", actor=actor, traffic=value)


def traffic_of(db: sqlite3.Connection, key: tuple[str, str]) -> Traffic:
    row = one(db, "SELECT traffic FROM traffic WHERE tenant=? AND task=?", key)
    return NO_TRAFFIC if row is None else read_traffic(row["traffic"]) or NO_TRAFFIC


def task_info(db: sqlite3.Connection, tenant: str, task: str) -> TaskInfo:
    key = (tenant, task)
    versions = db.execute("SELECT * FROM versions WHERE tenant=? AND task=? ORDER BY version", key).fetchall()
    aliases = db.execute("SELECT * FROM aliases WHERE tenant=? AND task=? ORDER BY alias", key).fetchall()
    return TaskInfo(
        tenant=tenant,
        task=task,
        versions=tuple(
            VersionInfo(row["version"], row["digest"], datetime.fromisoformat(row["created_at"]), row["actor"])
            for row in versions
        ),
        aliases={row["alias"]: row["version"] for row in aliases},
        traffic=traffic_of(db, key),
    )


def task_infos(db: sqlite3.Connection, tenant: str | None = None) -> list[TaskInfo]:
    """Return a tenant's or all tenants' tasks that have versions, by three scans instead of three queries per task."""
    aliases = dict(_by_task(db, "aliases", "alias, version", tenant))
    traffic = dict(_by_task(db, "traffic", "traffic", tenant))
    infos = []
    for key, rows in _by_task(db, "versions", "version, digest, created_at, actor", tenant):
        spread = traffic.get(key)
        infos.append(
            TaskInfo(
                sys.intern(key[0]),
                key[1],
                tuple(
                    VersionInfo(number, digest, datetime.fromisoformat(at), sys.intern(actor))
                    for number, digest, at, actor in rows
                ),
                shared_aliases(tuple(aliases.get(key, ()))),
                NO_TRAFFIC if spread is None else read_traffic(spread[0][0]) or NO_TRAFFIC,
            )
        )
    return infos


def _by_task(
    db: sqlite3.Connection, table: Literal["versions", "aliases", "traffic"], columns: str, tenant: str | None
) -> Iterator[tuple[tuple[str, str], list[tuple[Any, ...]]]]:
    """Yield each task and the columns of its rows, in the order of the table's key."""
    last = {"versions": ", version", "aliases": ", alias", "traffic": ""}[table]
    where, values = ("", ()) if tenant is None else ("WHERE tenant=?", (tenant,))
    cursor = db.cursor()
    cursor.row_factory = None  # a `Row` takes longer to unpack than to read
    sql = f"SELECT tenant, task, {columns} FROM {table} {where} ORDER BY tenant, task{last}"  # noqa: S608
    for key, rows in groupby(cursor.execute(sql, values), key=itemgetter(0, 1)):
        yield key, [row[2:] for row in rows]


def to_change(row: sqlite3.Row) -> Change:
    values = {**dict(row), "at": datetime.fromisoformat(row["at"]), "traffic": read_traffic(row["traffic"])}
    return Change(**known_fields(Change, values))


def to_row(change: Change) -> tuple[object, ...]:
    traffic = None if change.traffic is None else json.dumps(asdict(change.traffic))
    what = (change.kind, change.tenant, change.task, change.version, change.digest, change.alias, change.actor)
    return (change.position, *what, change.at.isoformat(), traffic)


def log(
    db: sqlite3.Connection,
    kind: ChangeKind,
    key: tuple[str, str],
    version: int,
    digest: str,
    *,
    actor: str,
    alias: str | None = None,
    at: datetime | None = None,
    traffic: str | None = None,
) -> None:
    db.execute(
        "INSERT INTO changes (kind, tenant, task, version, digest, alias, actor, at, traffic) "
        "VALUES (?,?,?,?,?,?,?,?,?)",
        (kind, *key, version, digest, alias, actor, (at or now_ms()).isoformat(), traffic),
    )


def now_ms() -> datetime:
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1_000 * 1_000)
