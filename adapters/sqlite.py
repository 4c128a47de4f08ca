"""The embedded registry: one SQLite file in WAL mode, shared safely by threads and processes of one machine."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from adapters.errors import Conflict, NotFound
from adapters.files import from_files
from adapters.names import PRODUCTION, Ref, check_alias, check_name
from adapters.registry import (
    NO_TRAFFIC,
    Change,
    ChangeKind,
    Publication,
    Resolution,
    TaskInfo,
    Traffic,
    VersionInfo,
)
from adapters.resolution import resolve_among
from adapters.sqlite_file import SqliteFile

_SCHEMA = """
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
    digest TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (digest, name)
) STRICT;
CREATE TABLE IF NOT EXISTS changes (
    position INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, tenant TEXT NOT NULL, task TEXT NOT NULL,
    version INTEGER NOT NULL, digest TEXT NOT NULL, alias TEXT, actor TEXT NOT NULL, at TEXT NOT NULL, traffic TEXT
) STRICT;
"""


class SqliteRegistry:
    """A `Registry` in one file. Any thread may make any call."""

    def __init__(self, path: Path) -> None:
        """Open the registry, made with its folder if missing (`RegistryUnavailable` where that fails)."""
        self.path = path
        self._file = SqliteFile(path, _SCHEMA)
        with self._file.transaction("IMMEDIATE") as db:
            if not _one(db, "SELECT 1 FROM pragma_table_info('changes') WHERE name='traffic'", ()):
                db.execute("ALTER TABLE changes ADD COLUMN traffic TEXT")  # a file of version 0.1

    def publish(
        self,
        tenant: str,
        task: str,
        files: Mapping[str, bytes],
        *,
        actor: str,
        aliases: Sequence[str] | None = None,
    ) -> Publication:
        check_name("tenant", tenant)
        check_name("task", task)
        for alias in aliases or ():
            check_alias(alias)
        digest = from_files(files).digest
        with self._file.transaction("IMMEDIATE") as db:
            known = _one(
                db,
                "SELECT version FROM versions WHERE tenant=? AND task=? AND digest=?",
                (tenant, task, digest),
            )
            if known:
                version = int(known["version"])
                for alias in aliases or ():
                    if _alias_version(db, tenant, task, alias) != version:
                        _point(db, (tenant, task), alias, version, digest, actor=actor)
                return Publication(version, digest, created=False)
            version = _next_version(db, tenant, task)
            at = _now()
            db.execute("INSERT INTO versions VALUES (?,?,?,?,?,?)", (tenant, task, version, digest, actor, at))
            db.executemany(
                "INSERT OR IGNORE INTO files VALUES (?,?,?)",
                [(digest, name, data) for name, data in files.items()],
            )
            _log(db, "published", (tenant, task), version, digest, actor=actor, at=at)
            for alias in (PRODUCTION,) if aliases is None else aliases:
                _point(db, (tenant, task), alias, version, digest, actor=actor)
        return Publication(version, digest, created=True)

    def get(self, digest: str) -> dict[str, bytes]:
        with self._file.open() as db:
            rows = db.execute("SELECT name, data FROM files WHERE digest=?", (digest,)).fetchall()
        if not rows:
            raise NotFound(f"no adapter {digest}")
        return {row["name"]: row["data"] for row in rows}

    def resolve(self, tenant: str, ref: Ref) -> Resolution:
        return resolve_among(self.describe(tenant, ref.task), ref)

    def set_alias(
        self, tenant: str, task: str, alias: str, version: int, *, actor: str, expected: int | None = None
    ) -> None:
        check_alias(alias)
        with self._file.transaction("IMMEDIATE") as db:
            digest = _version_row(db, tenant, task, version)["digest"]
            current = _alias_version(db, tenant, task, alias)
            if expected is not None and current != expected:
                at = f"version {current}" if current else "nothing"
                raise Conflict(f"{task}@{alias} points at {at}, expected version {expected}")
            if current != version:
                _point(db, (tenant, task), alias, version, digest, actor=actor)

    def delete_alias(self, tenant: str, task: str, alias: str, *, actor: str) -> None:
        with self._file.transaction("IMMEDIATE") as db:
            version = _alias_version(db, tenant, task, alias)
            if version is None:
                raise NotFound(f"no {task}@{alias}")
            digest = _version_row(db, tenant, task, version)["digest"]
            db.execute("DELETE FROM aliases WHERE tenant=? AND task=? AND alias=?", (tenant, task, alias))
            _log(db, "alias_deleted", (tenant, task), version, digest, actor=actor, alias=alias)

    def set_traffic(self, tenant: str, task: str, traffic: Traffic, *, actor: str) -> None:
        with self._file.transaction("IMMEDIATE") as db:
            current = _task_info(db, tenant, task)
            if not current.versions:
                raise NotFound(f"no task {task!r}")
            for version in sorted(traffic.versions):
                _version_row(db, tenant, task, version)
            if traffic != current.traffic:
                value = json.dumps(asdict(traffic))
                db.execute("INSERT OR REPLACE INTO traffic VALUES (?,?,?)", (tenant, task, value))
                _log(db, "traffic_set", (tenant, task), 0, "", actor=actor, traffic=value)

    def list(self, tenant: str) -> Sequence[TaskInfo]:
        with self._file.transaction("DEFERRED") as db:
            names = db.execute("SELECT DISTINCT task FROM versions WHERE tenant=? ORDER BY task", (tenant,)).fetchall()
            return [_task_info(db, tenant, row["task"]) for row in names]

    def describe(self, tenant: str, task: str) -> TaskInfo:
        with self._file.transaction("DEFERRED") as db:
            info = _task_info(db, tenant, task)
        if not info.versions:
            raise NotFound(f"no task {task!r}")
        return info

    def delete(self, tenant: str, task: str, version: int, *, actor: str) -> None:
        with self._file.transaction("IMMEDIATE") as db:
            digest = _version_row(db, tenant, task, version)["digest"]
            pointing = _one(
                db,
                "SELECT alias FROM aliases WHERE tenant=? AND task=? AND version=? ORDER BY alias",
                (tenant, task, version),
            )
            if pointing:
                raise Conflict(f"{task}@{pointing['alias']} points at version {version}, move it first")
            if version in _task_info(db, tenant, task).traffic.versions:
                raise Conflict(f"the traffic of {task} needs version {version}, change that first")
            db.execute("DELETE FROM versions WHERE tenant=? AND task=? AND version=?", (tenant, task, version))
            db.execute(
                "DELETE FROM files WHERE digest=?1 AND NOT EXISTS (SELECT 1 FROM versions WHERE digest=?1)",
                (digest,),
            )
            _log(db, "version_deleted", (tenant, task), version, digest, actor=actor)

    def changes(self, since: int = 0) -> Sequence[Change]:
        with self._file.open() as db:
            rows = db.execute("SELECT * FROM changes WHERE position>? ORDER BY position", (since,)).fetchall()
        return [_change(row) for row in rows]


def _one(db: sqlite3.Connection, sql: str, values: tuple[object, ...]) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(sql, values).fetchone()
    return row


def _next_version(db: sqlite3.Connection, tenant: str, task: str) -> int:
    row = _one(
        db,
        "INSERT INTO tasks VALUES (?,?,1) ON CONFLICT DO UPDATE SET last_version=last_version+1 RETURNING last_version",
        (tenant, task),
    )
    assert row is not None
    return int(row["last_version"])


def _version_row(db: sqlite3.Connection, tenant: str, task: str, version: int) -> sqlite3.Row:
    row = _one(db, "SELECT * FROM versions WHERE tenant=? AND task=? AND version=?", (tenant, task, version))
    if row is None:
        raise NotFound(f"no {task}@{version}")
    return row


def _alias_version(db: sqlite3.Connection, tenant: str, task: str, alias: str) -> int | None:
    row = _one(db, "SELECT version FROM aliases WHERE tenant=? AND task=? AND alias=?", (tenant, task, alias))
    return None if row is None else int(row["version"])


def _point(db: sqlite3.Connection, key: tuple[str, str], alias: str, version: int, digest: str, *, actor: str) -> None:
    db.execute("INSERT OR REPLACE INTO aliases VALUES (?,?,?,?)", (*key, alias, version))
    _log(db, "alias_set", key, version, digest, actor=actor, alias=alias)


def _task_info(db: sqlite3.Connection, tenant: str, task: str) -> TaskInfo:
    key = (tenant, task)
    versions = db.execute("SELECT * FROM versions WHERE tenant=? AND task=? ORDER BY version", key).fetchall()
    aliases = db.execute("SELECT * FROM aliases WHERE tenant=? AND task=? ORDER BY alias", key).fetchall()
    traffic = _one(db, "SELECT traffic FROM traffic WHERE tenant=? AND task=?", key)
    return TaskInfo(
        tenant=tenant,
        task=task,
        versions=tuple(
            VersionInfo(row["version"], row["digest"], datetime.fromisoformat(row["created_at"]), row["actor"])
            for row in versions
        ),
        aliases={row["alias"]: row["version"] for row in aliases},
        traffic=NO_TRAFFIC if traffic is None else Traffic(**json.loads(traffic["traffic"])),
    )


def _change(row: sqlite3.Row) -> Change:
    traffic = None if row["traffic"] is None else Traffic(**json.loads(row["traffic"]))
    return Change(**{**dict(row), "at": datetime.fromisoformat(row["at"]), "traffic": traffic})


def _log(
    db: sqlite3.Connection,
    kind: ChangeKind,
    key: tuple[str, str],
    version: int,
    digest: str,
    *,
    actor: str,
    alias: str | None = None,
    at: str | None = None,
    traffic: str | None = None,
) -> None:
    db.execute(
        "INSERT INTO changes (kind, tenant, task, version, digest, alias, actor, at, traffic) "
        "VALUES (?,?,?,?,?,?,?,?,?)",
        (kind, *key, version, digest, alias, actor, at or _now(), traffic),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
