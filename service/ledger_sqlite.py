"""The ledger of an embedded server: tables of its own in the registry's SQLite file."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from adapters import RegistryUnavailable
from service.ledger import SEPARATOR, WRITER_LIFETIME_S, BatchId, Key, decode, encode, lifetime_s

_SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger (
    key TEXT PRIMARY KEY, value REAL NOT NULL, expires_at REAL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ledger_by_expiry ON ledger (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS ledger_writers (
    writer TEXT PRIMARY KEY, sequence INTEGER NOT NULL, at REAL NOT NULL
) STRICT, WITHOUT ROWID;
"""
_BUSY_TIMEOUT_S = 10.0
_AFTER_SEPARATOR = chr(ord(SEPARATOR) + 1)


class SqliteLedger:
    """A `Ledger` in one file. Each call opens its own connection, so any thread may make it."""

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        """Make the tables in a registry's file (`RegistryUnavailable` where that fails).

        Args:
            path: of a registry that was opened before: it says how the file is written
            now: seconds since 1970
        """
        self._path, self._now = path, now
        with self._open() as db:
            db.executescript(_SCHEMA)

    def add(self, counts: Mapping[Key, float], batch: BatchId) -> None:
        now = self._now()
        rows = [(encode(key), by, _expiry(key, now)) for key, by in counts.items()]
        with self._open() as db, _transaction(db):
            known = db.execute("SELECT sequence FROM ledger_writers WHERE writer=?", (batch.writer,)).fetchone()
            if known is not None and known[0] >= batch.sequence:
                return
            db.execute("INSERT OR REPLACE INTO ledger_writers VALUES (?,?,?)", (batch.writer, batch.sequence, now))
            db.executemany(
                "INSERT INTO ledger VALUES (?,?,?) "
                "ON CONFLICT DO UPDATE SET value=value+excluded.value, expires_at=excluded.expires_at",
                rows,
            )
            db.execute("DELETE FROM ledger WHERE expires_at<=?", (now,))
            db.execute("DELETE FROM ledger_writers WHERE at<=?", (now - WRITER_LIFETIME_S,))

    def read(self, *prefix: str) -> dict[Key, float]:
        start = SEPARATOR.join(prefix)
        condition = "key=?1 OR (key>=?1 || ?2 AND key<?1 || ?3)" if prefix else "?1=?1 AND ?2=?2 AND ?3=?3"
        with self._open() as db:
            rows = db.execute(
                f"SELECT key, value FROM ledger WHERE ({condition}) AND (expires_at IS NULL OR expires_at>?4)",  # noqa: S608
                (start, SEPARATOR, _AFTER_SEPARATOR, self._now()),
            ).fetchall()
        return {decode(key): value for key, value in rows}

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)) as db:
                yield db
        except sqlite3.Error as exc:
            raise RegistryUnavailable(f"ledger {self._path}: {exc}") from exc


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, with the write lock held from the first read on."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _expiry(key: Key, now: float) -> float | None:
    lifetime = lifetime_s(key)
    return None if lifetime is None else now + lifetime
