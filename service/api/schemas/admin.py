"""The JSON of `/admin`."""

from dataclasses import asdict, replace
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from adapters.names import NAME_PATTERN
from service.api.schemas.types import WHOLE
from service.tenancy.accounts import DEFAULT_OVERLAP_S, MAX_OVERLAP_S, ShownKey
from service.tenancy.models import AuditEntry, KeyInfo, TenantInfo
from service.tenancy.principal import Role

Count = Annotated[int, Field(ge=1, le=1 << 53), WHOLE]
Weight = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


class TenantChange(BaseModel):
    """What to set of a tenant; what is left out stays as it is, and null takes a limit away."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"requests_per_s": 20, "max_tasks": None}]}
    )

    weight: Weight = 1.0
    requests_per_s: Rate | None = None
    tokens_per_min: Count | None = None
    max_concurrency: Count | None = None
    max_tasks: Count | None = None
    max_versions: Count | None = None
    max_bytes: Count | None = None
    suspended: bool = False


def changed(tenant: TenantInfo, change: TenantChange) -> TenantInfo:
    """The tenant with what a change sets (`InvalidRequest` where that cannot be)."""
    return replace(tenant, **change.model_dump(exclude_unset=True))


class TenantRequest(TenantChange):
    """A tenant to make; limits that are left out are none."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"id": "acme", "requests_per_s": 20, "tokens_per_min": 100_000}]},
    )

    id: Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]


class TenantBody(BaseModel):
    """A tenant's share and limits; null is no limit."""

    id: str
    weight: float
    requests_per_s: float | None
    tokens_per_min: int | None
    max_concurrency: int | None
    max_tasks: int | None
    max_versions: int | None
    max_bytes: int | None
    suspended: bool
    created_at: datetime | None

    @classmethod
    def of(cls, tenant: TenantInfo) -> "TenantBody":
        return cls.model_validate(asdict(tenant))


class TenantList(BaseModel):
    tenants: list[TenantBody]


class KeyRequest(BaseModel):
    """A key to make."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"role": "classify", "note": "web shop"}]}
    )

    role: Role = "classify"
    expires_at: AwareDatetime | None = None
    note: Annotated[str, Field(max_length=200)] = ""


class RotateRequest(BaseModel):
    """How long the old secret opens the key still."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [{"overlap_s": 3600}]})

    overlap_s: Annotated[float, Field(ge=0, le=MAX_OVERLAP_S, allow_inf_nan=False)] = DEFAULT_OVERLAP_S


class KeyBody(BaseModel):
    """A key, without its secret."""

    id: str
    tenant: str
    role: Role
    created_at: datetime
    expires_at: datetime | None
    note: str
    old_secrets_until: list[datetime]
    """When the secrets from before its rotations end."""

    @classmethod
    def of(cls, key: KeyInfo) -> "KeyBody":
        ends = [secret.until for secret in key.secrets if secret.until is not None]
        return cls(**_members(key), old_secrets_until=ends)


class KeyList(BaseModel):
    keys: list[KeyBody]


class NewKeyBody(KeyBody):
    """A key with its secret, which nobody can show again."""

    key: str

    @classmethod
    def shown(cls, made: ShownKey) -> "NewKeyBody":
        return cls(**KeyBody.of(made.info).model_dump(), key=made.key.text)


class AuditBody(BaseModel):
    """Who did what to which tenant or key, and when."""

    position: int
    at: datetime
    actor: str
    action: str
    tenant: str
    key: str | None
    detail: str

    @classmethod
    def of(cls, entry: AuditEntry) -> "AuditBody":
        return cls.model_validate(asdict(entry))


class AuditLog(BaseModel):
    """Entries after `since`, oldest first; ask on with the last one's position."""

    entries: list[AuditBody]


def _members(key: KeyInfo) -> dict[str, object]:
    return {name: getattr(key, name) for name in ("id", "tenant", "role", "created_at", "expires_at", "note")}
