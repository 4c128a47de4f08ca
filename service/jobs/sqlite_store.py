"""Training jobs in tables of the embedded registry's file."""

from collections.abc import Iterable
from sqlite3 import Connection, Row

from adapters.storage.sqlite import SqliteFile
from service.jobs.models import Blob, Edit, Job, decode_job, encode_job

_SCHEMA = """
CREATE TABLE IF NOT EXISTS job_tenants (tenant TEXT PRIMARY KEY, revision INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS jobs (
    tenant TEXT NOT NULL, id TEXT NOT NULL, ended INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (tenant, id)
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_by_end ON jobs (ended, id);
CREATE TABLE IF NOT EXISTS job_blobs (
    tenant TEXT NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (tenant, id, kind)
) STRICT;
"""


class SqliteJobs:
    """A `JobStore` in one file."""

    def __init__(self, file: SqliteFile) -> None:
        """Create the tables that the file lacks (`RegistryUnavailable` if that fails)."""
        self._file = file
        file.create_tables(_SCHEMA)

    def revision(self, tenant: str) -> int:
        with self._file.open() as db:
            return _revision(db, tenant)

    def write(self, tenant: str, edit: Edit, *, expected: int) -> bool:
        with self._file.transaction("IMMEDIATE") as db:
            if _revision(db, tenant) != expected:
                return False
            db.execute("PRAGMA secure_delete=ON")  # overwrites deleted texts in the file
            db.executemany("DELETE FROM jobs WHERE tenant=? AND id=?", [(tenant, job.id) for job in edit.deleted])
            db.executemany(
                "INSERT OR REPLACE INTO jobs VALUES (?,?,?,?)",
                [(tenant, job.id, job.has_ended, encode_job(job)) for job in edit.put],
            )
            db.executemany(
                "INSERT OR REPLACE INTO job_blobs VALUES (?,?,?,?)",
                [(tenant, job_id, kind, value) for (job_id, kind), value in edit.blobs.items()],
            )
            db.executemany(
                "DELETE FROM job_blobs WHERE tenant=? AND id=? AND kind=?",
                [(tenant, job_id, kind) for job_id, kind in edit.dropped],
            )
            db.execute(
                "INSERT INTO job_tenants VALUES (?,1) ON CONFLICT DO UPDATE SET revision=revision+1",
                (tenant,),
            )
        return True

    def job(self, tenant: str, job_id: str) -> Job | None:
        with self._file.open() as db:
            found = db.execute("SELECT value FROM jobs WHERE tenant=? AND id=?", (tenant, job_id)).fetchone()
        return None if found is None else decode_job(found["value"])

    def jobs(self, tenant: str) -> list[Job]:
        with self._file.open() as db:
            return _decoded(db.execute("SELECT value FROM jobs WHERE tenant=? ORDER BY id", (tenant,)))

    def unfinished(self) -> list[Job]:
        with self._file.open() as db:
            return _decoded(db.execute("SELECT value FROM jobs WHERE ended=0 ORDER BY id"))

    def blob(self, tenant: str, job_id: str, kind: Blob) -> bytes | None:
        with self._file.open() as db:
            found = db.execute(
                "SELECT value FROM job_blobs WHERE tenant=? AND id=? AND kind=?", (tenant, job_id, kind)
            ).fetchone()
        return None if found is None else bytes(found["value"])

    def tenants(self) -> list[str]:
        with self._file.open() as db:
            return [row["tenant"] for row in db.execute("SELECT tenant FROM job_tenants ORDER BY tenant")]


def _revision(db: Connection, tenant: str) -> int:
    found = db.execute("SELECT revision FROM job_tenants WHERE tenant=?", (tenant,)).fetchone()
    return 0 if found is None else int(found["revision"])


def _decoded(found: Iterable[Row]) -> list[Job]:
    return [decode_job(row["value"]) for row in found]
