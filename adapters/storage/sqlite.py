"""One SQLite file in WAL mode, made once however many open it: connections, transactions, and errors in our words."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from adapters.errors import RegistryUnavailable

_BUSY_TIMEOUT_S = 10.0


class SqliteFile:
    """A file that several threads and processes of one machine share. Each use opens its own connection (0.1 ms)."""

    def __init__(self, path: Path, schema: str) -> None:
        """Open it, made with its folder if missing; `schema` makes the tables that it lacks.

        Raises:
            RegistryUnavailable: it can be neither opened nor made
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise RegistryUnavailable(f"cannot make the registry's folder {path.parent}: {exc.strerror}") from exc
        with self._creation_lock(), self.open() as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.executescript(schema)

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """A connection; SQLite's errors become `RegistryUnavailable`."""
        try:
            with closing(sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)) as db:
                db.row_factory = sqlite3.Row
                yield db
        except sqlite3.Error as exc:
            raise RegistryUnavailable(f"registry {self.path}: {exc}") from exc

    @contextmanager
    def transaction(self, kind: Literal["DEFERRED", "IMMEDIATE"]) -> Iterator[sqlite3.Connection]:
        """One snapshot to read from; an immediate one holds the write lock from its first read on."""
        with self.open() as db:
            db.execute(f"BEGIN {kind}")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    @contextmanager
    def _creation_lock(self) -> Iterator[None]:
        """One opener at a time: SQLite does not wait, it fails, where two switch a new file to WAL at once."""
        lock_path = self.path.with_name(self.path.name + ".lock")
        lock = FileLock(lock_path, timeout=_BUSY_TIMEOUT_S, poll_interval=0.005)
        try:
            with lock:
                yield
        except (OSError, Timeout) as exc:
            raise RegistryUnavailable(f"registry {self.path}: {exc}") from exc
