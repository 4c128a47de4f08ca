"""Counters in tables of the embedded registry's SQLite file."""

import time
from collections.abc import Callable, Mapping

from adapters.storage.sqlite import SqliteFile
from service.counters.store import SEPARATOR, WRITER_LIFETIME_S, BatchId, Key, decode, encode, lifetime_s

_SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger (
    key TEXT PRIMARY KEY, value REAL NOT NULL, expires_at REAL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ledger_by_expiry ON ledger (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS ledger_writers (
    writer TEXT PRIMARY KEY, sequence INTEGER NOT NULL, at REAL NOT NULL
) STRICT, WITHOUT ROWID;
"""
_AFTER_SEPARATOR = chr(ord(SEPARATOR) + 1)


class SqliteCounterStore:
    """A `CounterStore` in one file. Each call opens its own connection, so any thread may make it."""

    def __init__(self, file: SqliteFile, *, now: Callable[[], float] = time.time) -> None:
        """Create the tables that the file lacks (`RegistryUnavailable` if that fails).

        Args:
            file: the registry's
            now: seconds since 1970
        """
        self._file, self._now = file, now
        file.create_tables(_SCHEMA)

    def add(self, counts: Mapping[Key, float], batch: BatchId) -> None:
        now = self._now()
        rows = [(encode(key), by, _expiry(key, now)) for key, by in counts.items()]
        with self._file.transaction("IMMEDIATE") as db:
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
        with self._file.open() as db:
            rows = db.execute(
                f"SELECT key, value FROM ledger WHERE ({condition}) AND (expires_at IS NULL OR expires_at>?4)",  # noqa: S608
                (start, SEPARATOR, _AFTER_SEPARATOR, self._now()),
            ).fetchall()
        return {decode(key): value for key, value in rows}


def _expiry(key: Key, now: float) -> float | None:
    lifetime = lifetime_s(key)
    return None if lifetime is None else now + lifetime
