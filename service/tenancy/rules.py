"""Rules that changes to tenants and keys are checked against, at one revision."""

from datetime import datetime

from adapters import DEFAULT_TENANT, Conflict, NotFound
from service.errors import Forbidden
from service.tenancy.models import KeyInfo, Snapshot, TenantInfo, TenantLimits, is_known
from service.tenancy.principal import Role, includes


def existing_tenant(now: Snapshot, tenant: str) -> TenantInfo:
    """Return a tenant (`NotFound`)."""
    if not is_known(now, tenant):
        raise NotFound(f"no tenant {tenant!r}")
    return now.tenant(tenant)


def keys_of(now: Snapshot, tenant: str) -> list[KeyInfo]:
    """Return a tenant's keys."""
    return [key for key in now.keys.values() if key.tenant == tenant]


def existing_key(now: Snapshot, tenant: str, key_id: str) -> KeyInfo:
    """Return a tenant's key (`NotFound`)."""
    key = now.keys.get(key_id)
    if key is None or key.tenant != tenant:
        raise NotFound(f"no key {key_id!r} of tenant {tenant!r}")
    return key


def check_authority(authority: Role, role: Role) -> None:
    """Raise `Forbidden` if a key's role exceeds that of the actor who would create, rotate or revoke it."""
    if not includes(authority, role):
        raise Forbidden(f"the key's role is {authority!r}, keys of role {role!r} are managed by that role or above")


def check_not_suspended(before: TenantInfo, after: TenantInfo) -> None:
    """Raise `Conflict` if a change suspends the default tenant, to which the operators' keys belong."""
    if after.id == DEFAULT_TENANT and after.suspended and not before.suspended:
        raise Conflict(
            f"tenant {DEFAULT_TENANT!r} has the operators' keys and cannot be suspended; to stop its other clients, "
            f"revoke their keys one by one: superpos key list {DEFAULT_TENANT}, superpos key revoke {DEFAULT_TENANT} ID"
        )


def check_operator_remains(now: Snapshot, key: KeyInfo, *, at: datetime) -> None:
    """Raise `Conflict` if a key is the last valid operator's key: without it no caller could manage the server."""
    operators = [each for each in now.keys.values() if each.role == "operator" and each.hashes(at)]
    if [each.id for each in operators] == [key.id]:
        raise Conflict(
            f"key {key.id!r} is the last valid operator's key; create another one first: "
            f"superpos key create {DEFAULT_TENANT} --role operator"
        )


def operators_end(now: Snapshot, *, at: datetime) -> datetime | None:
    """Return when the last valid operator's key expires: `at` if none is valid, None if one never expires."""
    valid = [key.expires_at for key in now.keys.values() if key.role == "operator" and key.hashes(at)]
    return None if None in valid else max((end for end in valid if end is not None), default=at)


def retired_secrets(known: KeyInfo | None) -> list[str]:
    """Return the tombstones of an operator's replaced secrets: the settings must not make them valid again."""
    return [] if known is None or known.role != "operator" else [secret.sha256 for secret in known.secrets]


def limits_text(tenant: TenantInfo) -> str:
    """Return a tenant's settings as text for the audit log."""
    values = {name: getattr(tenant, name) for name in TenantLimits.model_fields}
    limits = [f"{name}={value:g}" for name, value in values.items() if value is not None]
    return ", ".join([*limits, *(["suspended"] if tenant.suspended else [])])
