"""The first operator's key from the settings, and the migration of keys from versions without operators."""

from pathlib import Path

import structlog
from pydantic import SecretStr

from adapters import InvalidName, RegistryReadOnly
from service.tenancy.accounts import Accounts, SettingsKey
from service.tenancy.api_keys import ApiKey

_log = structlog.get_logger("service")
_REASONS: dict[SettingsKey, str] = {
    "revoked": "a key with this id was revoked, and a revoked id stays revoked",
    "replaced": "this secret was replaced by a rotation or by other settings, and stays invalid",
    "expired": "this key has expired, or its secret was replaced by a rotation",
}
_WAY_OUT = (
    "use another key: name one with a new id in SUPERPOS_ADMIN_KEY (with docker compose, remove "
    "deploy/secrets/superpos_admin_key and run make secrets) or remove the setting; "
    "superpos key create default --role operator --to <registry> creates one without a server"
)


def ensure_admin_key(accounts: Accounts, key: SecretStr | None, file: Path | None) -> None:
    """Store the operator's key of the settings, if there is one. A revoked, replaced or expired one is logged instead.

    Raises:
        InvalidName: the key is malformed or its file is unreadable; the message does not contain the key
        Conflict: another key has its id
        RegistryUnavailable: it cannot be stored
    """
    if file is not None:
        try:
            key = SecretStr(file.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as exc:
            raise InvalidName("admin_key_file", str(file), "a file that can be read, with a key in it") from exc
    if key is None:
        return
    given = ApiKey.given(key.get_secret_value())
    found = accounts.ensure_operator_key(given, actor="settings")
    if found != "valid":
        _log.warning("admin_key_refused", key=given.id, reason=_REASONS[found], todo=_WAY_OUT)


def migrate_roles(accounts: Accounts) -> None:
    """Migrate administrators' keys of versions without operators, and log the new role of each.

    If the store is read-only nothing is stored; keys are read as if they had been migrated.
    """
    try:
        keys = accounts.migrate_roles(actor="settings")
    except RegistryReadOnly:
        return
    for key in keys:
        if key.role == "operator":
            _log.info("key_became_operator", key=key.id, tenant=key.tenant)
        else:
            reason = (
                "it managed all tenants before and manages its own now; only keys of tenant default can be operators"
            )
            _log.warning("key_became_tenant_admin", key=key.id, tenant=key.tenant, reason=reason)
