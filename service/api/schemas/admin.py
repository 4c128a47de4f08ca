"""The JSON of `/admin`."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Self

from pydantic import AwareDatetime, Field

from adapters.names import NAME_PATTERN
from service.api.schemas.types import WHOLE, RequestSchema, Schema
from service.tenancy.accounts import DEFAULT_OVERLAP_S, MAX_OVERLAP_S, ShownKey
from service.tenancy.models import AuditEntry, TenantInfo
from service.tenancy.principal import Role

Count = Annotated[int, Field(ge=1, le=1 << 53), WHOLE]
Weight = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


class TenantChange(RequestSchema, json_schema_extra={"examples": [{"requests_per_s": 20, "max_tasks": None}]}):
    """Settings of a tenant to change: omitted fields stay as they are, null removes a limit."""

    weight: Weight = 1.0
    requests_per_s: Rate | None = None
    tokens_per_min: Count | None = None
    max_concurrency: Count | None = None
    max_tasks: Count | None = None
    max_versions: Count | None = None
    max_bytes: Count | None = None
    suspended: bool = False


def changed(tenant: TenantInfo, change: TenantChange) -> TenantInfo:
    """Return the tenant with the fields that a change sets (`InvalidRequest` for an invalid combination)."""
    return replace(tenant, **change.model_dump(exclude_unset=True))


class TenantRequest(
    TenantChange, json_schema_extra={"examples": [{"id": "acme", "requests_per_s": 20, "tokens_per_min": 100_000}]}
):
    """A tenant to create. Omitted limits are not set."""

    id: Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]


class TenantBody(Schema):
    """A tenant's share and limits; null means no limit."""

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


class TenantList(Schema):
    tenants: list[TenantBody]


class KeyRequest(
    RequestSchema, strict=False, json_schema_extra={"examples": [{"role": "classify", "note": "web shop"}]}
):
    """A key to create."""

    role: Role = "classify"
    expires_at: AwareDatetime | None = None
    note: Annotated[str, Field(max_length=200)] = ""


class RotateRequest(RequestSchema, json_schema_extra={"examples": [{"overlap_s": 3600}]}):
    """A rotation of a key's secret."""

    overlap_s: Annotated[float, Field(ge=0, le=MAX_OVERLAP_S, allow_inf_nan=False)] = DEFAULT_OVERLAP_S
    """How long the old secret stays valid."""


class KeyBody(Schema):
    """A key without its secret."""

    id: str
    tenant: str
    role: Role
    created_at: datetime
    expires_at: datetime | None
    note: str
    old_secrets_until: list[datetime]
    """When the secrets replaced by rotations expire."""


class KeyList(Schema):
    keys: list[KeyBody]


class NewKeyBody(KeyBody):
    """A key with its secret, which is shown only here."""

    key: str

    @classmethod
    def shown(cls, made: ShownKey) -> Self:
        """Build the body."""
        return cls(**KeyBody.model_validate(made.info).model_dump(), key=made.key.text)


class AuditLog(Schema, json_schema_serialization_defaults_required=True):
    """Entries after `since`, oldest first. To continue, pass the last entry's position as `since`."""

    entries: list[AuditEntry]
