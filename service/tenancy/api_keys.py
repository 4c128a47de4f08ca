"""Keys as text: `sp_<id>_<secret>`. Made here, hashed here, and recognised here; nothing else sees a secret."""

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
_NOBODYS_HASH = hashlib.sha256(secrets.token_bytes(32)).hexdigest()
RULE = "sp_<id>_<secret>, the id 1 to 32 of a-z and 0-9, the secret 32 to 256 of A-Z, a-z, 0-9, '-' and '_'"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its owner has it. Its secret is in no `repr`, and `text` is called where it is shown, once."""

    id: str
    secret: str = field(repr=False)

    @classmethod
    def new(cls, key_id: str | None = None) -> "ApiKey":
        """A key that nobody can guess: 256 random bits."""
        return cls(key_id or secrets.token_hex(6), secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> "ApiKey | None":
        """The key that a text is, if it has a key's form."""
        match = _KEY.fullmatch(text)
        return None if match is None else cls(match[1], match[2])

    @classmethod
    def given(cls, text: str) -> "ApiKey":
        """As `parse`, for a key that an operator has chosen (`InvalidName` where it has not a key's form)."""
        key = cls.parse(text)
        if key is None:
            raise InvalidName("admin_key", "…", RULE)
        return key

    @property
    def text(self) -> str:
        """What its owner sends."""
        return f"sp_{self.id}_{self.secret}"

    @property
    def sha256(self) -> str:
        """What is stored of it."""
        return hashlib.sha256(self.secret.encode()).hexdigest()


def principal_by_key(text: str, find: Callable[[str], KeyInfo | None], *, now: datetime) -> Principal:
    """Whose key a text is.

    Args:
        text: what the caller sent
        find: a key that is good, by its id
        now: for keys that end

    Raises:
        Unauthenticated: it is nobody's, or not any more; the same words whatever is wrong with it
    """
    key = ApiKey.parse(text)
    known = None if key is None else find(key.id)
    hashes = [] if known is None else known.hashes(now)
    given = "" if key is None else key.sha256
    # something is compared for an unknown id too, and every hash of a known one: time tells nothing
    matches = [hmac.compare_digest(given, sha256) for sha256 in hashes or [_NOBODYS_HASH]]
    if known is None or not any(matches):
        reason: AuthenticationReason = "malformed" if key is None else "unknown"
        if known is not None and not hashes:
            reason = "expired"
        raise Unauthenticated("the key is not valid, or not any more", reason=reason)
    return Principal(known.tenant, known.role, known.id)
