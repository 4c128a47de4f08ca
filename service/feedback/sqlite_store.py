"""Kept answers and corrections in tables of the embedded registry's file."""

from collections.abc import Mapping, Sequence
from sqlite3 import Connection

from adapters.storage.sqlite import SqliteFile
from service.feedback.models import (
    CORRECTED,
    KEPT,
    Edit,
    FeedbackRow,
    Place,
    TenantState,
    decode,
    encode,
    places,
)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS feedback_tenants (
    tenant TEXT PRIMARY KEY, revision INTEGER NOT NULL, kept_bytes INTEGER NOT NULL, corrected_bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS feedback_rows (
    tenant TEXT NOT NULL, id TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (tenant, id)
) STRICT;
CREATE TABLE IF NOT EXISTS feedback_places (
    tenant TEXT NOT NULL, list TEXT NOT NULL, sort REAL NOT NULL, id TEXT NOT NULL, PRIMARY KEY (tenant, list, sort, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS feedback_datasets (
    tenant TEXT NOT NULL, task TEXT NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (tenant, task)
) STRICT, WITHOUT ROWID;
"""
_ROWS_OF_LIST = "SELECT value FROM feedback_places JOIN feedback_rows USING (tenant, id) WHERE tenant=? AND list=?"


class SqliteFeedback:
    """A `FeedbackStore` in one file."""

    def __init__(self, file: SqliteFile) -> None:
        """Create the tables that the file lacks (`RegistryUnavailable` if that fails)."""
        self._file = file
        file.create_tables(_SCHEMA)

    def state(self, tenant: str) -> TenantState:
        with self._file.open() as db:
            return _state(db, tenant)

    def write(self, tenant: str, edit: Edit, *, expected: int) -> bool:
        with self._file.transaction("IMMEDIATE") as db:
            if _state(db, tenant).revision != expected:
                return False
            db.execute("PRAGMA secure_delete=ON")  # overwrites deleted texts in the file
            db.executemany("DELETE FROM feedback_rows WHERE tenant=? AND id=?", [(tenant, r.id) for r in edit.deleted])
            db.executemany(
                "DELETE FROM feedback_places WHERE tenant=? AND list=? AND sort=? AND id=?",
                _places(tenant, edit.deleted),
            )
            db.executemany(
                "INSERT INTO feedback_rows VALUES (?,?,?)", [(tenant, row.id, encode(row)) for row in edit.added]
            )
            db.executemany("INSERT INTO feedback_places VALUES (?,?,?,?)", _places(tenant, edit.added))
            db.execute(
                "INSERT INTO feedback_tenants VALUES (?,1,?,?) ON CONFLICT DO UPDATE SET revision=revision+1, "
                "kept_bytes=kept_bytes+excluded.kept_bytes, corrected_bytes=corrected_bytes+excluded.corrected_bytes",
                (tenant, edit.growth[KEPT], edit.growth[CORRECTED]),
            )
            db.executemany(
                "INSERT INTO feedback_datasets VALUES (?,?,1) ON CONFLICT DO UPDATE SET version=version+1",
                [(tenant, task) for task in edit.datasets],
            )
        return True

    def rows(self, tenant: str, ids: Sequence[str]) -> list[FeedbackRow]:
        marks = ",".join("?" * len(ids))
        with self._file.open() as db:
            found = db.execute(
                f"SELECT value FROM feedback_rows WHERE tenant=? AND id IN ({marks})",  # noqa: S608
                (tenant, *ids),
            ).fetchall()
        return [decode(row["value"]) for row in found]

    def page(self, tenant: str, name: str, *, after: Place | None = None, limit: int) -> list[FeedbackRow]:
        start = ("", ()) if after is None else (" AND (sort, id) > (?, ?)", (after.sort, after.id))
        with self._file.open() as db:
            found = db.execute(
                f"{_ROWS_OF_LIST}{start[0]} ORDER BY sort, id LIMIT ?", (tenant, name, *start[1], limit)
            ).fetchall()
        return [decode(row["value"]) for row in found]

    def first(self, tenant: str, names: Sequence[str]) -> list[FeedbackRow | None]:
        query = f"{_ROWS_OF_LIST} ORDER BY sort, id LIMIT 1"
        with self._file.transaction("DEFERRED") as db:
            found = [db.execute(query, (tenant, name)).fetchone() for name in names]
        return [None if row is None else decode(row["value"]) for row in found]

    def counts(self, tenant: str, names: Sequence[str]) -> list[int]:
        query = "SELECT count(*) FROM feedback_places WHERE tenant=? AND list=?"
        with self._file.transaction("DEFERRED") as db:
            return [int(db.execute(query, (tenant, name)).fetchone()[0]) for name in names]

    def datasets(self, tenant: str) -> Mapping[str, int]:
        with self._file.open() as db:
            found = db.execute("SELECT task, version FROM feedback_datasets WHERE tenant=?", (tenant,)).fetchall()
        return {row["task"]: row["version"] for row in found}

    def tenants(self) -> list[str]:
        with self._file.open() as db:
            return [row["tenant"] for row in db.execute("SELECT tenant FROM feedback_tenants ORDER BY tenant")]


def _state(db: Connection, tenant: str) -> TenantState:
    found = db.execute(
        "SELECT revision, kept_bytes, corrected_bytes FROM feedback_tenants WHERE tenant=?", (tenant,)
    ).fetchone()
    return TenantState() if found is None else TenantState(*found)


def _places(tenant: str, rows: Sequence[FeedbackRow]) -> list[tuple[str, str, float, str]]:
    return [(tenant, name, sort, row.id) for row in rows for name, sort in places(row).items()]
