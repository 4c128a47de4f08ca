"""API keys, `sp_<id>_<secret>`: created, hashed and verified here. No other module sees a secret."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from adapters import InvalidName
from service.errors import AuthenticationReason, Unauthenticated
from service.tenancy.models import KeyInfo
from service.tenancy.principal import Principal

_KEY = re.compile(r"sp_([a-z0-9]{1,32})_([A-Za-z0-9_-]{32,256})")
_UNKNOWN_HASH = hashlib.sha256(secrets.token_bytes(32)).hexdigest()
RULE = "sp_<id>_<secret>, the id 1 to 32 of a-z and 0-9, the secret 32 to 256 of A-Z, a-z, 0-9, '-' and '_'"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its owner has it. The secret is not in its `repr`; `text` is called only where a new key is shown."""

    id: str
    secret: str = field(repr=False)

    @classmethod
    def new(cls, key_id: str | None = None) -> "ApiKey":
        """Create a key with 256 random bits."""
        return cls(key_id or secrets.token_hex(6), secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> "ApiKey | None":
        """Read a key; return None if the text is malformed."""
        match = _KEY.fullmatch(text)
        return None if match is None else cls(match[1], match[2])

    @classmethod
    def given(cls, text: str) -> "ApiKey":
        """Read a key that an operator chose (`InvalidName` if it is malformed)."""
        key = cls.parse(text)
        if key is None:
            raise InvalidName("admin_key", "…", RULE)
        return key

    @property
    def text(self) -> str:
        """The text that clients send."""
        return f"sp_{self.id}_{self.secret}"

    @property
    def sha256(self) -> str:
        """The hash of the secret, which is all that is stored of it."""
        return hashlib.sha256(self.secret.encode()).hexdigest()


def principal_by_key(text: str, find: Callable[[str], KeyInfo | None], *, now: datetime) -> Principal:
    """Return the principal that a key belongs to.

    Args:
        text: the key as the client sent it
        find: returns an active key by its id
        now: decides which keys and secrets have expired

    Raises:
        Unauthenticated: the key is invalid or expired; the message does not say which
    """
    key = ApiKey.parse(text)
    known = None if key is None else find(key.id)
    hashes = [] if known is None else known.hashes(now)
    given = "" if key is None else key.sha256
    # an unknown id is compared with a hash too, and a known one with all of its hashes: timing reveals nothing
    matches = [hmac.compare_digest(given, sha256) for sha256 in hashes or [_UNKNOWN_HASH]]
    if known is None or not any(matches):
        reason: AuthenticationReason = "malformed" if key is None else "unknown"
        if known is not None and not hashes:
            reason = "expired"
        key_id = None if known is None else known.id
        raise Unauthenticated("the key is invalid or has expired", reason=reason, key_id=key_id)
    return Principal(known.tenant, known.role, known.id, known.default_task)
