"""One SQLite file in WAL mode: connections, transactions, and SQLite's errors as `RegistryUnavailable`."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from adapters.errors import RegistryUnavailable

_BUSY_TIMEOUT_S = 10.0


class SqliteFile:
    """A file shared by threads and processes of one machine. Each use opens its own connection (0.1 ms)."""

    def __init__(self, path: Path) -> None:
        """Open the file; create it and its folder if they are missing.

        Raises:
            RegistryUnavailable: it can be neither opened nor created
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise RegistryUnavailable(f"cannot create the registry's folder {path.parent}: {exc.strerror}") from exc
        with self._creation_lock(), self.open() as db:
            db.execute("PRAGMA journal_mode=WAL")

    def create_tables(self, schema: str) -> None:
        """Run a schema of `CREATE … IF NOT EXISTS` statements."""
        with self._creation_lock(), self.open() as db:
            db.executescript(schema)

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """Open a connection; SQLite's errors within become `RegistryUnavailable`."""
        try:
            with closing(sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)) as db:
                db.row_factory = sqlite3.Row
                yield db
        except sqlite3.Error as exc:
            raise RegistryUnavailable(f"registry {self.path}: {exc}") from exc

    @contextmanager
    def transaction(self, kind: Literal["DEFERRED", "IMMEDIATE"]) -> Iterator[sqlite3.Connection]:
        """Run a transaction: a deferred one reads one snapshot, an immediate one takes the write lock first."""
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
        """Let one process at a time set the file up: SQLite fails, without waiting, if two switch a new file to WAL."""
        lock_path = self.path.with_name(self.path.name + ".lock")
        lock = FileLock(lock_path, timeout=_BUSY_TIMEOUT_S, poll_interval=0.005)
        try:
            with lock:
                yield
        except (OSError, Timeout) as exc:
            raise RegistryUnavailable(f"registry {self.path}: {exc}") from exc
