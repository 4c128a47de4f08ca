"""Tenants, keys and audit entries as values, and the contract of the store that keeps them."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Literal, Protocol

import structlog
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from adapters import DEFAULT_TENANT
from adapters.names import check_name
from service.errors import InvalidRequest
from service.tenancy.principal import Role

AccountAction = Literal[
    "tenant_created",
    "tenant_updated",
    "tenant_deleted",
    "key_created",
    "key_rotated",
    "key_updated",
    "key_revoked",
    "roles_migrated",
    "tombstones_copied",
    "requests_refused",
    "audit_trimmed",
    "feedback_deleted",
    "feedback_exported",
]
SERVER = "server"
"""Actor of the entries that a server writes by itself."""

_log = structlog.get_logger("service")
_KEY_ID = re.compile(r"[a-z0-9]{1,32}")

Count = Annotated[int | None, Field(ge=1, le=1 << 53)]
Rate = Annotated[float | None, Field(gt=0, le=1e6, allow_inf_nan=False)]
Weight = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
TenantName = Annotated[str, AfterValidator(lambda name: check_name("tenant", name))]


class TenantLimits(BaseModel):
    """How much a tenant may use, over all servers, and for how long its texts are kept; None means unlimited.

    Of `retention_days`, None means that no text is kept.
    """

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
    retention_days: Annotated[int | None, Field(ge=1, le=3_650)] = None
    """Days for which texts are kept: answered ones, to be corrected, and corrections. Unless set, no text is kept."""
    max_feedback_bytes: Count = None
    """Total size in bytes of kept texts, at most the server's own limit."""
    max_jobs: Count = None
    """Training jobs that have not ended, at most the server's own limit."""
    max_job_rows: Count = None
    """Rows of a training job, at most the server's own limit."""
    max_job_s: Count = None
    """Seconds that a training job may take, at most the server's own limit."""


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
    """The stored form of a secret, which can be verified but not shown."""

    sha256: str
    """Hexadecimal, of the secret's text."""
    until: datetime | None = None
    """When it expires after a rotation; None for the newest secret."""


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key: its tenant, its role and its valid secrets, newest last."""

    id: str
    tenant: str
    role: Role
    created_at: datetime
    secrets: tuple[KeySecret, ...] = field(repr=False)
    expires_at: datetime | None = None
    note: str = ""
    default_task: str | None = None
    """Ref of the task that answers requests that name none; None for the server's own default."""
    unscoped: bool = field(default=False, compare=False)
    """Whether this is an administrator's key from a version without operators."""

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
        """Return the hashes of the secrets that are valid now."""
        if self.expires_at is not None and now >= self.expires_at:
            return []
        return [secret.sha256 for secret in self.secrets if secret.until is None or now < secret.until]

    def rotated(self, sha256: str, *, now: datetime, overlap_s: float) -> "tuple[KeySecret, ...]":
        """Return the secrets after a rotation: the old ones, valid for at most `overlap_s` more, and the new one."""
        end = now + timedelta(seconds=overlap_s)
        kept = [
            KeySecret(secret.sha256, end if secret.until is None else min(secret.until, end))
            for secret in self.secrets
            if secret.until is None or secret.until > now
        ]
        return (*(secret for secret in kept if secret.until != now), KeySecret(sha256))


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry of the audit trail."""

    at: datetime
    actor: str
    action: str
    """An `AccountAction`, or one that a newer server wrote."""
    tenant: str
    key: str | None = None
    detail: str = ""
    role: str | None = None
    """Role with which the actor acted; None for the server's own entries and those of older servers."""
    position: int = 0
    """Position in the log, increasing; 0 before the entry is written."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All tenants and keys at one revision, which increases with every change."""

    revision: int
    tenants: Mapping[str, TenantInfo]
    keys: Mapping[str, KeyInfo]

    def tenant(self, tenant: str) -> TenantInfo:
        """Return a tenant; an unknown one has no limits."""
        return self.tenants.get(tenant) or TenantInfo(id=tenant)


NOTHING = Snapshot(0, {}, {})


@dataclass(frozen=True, slots=True)
class Edit:
    """One atomic change: tenants and keys to add or replace, keys to delete, and the audit entry."""

    entry: AuditEntry
    tenants: Sequence[TenantInfo] = ()
    keys: Sequence[KeyInfo] = ()
    deleted_keys: Sequence[str] = ()
    """Ids of the keys to delete. Each gets a tombstone."""
    tombstones: Sequence[str] = ()
    """Further tombstones: ids of keys and hashes of replaced secrets, which must never become valid again."""
    trimmed: Sequence[int] = ()
    """Positions of the audit entries to remove."""


@dataclass(frozen=True, slots=True)
class Tombstones:
    """Names that neither a restart nor a copy of the registry may make valid again."""

    names: Sequence[str] = ()
    """Ids of revoked keys, and hashes of operators' secrets that were replaced."""
    tenants: Sequence[str] = ()
    """Names of deleted tenants."""


class AccountStore(Protocol):
    """Storage of tenants and keys, shared by replicas. Every method raises `RegistryUnavailable` during an outage."""

    def revision(self) -> int:
        """Return the number of the last change; cheap enough to poll many times per second."""
        ...

    def snapshot(self) -> Snapshot:
        """Return everything, as of one revision."""
        ...

    def write(self, edit: Edit, *, expected: int) -> bool:
        """Write an edit if the last revision is still `expected`; return whether it was written."""
        ...

    def audit(self, since: int = 0, *, limit: int = 1_000) -> Sequence[AuditEntry]:
        """Return the entries of the audit trail after a position, oldest first."""
        ...

    def buried(self, names: Sequence[str]) -> set[str]:
        """Return those of the names that have a tombstone."""
        ...

    def tombstones(self) -> Sequence[str]:
        """Return the names of all tombstones."""
        ...


def is_known(snapshot: Snapshot, tenant: str) -> bool:
    """Return whether a tenant exists; the default tenant needs no entry."""
    info = snapshot.tenants.get(tenant)
    return tenant == DEFAULT_TENANT if info is None else not info.deleted


TENANT = TypeAdapter(TenantInfo)
ENTRY = TypeAdapter(AuditEntry)
TOMBSTONES = TypeAdapter(Tombstones)
_KEY = TypeAdapter(KeyInfo)
_SCOPES = {"admin": "tenant", "operator": "platform"}
"""Both roles are stored as `admin` with a scope, so that a server without operators can read them."""


def encode_key(key: KeyInfo) -> bytes:
    """Return a key as it is stored."""
    stored = _KEY.dump_python(key, mode="json", exclude={"unscoped"})
    if key.role in _SCOPES:
        stored |= {"role": "admin", "scope": _SCOPES[key.role]}
    return json.dumps(stored).encode()


def decode_keys(stored: Iterable[bytes]) -> dict[str, KeyInfo]:
    """Return stored keys by id. One that cannot be read is logged and left out, so that only it is rejected."""
    keys: dict[str, KeyInfo] = {}
    for value in stored:
        try:
            key = _decode_key(value)
        except (ValueError, KeyError, TypeError, InvalidRequest) as exc:
            _log.warning("key_unreadable", reason=type(exc).__name__)
        else:
            keys[key.id] = key
    return keys


def _decode_key(value: bytes) -> KeyInfo:
    """Read a key. An administrator's key without a scope becomes an operator's only in the default tenant."""
    stored = json.loads(value)
    scope = stored.pop("scope", None)
    if stored["role"] == "admin":
        stored["unscoped"] = scope is None
        if stored["tenant"] == DEFAULT_TENANT and scope != "tenant":
            stored["role"] = "operator"
    return _KEY.validate_python(stored, strict=False)
