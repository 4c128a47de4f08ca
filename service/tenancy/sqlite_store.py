"""Tenants and keys in tables of the embedded registry's file."""

from collections.abc import Sequence
from dataclasses import replace
from sqlite3 import Connection

from adapters.storage.sqlite import SqliteFile
from service.tenancy.models import ENTRY, TENANT, AuditEntry, Edit, Snapshot, decode_keys, encode_key

_SCHEMA = """
CREATE TABLE IF NOT EXISTS account_revision (
    one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO account_revision VALUES (1, 0);
CREATE TABLE IF NOT EXISTS account_tenants (id TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS account_keys (id TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS account_audit (position INTEGER PRIMARY KEY AUTOINCREMENT, value BLOB NOT NULL) STRICT;
"""
_TOMBSTONES = "CREATE TABLE IF NOT EXISTS account_tombstones (name TEXT PRIMARY KEY, at TEXT NOT NULL) STRICT;"
"""Separate from the schema above: a read-only file from a version without tombstones lacks only this table."""


class SqliteAccounts:
    """An `AccountStore` in one file."""

    def __init__(self, file: SqliteFile) -> None:
        """Create the tables that the file lacks (`RegistryUnavailable` if that fails)."""
        self._file = file
        file.create_tables(_SCHEMA)
        file.create_tables(_TOMBSTONES)

    def revision(self) -> int:
        with self._file.open() as db:
            return _revision(db)

    def snapshot(self) -> Snapshot:
        with self._file.transaction("DEFERRED") as db:
            tenants = {
                row["id"]: TENANT.validate_json(row["value"]) for row in db.execute("SELECT * FROM account_tenants")
            }
            keys = decode_keys(row["value"] for row in db.execute("SELECT value FROM account_keys"))
            return Snapshot(_revision(db), tenants, keys)

    def write(self, edit: Edit, *, expected: int) -> bool:
        with self._file.transaction("IMMEDIATE") as db:
            if _revision(db) != expected:
                return False
            db.execute("UPDATE account_revision SET revision=revision+1")
            db.executemany(
                "INSERT OR REPLACE INTO account_tenants VALUES (?,?)",
                [(tenant.id, TENANT.dump_json(tenant)) for tenant in edit.tenants],
            )
            db.executemany(
                "INSERT OR REPLACE INTO account_keys VALUES (?,?)", [(key.id, encode_key(key)) for key in edit.keys]
            )
            db.executemany("DELETE FROM account_keys WHERE id=?", [(key,) for key in edit.deleted_keys])
            db.executemany(
                "INSERT OR IGNORE INTO account_tombstones VALUES (?,?)",
                [(name, edit.entry.at.isoformat()) for name in (*edit.deleted_keys, *edit.tombstones)],
            )
            db.executemany("DELETE FROM account_audit WHERE position=?", [(position,) for position in edit.trimmed])
            db.execute("INSERT INTO account_audit (value) VALUES (?)", (ENTRY.dump_json(edit.entry),))
        return True

    def audit(self, since: int = 0, *, limit: int = 1_000) -> Sequence[AuditEntry]:
        with self._file.open() as db:
            rows = db.execute(
                "SELECT * FROM account_audit WHERE position>? ORDER BY position LIMIT ?", (since, limit)
            ).fetchall()
        return [replace(ENTRY.validate_json(row["value"]), position=row["position"]) for row in rows]

    def buried(self, names: Sequence[str]) -> set[str]:
        marks = ",".join("?" * len(names))
        with self._file.open() as db:
            rows = db.execute(f"SELECT name FROM account_tombstones WHERE name IN ({marks})", names)  # noqa: S608
            return {row["name"] for row in rows}

    def tombstones(self) -> Sequence[str]:
        with self._file.open() as db:
            return [row["name"] for row in db.execute("SELECT name FROM account_tombstones ORDER BY name")]


def _revision(db: Connection) -> int:
    return int(db.execute("SELECT revision FROM account_revision").fetchone()["revision"])
