"""Rules that changes to tenants and keys are checked against, at one revision."""

from adapters import NotFound
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


def retired_secrets(known: KeyInfo | None) -> list[str]:
    """Return the tombstones of an operator's replaced secrets: the settings must not make them valid again."""
    return [] if known is None or known.role != "operator" else [secret.sha256 for secret in known.secrets]


def limits_text(tenant: TenantInfo) -> str:
    """Return a tenant's settings as text for the audit log."""
    values = {name: getattr(tenant, name) for name in TenantLimits.model_fields}
    limits = [f"{name}={value:g}" for name, value in values.items() if value is not None]
    return ", ".join([*limits, *(["suspended"] if tenant.suspended else [])])
