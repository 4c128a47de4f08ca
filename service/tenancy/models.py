"""Tenants and keys as values, and the store that keeps them. What may change how stands in `account_changes.py`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol

from pydantic import TypeAdapter

from adapters import DEFAULT_TENANT
from adapters.names import check_name
from service.errors import InvalidRequest
from service.tenancy.principal import Role

AccountAction = Literal[
    "tenant_created", "tenant_updated", "tenant_deleted", "key_created", "key_rotated", "key_revoked"
]

_KEY_ID = re.compile(r"[a-z0-9]{1,32}")
_LIMITS = (
    "weight",
    "requests_per_s",
    "tokens_per_min",
    "max_concurrency",
    "max_tasks",
    "max_versions",
    "max_bytes",
)
_MAX_WEIGHT = 100.0


@dataclass(frozen=True, slots=True)
class TenantInfo:
    """An owner of tasks and keys, and how much it may ask for; None is no limit."""

    id: str
    weight: float = 1.0
    """Its share of the model and of the queue against the others'."""
    requests_per_s: float | None = None
    tokens_per_min: int | None = None
    """Tokens of its texts, prompts not counted."""
    max_concurrency: int | None = None
    """Requests that are answered at once, over all replicas."""
    max_tasks: int | None = None
    max_versions: int | None = None
    """Of each task."""
    max_bytes: int | None = None
    """All files of all versions together."""
    suspended: bool = False
    """Its keys are no keys for now."""
    deleted: bool = False
    """Gone; the name stays taken, so that nobody gets the tasks of another by taking it again."""
    created_at: datetime | None = None
    """None before it is stored."""

    def __post_init__(self) -> None:
        check_name("tenant", self.id)
        for name in _LIMITS:
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InvalidRequest(f"{name} is {value}, expected more than 0, or none for no limit")
        if self.weight > _MAX_WEIGHT:
            raise InvalidRequest(f"weight is {self.weight:g}, expected at most {_MAX_WEIGHT:g}")

    @property
    def active(self) -> bool:
        """Whether its keys are good."""
        return not (self.suspended or self.deleted)


@dataclass(frozen=True, slots=True)
class KeySecret:
    """What is kept of a secret: enough to know it again, not to show it."""

    sha256: str
    """Hexadecimal, of the secret's text."""
    until: datetime | None = None
    """When it ends after a rotation; the newest has no end of its own."""


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key: one tenant, one role, and the secrets that open it, the newest last."""

    id: str
    tenant: str
    role: Role
    created_at: datetime
    secrets: tuple[KeySecret, ...] = field(repr=False)
    expires_at: datetime | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if not _KEY_ID.fullmatch(self.id):
            raise InvalidRequest(f"key id {self.id!r} is not valid, expected 1 to 32 of a-z and 0-9")
        if len(self.note) > 200:
            raise InvalidRequest(f"note has {len(self.note)} characters, expected at most 200")

    @property
    def old_secrets_until(self) -> list[datetime]:
        """When the secrets replaced by rotations expire."""
        return [secret.until for secret in self.secrets if secret.until is not None]

    def hashes(self, now: datetime) -> list[str]:
        """The hashes of the secrets that open it now."""
        if self.expires_at is not None and now >= self.expires_at:
            return []
        return [secret.sha256 for secret in self.secrets if secret.until is None or now < secret.until]

    def rotated(self, sha256: str, *, now: datetime, overlap_s: float) -> "tuple[KeySecret, ...]":
        """The secrets after a rotation: those of now for `overlap_s` more at most, and the new one."""
        end = now + timedelta(seconds=overlap_s)
        kept = [
            KeySecret(secret.sha256, end if secret.until is None else min(secret.until, end))
            for secret in self.secrets
            if secret.until is None or secret.until > now
        ]
        return (*(secret for secret in kept if secret.until != now), KeySecret(sha256))


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what, and when."""

    at: datetime
    actor: str
    action: AccountAction
    tenant: str
    key: str | None = None
    detail: str = ""
    position: int = 0
    """Where it stands in the log: rises by one or more with each; 0 before it is written."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All tenants and keys at one moment; `revision` rises with every change."""

    revision: int
    tenants: Mapping[str, TenantInfo]
    keys: Mapping[str, KeyInfo]

    def tenant(self, tenant: str) -> TenantInfo:
        """A tenant, with no limits where it is unknown."""
        return self.tenants.get(tenant) or TenantInfo(tenant)


NOTHING = Snapshot(0, {}, {})


@dataclass(frozen=True, slots=True)
class Edit:
    """One change, written whole or not at all: values that replace those of the same id, keys that go, its entry."""

    entry: AuditEntry
    tenants: Sequence[TenantInfo] = ()
    keys: Sequence[KeyInfo] = ()
    gone: Sequence[str] = ()
    """Ids of keys."""


class AccountStore(Protocol):
    """Where tenants and keys are kept, for all replicas. Every method raises `RegistryUnavailable` where it is away."""

    def revision(self) -> int:
        """The number of the last change; cheap enough to be asked many times a second."""
        ...

    def snapshot(self) -> Snapshot:
        """Everything, as of one revision."""
        ...

    def write(self, edit: Edit, *, expected: int) -> bool:
        """Carry out an edit of revision `expected`; False, and nothing written, where that is not the last any more."""
        ...

    def audit(self, since: int = 0, *, limit: int = 1_000) -> Sequence[AuditEntry]:
        """Entries of the log after position `since`, oldest first."""
        ...


def is_known(snapshot: Snapshot, tenant: str) -> bool:
    """Whether a tenant is there; the default one always is, unless it was deleted."""
    info = snapshot.tenants.get(tenant)
    return tenant == DEFAULT_TENANT if info is None else not info.deleted


TENANT = TypeAdapter(TenantInfo)
KEY = TypeAdapter(KeyInfo)
ENTRY = TypeAdapter(AuditEntry)
