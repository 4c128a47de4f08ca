"""One SQLite file in WAL mode: connections, transactions, and SQLite's errors as `RegistryUnavailable`.

On a full or read-only disk the file is read as it is. SQLite needs an index next to a file in WAL mode even to read it;
without a write-ahead log there is nothing to index, and the file may be opened as immutable.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from adapters.errors import RegistryReadOnly, RegistryUnavailable
from adapters.storage.private_files import FILE_MODE, close_to_others, create_private, create_private_folder

_BUSY_TIMEOUT_S = 10.0
_WRITE_ERRORS = ("SQLITE_READONLY", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN")
_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)")


class SqliteFile:
    """A file shared by threads and processes of one machine. Each use opens its own connection (0.1 ms)."""

    def __init__(self, path: Path) -> None:
        """Open the file; create it and its folder, private to their owner, if they are missing.

        An existing file is made private too, since it has hashes of keys and the adapters of all tenants.

        Raises:
            RegistryUnavailable: it can be neither opened nor created
        """
        self.path = path
        self.open_to_others: list[str] = []
        """Commands that close the file's parts to other users, where this process could not."""
        self._schemas: list[str] = []
        self._open_fault: str | None = None
        self._write_fault: str | None = None
        try:
            create_private_folder(path.parent)
        except OSError as exc:
            raise RegistryUnavailable(f"cannot create the registry's folder {path.parent}: {exc.strerror}") from exc
        with suppress(OSError):  # SQLite reports it better
            create_private(path)  # SQLite gives its log and index the same permissions
        self._set_up("PRAGMA journal_mode=WAL")
        todo = [close_to_others(path.with_name(path.name + suffix)) for suffix in ("", "-wal", "-shm", ".lock")]
        self.open_to_others = [command for command in todo if command is not None]

    @property
    def write_fault(self) -> str | None:
        """Why the file cannot be written, as of the last attempt; None if it can."""
        return self._open_fault or self._write_fault

    def create_tables(self, schema: str) -> None:
        """Run a schema of `CREATE … IF NOT EXISTS` statements; tables that a read-only file lacks are empty."""
        self._schemas.append(schema)
        self._set_up(schema)

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """Open a connection; SQLite's errors within become `RegistryUnavailable`."""
        try:
            with closing(self._connect()) as db:
                yield db
        except sqlite3.Error as exc:
            raise RegistryUnavailable(f"registry {self.path}: {exc}") from exc

    @contextmanager
    def transaction(self, kind: Literal["DEFERRED", "IMMEDIATE"]) -> Iterator[sqlite3.Connection]:
        """Run a transaction: a deferred one reads one snapshot, an immediate one takes the write lock first.

        Raises:
            RegistryReadOnly: an immediate one, on a full or read-only disk
        """
        with self.open() as db, self._noting_write_faults(kind):
            if kind == "IMMEDIATE" and self._open_fault is not None:
                raise self._read_only(self._open_fault)
            db.execute(f"BEGIN {kind}")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _set_up(self, script: str) -> None:
        try:
            with self._creation_lock(), self.open() as db:
                db.executescript(script)
        except RegistryUnavailable as exc:
            cause = exc.__cause__
            if isinstance(cause, Timeout) or not self.path.is_file():
                raise
            if not isinstance(cause, OSError) and not _is_about_writing(cause):
                raise
            with self.open() as db:  # raises if it cannot be read either
                db.execute("SELECT 1 FROM sqlite_schema").fetchall()
            self._write_fault = str(cause)

    def _connect(self) -> sqlite3.Connection:
        """Connect, for reading only if the disk is full or read-only."""
        db = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        try:
            db.execute("PRAGMA schema_version").fetchone()  # makes the index of the write-ahead log
            self._open_fault = None
            if self._write_fault is not None:
                self._add_missing_tables(db)
        except sqlite3.Error as exc:
            db.close()
            if not _is_about_writing(exc) or self._has_log():
                raise
            db = self._connect_immutable()
            self._open_fault = str(exc)
        db.row_factory = sqlite3.Row
        return db

    def _connect_immutable(self) -> sqlite3.Connection:
        db = sqlite3.connect(f"{self.path.resolve().as_uri()}?immutable=1", uri=True, isolation_level=None)
        try:
            self._add_missing_tables(db)
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _add_missing_tables(self, db: sqlite3.Connection) -> None:
        """Make the tables that a read-only file lacks, empty and in memory."""
        db.execute("PRAGMA temp_store=MEMORY")
        present = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
        for schema in self._schemas:
            if present.isdisjoint(_TABLE.findall(schema)):
                db.executescript(_temporary(schema))

    def _has_log(self) -> bool:
        """Whether there is a write-ahead log, whose entries an immutable connection would not see."""
        try:
            return self.path.with_name(self.path.name + "-wal").stat().st_size > 0
        except OSError:
            return False

    @contextmanager
    def _noting_write_faults(self, kind: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            if kind != "IMMEDIATE" or not _is_about_writing(exc):
                raise
            self._write_fault = str(exc)
            raise self._read_only(str(exc)) from exc
        if kind == "IMMEDIATE":
            self._write_fault = None

    def _read_only(self, fault: str) -> RegistryReadOnly:
        return RegistryReadOnly(
            f"registry {self.path} can be read but not written: {fault}; "
            f"free space on the disk of {self.path.parent}, or make it writable"
        )

    @contextmanager
    def _creation_lock(self) -> Iterator[None]:
        """Let one process at a time set the file up: SQLite fails, without waiting, if two switch a new file to WAL."""
        lock_path = self.path.with_name(self.path.name + ".lock")
        lock = FileLock(lock_path, timeout=_BUSY_TIMEOUT_S, mode=FILE_MODE, poll_interval=0.005)
        try:
            with lock:
                yield
        except (OSError, Timeout) as exc:
            raise RegistryUnavailable(f"registry {self.path}: {exc}") from exc


def _is_about_writing(error: BaseException | None) -> bool:
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorname", "").startswith(_WRITE_ERRORS)


def _temporary(schema: str) -> str:
    """Return a schema whose tables, views and indexes are a connection's own, in memory."""
    schema = schema.replace("CREATE TABLE ", "CREATE TEMP TABLE ")
    schema = schema.replace("CREATE VIEW ", "CREATE TEMP VIEW ")
    return schema.replace("CREATE INDEX IF NOT EXISTS ", "CREATE INDEX IF NOT EXISTS temp.")
