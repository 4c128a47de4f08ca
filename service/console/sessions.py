"""Console sessions, in the store that all workers and replicas share.

The browser has a random id, the store its hash: a copy of the store cannot be used to sign in.
"""

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pydantic import TypeAdapter

from adapters.storage.opening import Storage
from adapters.storage.sqlite import SqliteFile

if TYPE_CHECKING:
    from adapters.storage.redis import RedisStore

SESSION_S = 12 * 3_600.0
"""Lifetime of a session from its sign-in."""
MAX_SESSIONS_PER_KEY = 20
"""Sessions of one key; a further sign-in ends the oldest."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS console_sessions (
    id TEXT PRIMARY KEY, key_id TEXT NOT NULL, key_sha256 TEXT NOT NULL, expires_at REAL NOT NULL
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Session:
    """A sign-in: which key it was made with. It is valid only as long as that secret of the key is."""

    key_id: str
    key_sha256: str
    expires_at: float
    """Seconds since 1970."""


_SESSION = TypeAdapter(Session)


class SessionStore(Protocol):
    """Sessions by the hash of their id. Its methods block."""

    def add(self, session_hash: str, session: Session) -> None:
        """Store a session; end the key's oldest ones beyond `MAX_SESSIONS_PER_KEY`."""
        ...

    def get(self, session_hash: str) -> Session | None:
        """Return a session, None if there is none."""
        ...

    def remove(self, session_hash: str) -> None:
        """End a session."""
        ...


def new_id() -> str:
    """Return a session id with 256 random bits."""
    return secrets.token_urlsafe(32)


def hash_of(session_id: str) -> str:
    """Return the hash under which a session is stored."""
    return hashlib.sha256(session_id.encode()).hexdigest()


def open_sessions(storage: Storage) -> SessionStore:
    """Return the sessions of a storage location (`RegistryUnavailable` if a file's table cannot be created)."""
    return SqliteSessions(storage) if isinstance(storage, SqliteFile) else RedisSessions(storage)


class SqliteSessions:
    """A `SessionStore` in the embedded registry's file."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        file.create_tables(_SCHEMA)

    def add(self, session_hash: str, session: Session) -> None:
        with self._file.transaction("IMMEDIATE") as db:
            db.execute("DELETE FROM console_sessions WHERE expires_at<?", (time.time(),))
            db.execute(
                "INSERT OR REPLACE INTO console_sessions VALUES (?,?,?,?)",
                (session_hash, session.key_id, session.key_sha256, session.expires_at),
            )
            db.execute(
                "DELETE FROM console_sessions WHERE key_id=? AND id NOT IN "
                "(SELECT id FROM console_sessions WHERE key_id=? ORDER BY expires_at DESC LIMIT ?)",
                (session.key_id, session.key_id, MAX_SESSIONS_PER_KEY),
            )

    def get(self, session_hash: str) -> Session | None:
        with self._file.open() as db:
            row = db.execute(
                "SELECT key_id, key_sha256, expires_at FROM console_sessions WHERE id=?", (session_hash,)
            ).fetchone()
        return None if row is None else Session(*row)

    def remove(self, session_hash: str) -> None:
        with self._file.transaction("IMMEDIATE") as db:
            db.execute("DELETE FROM console_sessions WHERE id=?", (session_hash,))


class RedisSessions:
    """A `SessionStore` in the registry's Redis server, which ends expired sessions itself."""

    def __init__(self, store: "RedisStore") -> None:
        self._store = store

    def add(self, session_hash: str, session: Session) -> None:
        store, of_key = self._store, self._store.key("console-sessions", session.key_id)
        lifetime_s = max(1, round(session.expires_at - time.time()))
        with store.reaching():
            with store.client.pipeline(transaction=True) as pipe:
                pipe.set(self._key(session_hash), _SESSION.dump_json(session), ex=lifetime_s)
                pipe.zadd(of_key, {session_hash: session.expires_at})
                pipe.expire(of_key, lifetime_s)
                pipe.zrange(of_key, 0, -MAX_SESSIONS_PER_KEY - 1)
                pipe.zremrangebyrank(of_key, 0, -MAX_SESSIONS_PER_KEY - 1)
                *_, oldest, _ = pipe.execute()
            if oldest:
                store.client.delete(*(self._key(member.decode()) for member in oldest))

    def get(self, session_hash: str) -> Session | None:
        with self._store.reaching():
            found = self._store.client.get(self._key(session_hash))
        return None if found is None else _SESSION.validate_json(bytes(found))  # type: ignore[arg-type]

    def remove(self, session_hash: str) -> None:
        with self._store.reaching():
            self._store.client.delete(self._key(session_hash))

    def _key(self, session_hash: str) -> str:
        return self._store.key("console-session", session_hash)


def session_of(key_id: str, key_sha256: str) -> Session:
    """Return a session that begins now."""
    return Session(key_id, key_sha256, time.time() + SESSION_S)
