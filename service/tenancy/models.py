"""Tenants and keys as values, and the store that keeps them. What may change how stands in `account_changes.py`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Literal, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from adapters import DEFAULT_TENANT
from adapters.names import check_name
from service.errors import InvalidRequest
from service.tenancy.principal import Role

AccountAction = Literal[
    "tenant_created", "tenant_updated", "tenant_deleted", "key_created", "key_rotated", "key_revoked"
]

_KEY_ID = re.compile(r"[a-z0-9]{1,32}")

Count = Annotated[int | None, Field(ge=1, le=1 << 53)]
Rate = Annotated[float | None, Field(gt=0, le=1e6, allow_inf_nan=False)]
Weight = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
TenantName = Annotated[str, AfterValidator(lambda name: check_name("tenant", name))]


class TenantLimits(BaseModel):
    """How much a tenant may use, over all servers; None is no limit."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    weight: Weight = 1.0
    """Share of the model and the queue, relative to other tenants; 1 unless set."""
    requests_per_s: Rate = None
    """Requests per second."""
    tokens_per_min: Count = None
    """Tokens of texts per minute; prompts are not counted."""
    max_concurrency: Count = None
    """Requests in progress at a time."""
    max_tasks: Count = None
    """Number of tasks."""
    max_versions: Count = None
    """Number of versions per task."""
    max_bytes: Count = None
    """Total size in bytes of the files of all versions."""


class TenantInfo(TenantLimits):
    """An owner of tasks and keys."""

    id: TenantName
    suspended: bool = False
    """All of its keys are rejected."""
    deleted: bool = False
    """Its name stays taken, so that no later tenant gets its tasks."""
    created_at: datetime | None = None
    """None before it is stored."""

    @property
    def active(self) -> bool:
        """Whether its keys are accepted."""
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
        return self.tenants.get(tenant) or TenantInfo(id=tenant)


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
