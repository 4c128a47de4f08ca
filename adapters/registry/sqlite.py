"""The embedded registry: one SQLite file, shared by threads and processes of one machine."""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from adapters.errors import Conflict, NotFound
from adapters.files import from_files
from adapters.names import PRODUCTION, Ref, check_alias, check_publication
from adapters.registry.archive import TaskRecord, check_restored
from adapters.registry.protocol import (
    ABSENT,
    DEFAULT_LIMITS,
    Change,
    Publication,
    RegistryLimits,
    Resolution,
    Snapshot,
    TaskInfo,
    Traffic,
    VersionInfo,
    check_expected,
    check_traffic,
)
from adapters.registry.sqlite_rows import (
    CONTENTS_SCHEMA,
    SCHEMA,
    alias_version,
    count,
    delete_version,
    insert_version,
    log,
    next_version,
    now_ms,
    one,
    point,
    set_last_version,
    set_production_traffic,
    store_traffic,
    task_info,
    task_infos,
    to_change,
    to_row,
    version_row,
)
from adapters.registry.trimming import Trim, trim_in_steps
from adapters.storage.sqlite import SqliteFile


class SqliteRegistry:
    """A `Registry` in one file. Callable from any thread."""

    def __init__(self, file: SqliteFile, limits: RegistryLimits = DEFAULT_LIMITS) -> None:
        """Create the tables that the file lacks (`RegistryUnavailable` if that fails)."""
        self._file, self._limits = file, limits
        file.create_tables(SCHEMA)
        file.create_tables(CONTENTS_SCHEMA)
        has_traffic = "SELECT 1 FROM pragma_table_info('changes') WHERE name='traffic'"
        with self._file.open() as db:
            if one(db, has_traffic, ()):
                return
        with self._file.transaction("IMMEDIATE") as db:
            if not one(db, has_traffic, ()):
                db.execute("ALTER TABLE changes ADD COLUMN traffic TEXT")  # a file of version 0.1

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
        check_publication(tenant, task, aliases)
        digest = digest or from_files(files).digest
        with self._file.transaction("IMMEDIATE") as db:
            known = one(
                db,
                "SELECT version FROM versions WHERE tenant=? AND task=? AND digest=?",
                (tenant, task, digest),
            )
            if not known and not one(db, "SELECT 1 FROM tasks WHERE tenant=? AND task=?", (tenant, task)):
                self._limits.check_names(tenant, count(db, "tasks", tenant=tenant) + 1)
            moving = list(dict.fromkeys([PRODUCTION] if aliases is None and not known else aliases or ()))
            self._check_aliases(db, tenant, task, moving)
            if known:
                version = int(known["version"])
                for alias in moving:
                    if alias_version(db, tenant, task, alias) != version:
                        point(db, (tenant, task), alias, version, digest, actor=actor)
                    if alias == PRODUCTION:
                        set_production_traffic(db, (tenant, task), version, end_canary=False, actor=actor)
                return Publication(version, digest, created=False)
            version = next_version(db, tenant, task)
            at = now_ms()
            insert_version(db, (tenant, task), VersionInfo(version, digest, at, actor), files)
            log(db, "published", (tenant, task), version, digest, actor=actor, at=at)
            for alias in moving:
                point(db, (tenant, task), alias, version, digest, actor=actor)
        return Publication(version, digest, created=True)

    def get(self, digest: str) -> dict[str, bytes]:
        query = (
            "SELECT name, data FROM files WHERE digest=(SELECT content FROM version_contents WHERE digest=? LIMIT 1)"
        )
        files = self._files(query, (digest,))
        if not files:
            raise NotFound(f"no adapter {digest}")
        return files

    def files(self, tenant: str, task: str, version: int) -> dict[str, bytes]:
        query = (
            "SELECT name, data FROM files "
            "WHERE digest=(SELECT content FROM version_contents WHERE tenant=? AND task=? AND version=?)"
        )
        files = self._files(query, (tenant, task, version))
        if not files:
            raise NotFound(f"no {task}@{version}")
        return files

    def _files(self, query: str, values: tuple[object, ...]) -> dict[str, bytes]:
        with self._file.open() as db:
            return {row["name"]: row["data"] for row in db.execute(query, values)}

    def resolve(self, tenant: str, ref: Ref) -> Resolution:
        return self.describe(tenant, ref.task).resolve(ref)

    def set_alias(
        self,
        tenant: str,
        task: str,
        alias: str,
        version: int,
        *,
        actor: str,
        expected: int | None = None,
        end_canary: bool = False,
    ) -> None:
        check_alias(alias)
        with self._file.transaction("IMMEDIATE") as db:
            digest = version_row(db, tenant, task, version)["digest"]
            current = alias_version(db, tenant, task, alias)
            check_expected(f"{task}@{alias}", current or ABSENT, expected)
            self._check_aliases(db, tenant, task, [alias])
            if current != version:
                point(db, (tenant, task), alias, version, digest, actor=actor)
            if alias == PRODUCTION:
                set_production_traffic(db, (tenant, task), version, end_canary=end_canary, actor=actor)

    def _check_aliases(self, db: sqlite3.Connection, tenant: str, task: str, moving: Sequence[str]) -> None:
        """Refuse aliases beyond the limit; those that the task has can always be moved."""
        if new := [alias for alias in moving if alias_version(db, tenant, task, alias) is None]:
            self._limits.check_aliases(task, count(db, "aliases", tenant=tenant, task=task) + len(new))

    def delete_alias(self, tenant: str, task: str, alias: str, *, actor: str, expected: int | None = None) -> None:
        with self._file.transaction("IMMEDIATE") as db:
            version = alias_version(db, tenant, task, alias)
            if version is None:
                raise NotFound(f"no {task}@{alias}")
            check_expected(f"{task}@{alias}", version, expected)
            digest = version_row(db, tenant, task, version)["digest"]
            db.execute("DELETE FROM aliases WHERE tenant=? AND task=? AND alias=?", (tenant, task, alias))
            log(db, "alias_deleted", (tenant, task), version, digest, actor=actor, alias=alias)

    def set_traffic(
        self, tenant: str, task: str, traffic: Traffic, *, actor: str, expected: Traffic | None = None
    ) -> None:
        with self._file.transaction("IMMEDIATE") as db:
            current = task_info(db, tenant, task)
            if not current.versions:
                raise NotFound(f"no task {task!r}")
            if expected is not None and current.traffic != expected:
                raise Conflict(f"the traffic of {task} is {current.traffic}, expected {expected}")
            for version in sorted(traffic.versions):
                version_row(db, tenant, task, version)
            check_traffic(traffic, current.aliases.get(PRODUCTION))
            if traffic != current.traffic:
                store_traffic(db, (tenant, task), traffic, actor=actor)

    def list(self, tenant: str) -> Sequence[TaskInfo]:
        with self._file.transaction("DEFERRED") as db:
            return task_infos(db, tenant)

    def describe(self, tenant: str, task: str) -> TaskInfo:
        with self._file.transaction("DEFERRED") as db:
            info = task_info(db, tenant, task)
        if not info.versions:
            raise NotFound(f"no task {task!r}")
        return info

    def delete(self, tenant: str, task: str, version: int, *, actor: str) -> None:
        with self._file.transaction("IMMEDIATE") as db:
            digest = version_row(db, tenant, task, version)["digest"]
            pointing = one(
                db,
                "SELECT alias FROM aliases WHERE tenant=? AND task=? AND version=? ORDER BY alias",
                (tenant, task, version),
            )
            if pointing:
                raise Conflict(f"{task}@{pointing['alias']} points at version {version}, move it first")
            if version in task_info(db, tenant, task).traffic.versions:
                raise Conflict(f"the traffic of {task} needs version {version}, change that first")
            delete_version(db, tenant, task, version)
            log(db, "version_deleted", (tenant, task), version, digest, actor=actor)

    def content_sizes(self, tenant: str) -> Mapping[str, int]:
        query = (
            "SELECT digest, SUM(LENGTH(data)) AS bytes FROM files "
            "WHERE digest IN (SELECT content FROM version_contents WHERE tenant=?) GROUP BY digest"
        )
        with self._file.open() as db:
            return {row["digest"]: row["bytes"] for row in db.execute(query, (tenant,))}

    def changes(self, since: int = 0, *, limit: int | None = None) -> Sequence[Change]:
        after = "SELECT * FROM changes WHERE position>? ORDER BY position LIMIT ?"
        with self._file.open() as db:
            rows = db.execute(after, (since, -1 if limit is None else limit)).fetchall()
        return [to_change(row) for row in rows]

    def snapshot(self) -> Snapshot:
        with self._file.transaction("DEFERRED") as db:
            row = one(db, "SELECT * FROM changes ORDER BY position DESC LIMIT 1", ())
            return Snapshot((), None) if row is None else Snapshot(task_infos(db), to_change(row))

    def trim_log(self, *, keep: int, min_new: int = 0, pause: Callable[[], None] = lambda: None) -> int:
        with self._file.open() as db:
            last = one(db, "SELECT max(position) AS position FROM changes", ())
        position = 0 if last is None else last["position"] or 0
        if position - self._last_trim() < min_new:
            return 0
        return trim_in_steps(self.changes, self._remove, last_trim=self._last_trim, keep=keep, pause=pause)

    def _last_trim(self) -> int:
        with self._file.open() as db:
            marker = one(db, "SELECT max(position) AS position FROM changes WHERE kind='log_trimmed'", ())
        return 0 if marker is None else marker["position"] or 0

    def _remove(self, trim: Trim) -> int | None:
        with self._file.transaction("IMMEDIATE") as db:
            if one(db, "SELECT 1 FROM changes WHERE position>? AND kind='log_trimmed'", (trim.end,)):
                return None
            db.executemany("DELETE FROM changes WHERE position=?", [(position,) for position in trim.positions])
            log(db, "log_trimmed", ("", ""), trim.horizon, "", actor="")
            last = one(db, "SELECT max(position) AS position FROM changes", ())
            assert last is not None
            return int(last["position"])

    def records(self) -> Sequence[TaskRecord]:
        with self._file.transaction("DEFERRED") as db:
            rows = db.execute("SELECT * FROM tasks ORDER BY tenant, task").fetchall()
            return [TaskRecord(task_info(db, row["tenant"], row["task"]), row["last_version"]) for row in rows]

    def restore_version(self, tenant: str, task: str, version: VersionInfo, files: Mapping[str, bytes]) -> None:
        check_restored(tenant, task, version, files)
        with self._file.transaction("IMMEDIATE") as db:
            taken = "SELECT 1 FROM versions WHERE tenant=? AND task=? AND (version=? OR digest=?)"
            if one(db, taken, (tenant, task, version.version, version.digest)):
                raise Conflict(f"{task}@{version.version} or its adapter {version.digest} is there already")
            set_last_version(db, tenant, task, version.version)
            insert_version(db, (tenant, task), version, files)

    def restore_task(self, record: TaskRecord) -> None:
        key = (record.info.tenant, record.info.task)
        with self._file.transaction("IMMEDIATE") as db:
            for version in record.needed:
                version_row(db, *key, version)
            set_last_version(db, *key, record.last_version)
            db.execute("DELETE FROM aliases WHERE tenant=? AND task=?", key)
            rows = [(*key, alias, version) for alias, version in record.info.aliases.items()]
            db.executemany("INSERT INTO aliases VALUES (?,?,?,?)", rows)
            traffic = json.dumps(asdict(record.info.traffic))
            db.execute("INSERT OR REPLACE INTO traffic VALUES (?,?,?)", (*key, traffic))

    def restore_log(self, changes: Sequence[Change]) -> None:
        with self._file.transaction("IMMEDIATE") as db:
            last = one(db, "SELECT max(position) AS position FROM changes", ())
            position = (last["position"] if last else 0) or 0
            if changes and position >= changes[0].position:
                raise Conflict(f"the log is at position {position}, expected less than {changes[0].position}")
            db.executemany("INSERT INTO changes VALUES (?,?,?,?,?,?,?,?,?,?)", map(to_row, changes))
