"""Operators' keys at the start: that of the settings, those of versions without operators, and whether one is left."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog
from pydantic import SecretStr

from adapters import InvalidName, RegistryReadOnly
from service.tenancy.accounts import Accounts, SettingsKey
from service.tenancy.api_keys import ApiKey
from service.tenancy.models import Snapshot
from service.tenancy.rules import operators_end

_log = structlog.get_logger("service")
_REASONS: dict[SettingsKey, str] = {
    "revoked": "a key with this id was revoked, and a revoked id stays revoked",
    "replaced": "this secret was replaced by a rotation or by other settings, and stays invalid",
    "expired": "this key has expired, or its secret was replaced by a rotation",
}
_NEW_OPERATOR = (
    "create an operator's key that does not expire: superpos key create default --role operator, "
    "or without any valid key superpos key create default --role operator --to <registry>"
)
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


class LockoutWarning:
    """Logs when no operator's key is valid or the last one will expire: then no caller could manage the server."""

    def __init__(self, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._warned: tuple[str, datetime | None] | None = None

    def check(self, now: Snapshot) -> None:
        """Check all keys, and log a warning unless the last one was the same."""
        at = self._clock()
        end = operators_end(now, at=at)
        warning = None if end is None else ("no_operator_key", None) if end == at else ("operator_keys_expire", end)
        if warning is not None and warning != self._warned:
            event, until = warning
            _log.warning(event, todo=_NEW_OPERATOR, **({} if until is None else {"until": until.isoformat()}))
        self._warned = warning


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
