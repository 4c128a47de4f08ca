"""Rate counters and concurrency slots in a SQLite file that the workers of one server share."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from adapters.storage.sqlite import SqliteFile
from service.tenancy.rate_limiter import SLOT_LIFETIME_S, ConcurrencySlot

_BUSY_TIMEOUT_S = 0.1
"""Longest wait for another worker's write, which takes 0.03 ms."""
_PURGE_INTERVAL_S = 60.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS counts (key TEXT PRIMARY KEY, used INTEGER NOT NULL, expires REAL NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS slots (
    key TEXT NOT NULL, name TEXT NOT NULL, expires REAL NOT NULL, held INTEGER NOT NULL, PRIMARY KEY (key, name)
) STRICT;
"""
_ADD = """
INSERT INTO counts VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET used = used + excluded.used RETURNING used
"""
_ACQUIRE = """
INSERT INTO slots
SELECT ?1, ?2, ?3, others + 1 FROM (SELECT count(*) AS others FROM slots WHERE key = ?1 AND expires > ?4)
WHERE others < ?5 RETURNING held
"""


class WorkersRateCounter:
    """A `RateCounter` of all workers that use the same file. Belongs to the event loop; errors are `sqlite3.Error`.

    Each call is one transaction on an open connection, made on the event loop: a thread would cost more than the
    0.03 ms that it takes. Nothing is synced to the disk, since the counts end with the server.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open the file, and create it if it is missing (`RegistryUnavailable`).

        Args:
            clock: Unix time in seconds, the same for all workers
        """
        SqliteFile(path).create_tables(_SCHEMA)
        self._db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA synchronous=OFF")
        self._clock = clock
        self._purged_at = clock()
        self.degraded = False

    async def add(self, key: str, amount: int, *, window_s: int) -> int:
        now = self._clock()
        if now >= self._purged_at + _PURGE_INTERVAL_S:
            self._purge(now)
        [(used,)] = self._db.execute(_ADD, (key, amount, now + window_s)).fetchall()
        return int(used)

    async def acquire(self, key: str, name: str, *, limit: int) -> ConcurrencySlot | None:
        now = self._clock()
        found = self._db.execute(_ACQUIRE, (key, name, now + SLOT_LIFETIME_S, now, limit)).fetchall()
        return ConcurrencySlot(int(found[0][0]), lambda: self._release(key, name)) if found else None

    async def close(self) -> None:
        self._db.close()

    async def _release(self, key: str, name: str) -> None:
        self._db.execute("DELETE FROM slots WHERE key = ? AND name = ?", (key, name))

    def _purge(self, now: float) -> None:
        """Remove past windows, and the slots of workers that died."""
        self._purged_at = now
        for table in ("counts", "slots"):
            self._db.execute(f"DELETE FROM {table} WHERE expires <= ?", (now,))  # noqa: S608
