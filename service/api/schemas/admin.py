"""JSON bodies of `/admin`."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import AwareDatetime, Field, field_validator

from adapters.names import NAME_PATTERN
from service.api.schemas.types import RefText, RequestSchema, Schema, whole
from service.tenancy.accounts import DEFAULT_OVERLAP_S, MAX_OVERLAP_S, ShownKey
from service.tenancy.models import AuditEntry, TenantInfo, TenantLimits
from service.tenancy.principal import Role


class TenantChange(
    TenantLimits, RequestSchema, json_schema_extra={"examples": [{"requests_per_s": 20, "max_tasks": None}]}
):
    """Settings of a tenant to change: omitted fields keep their value, null removes a limit."""

    suspended: bool = False
    """Reject all of the tenant's keys."""

    _whole_numbers = field_validator("*", mode="before")(whole)

    def apply_to(self, tenant: TenantInfo) -> TenantInfo:
        """Return the tenant with the fields that were given."""
        return tenant.model_copy(update=self.model_dump(exclude_unset=True))


class TenantRequest(
    TenantChange, json_schema_extra={"examples": [{"id": "acme", "requests_per_s": 20, "tokens_per_min": 100_000}]}
):
    """A tenant to create. Omitted limits are not set."""

    id: Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]


class TenantBody(TenantLimits, Schema, json_schema_serialization_defaults_required=True):
    """A tenant's share and limits; null means no limit."""

    id: str
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
    default_task: RefText | None = None
    """Ref of the task that answers requests that name none."""


class KeyChange(RequestSchema, json_schema_extra={"examples": [{"default_task": "sst2"}]}):
    """Settings of a key to change."""

    default_task: RefText | None
    """Ref of the task that answers requests that name none; null for the server's own default."""


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
    default_task: str | None
    """The task that answers requests that name none; null for the server's own default."""
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
    """A part of the log, oldest first. To continue, pass `position` as `since`, until `complete`."""

    entries: list[AuditEntry]
    position: int
    """The last position that was read, even if this part has no entry."""
    complete: bool
    """Whether the end of the log was reached."""
