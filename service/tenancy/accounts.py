"""Changes to tenants and keys, each checked against the present state and written with its audit entry."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr

from adapters import DEFAULT_TENANT, Conflict, InvalidName, NotFound, RegistryUnavailable
from adapters.storage.opening import Storage
from adapters.storage.redis import RedisStore
from service.errors import InvalidRequest
from service.tenancy.api_keys import ApiKey
from service.tenancy.models import (
    AccountAction,
    AccountStore,
    AuditEntry,
    Edit,
    KeyInfo,
    KeySecret,
    Snapshot,
    TenantInfo,
    TenantLimits,
    is_known,
)
from service.tenancy.principal import Role
from service.tenancy.redis_store import RedisAccounts
from service.tenancy.sqlite_store import SqliteAccounts

DEFAULT_OVERLAP_S = 24 * 3_600.0
MAX_OVERLAP_S = 90 * 24 * 3_600.0
MAX_KEYS = 1_000
"""Per tenant."""
_MAX_SECRETS = 8
_MAX_ATTEMPTS = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ShownKey:
    """A new key with its secret, which is shown only once."""

    key: ApiKey
    info: KeyInfo


class Accounts:
    """The tenants and keys of one store. Blocking: the event loop calls it in threads.

    Concurrent changes are ordered by the store's revision: the later one is checked again against the new state.
    """

    def __init__(self, store: AccountStore, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.store, self._clock = store, clock

    def tenants(self) -> Sequence[TenantInfo]:
        """Return all tenants by name."""
        return sorted((t for t in self.store.snapshot().tenants.values() if not t.deleted), key=lambda info: info.id)

    def tenant(self, tenant: str) -> TenantInfo:
        """Return one tenant (`NotFound`)."""
        return _tenant(self.store.snapshot(), tenant)

    def create_tenant(self, tenant: TenantInfo, *, actor: str) -> TenantInfo:
        """Create a tenant (`Conflict` if a tenant has or had this name)."""
        made = tenant.model_copy(update={"created_at": self._clock(), "deleted": False})

        def edit(now: Snapshot) -> tuple[Edit, TenantInfo]:
            known = now.tenants.get(tenant.id)
            if known is not None:
                state = "was deleted, and its name cannot be used again" if known.deleted else "exists already"
                raise Conflict(f"tenant {tenant.id!r} {state}")
            return Edit(self._entry("tenant_created", actor, tenant.id, detail=_limits(made)), tenants=[made]), made

        return self._change(edit)

    def update_tenant(self, tenant: str, change: Callable[[TenantInfo], TenantInfo], *, actor: str) -> TenantInfo:
        """Replace a tenant by what `change` returns for it (`NotFound`)."""

        def edit(now: Snapshot) -> tuple[Edit, TenantInfo]:
            made = change(_tenant(now, tenant))
            return Edit(self._entry("tenant_updated", actor, tenant, detail=_limits(made)), tenants=[made]), made

        return self._change(edit)

    def delete_tenant(self, tenant: str, *, actor: str) -> None:
        """Delete a tenant and its keys (`NotFound`). Its tasks stay in the registry, but no tenant can reach them."""
        if tenant == DEFAULT_TENANT:
            raise Conflict(f"tenant {tenant!r} is used by servers without keys and cannot be deleted")

        def edit(now: Snapshot) -> tuple[Edit, None]:
            gone = [key.id for key in now.keys.values() if key.tenant == tenant]
            made = _tenant(now, tenant).model_copy(update={"deleted": True})
            entry = self._entry("tenant_deleted", actor, tenant, detail=f"{len(gone)} keys revoked")
            return Edit(entry, tenants=[made], deleted_keys=gone), None

        self._change(edit)

    def keys(self, tenant: str) -> Sequence[KeyInfo]:
        """Return a tenant's keys, oldest first (`NotFound`)."""
        now = self.store.snapshot()
        _tenant(now, tenant)
        return sorted(_keys(now, tenant), key=lambda key: (key.created_at, key.id))

    def create_key(
        self, tenant: str, role: Role, *, actor: str, expires_at: datetime | None = None, note: str = ""
    ) -> ShownKey:
        """Create a key (`NotFound`; `InvalidRequest` if it would expire in the past)."""
        at, text = self._clock(), ApiKey.new()
        if expires_at is not None and expires_at <= at:
            raise InvalidRequest(f"expires_at is {expires_at.isoformat()}, expected a time in the future")
        made = KeyInfo(text.id, tenant, role, at, (KeySecret(text.sha256),), expires_at, note)

        def edit(now: Snapshot) -> tuple[Edit, ShownKey]:
            _tenant(now, tenant)
            if len(_keys(now, tenant)) >= MAX_KEYS:
                raise Conflict(f"tenant {tenant!r} has {MAX_KEYS} keys, revoke one first")
            assert text.id not in now.keys, "the same 48 random bits twice"
            return Edit(self._entry("key_created", actor, tenant, text.id, role), keys=[made]), ShownKey(text, made)

        return self._change(edit)

    def ensure_admin_key(self, text: ApiKey, *, actor: str) -> None:
        """Store this key, unless it exists already, as an administrator's key of the default tenant."""

        def edit(now: Snapshot) -> tuple[Edit | None, None]:
            known = now.keys.get(text.id)
            if known is not None and (known.tenant, known.role) != (DEFAULT_TENANT, "admin"):
                raise Conflict(f"key id {text.id!r} belongs to tenant {known.tenant!r}, choose another")
            if known is not None and known.hashes(self._clock()) == [text.sha256]:
                return None, None
            made = KeyInfo(text.id, DEFAULT_TENANT, "admin", self._clock(), (KeySecret(text.sha256),), note="settings")
            return Edit(self._entry("key_created", actor, DEFAULT_TENANT, text.id, "admin"), keys=[made]), None

        self._change(edit)

    def rotate_key(self, tenant: str, key_id: str, *, actor: str, overlap_s: float = DEFAULT_OVERLAP_S) -> ShownKey:
        """Give a key a new secret; the old one stays valid for `overlap_s` (`NotFound`, `InvalidRequest`)."""
        if not 0 <= overlap_s <= MAX_OVERLAP_S:
            raise InvalidRequest(f"overlap_s is {overlap_s:g}, expected 0 to {MAX_OVERLAP_S:g}")
        text = ApiKey.new(key_id)

        def edit(now: Snapshot) -> tuple[Edit, ShownKey]:
            known = _key(now, tenant, key_id)
            secrets = known.rotated(text.sha256, now=self._clock(), overlap_s=overlap_s)
            if len(secrets) > _MAX_SECRETS:
                raise Conflict(f"key {key_id!r} has {_MAX_SECRETS} valid secrets, wait or create another key")
            made = replace(known, secrets=secrets)
            entry = self._entry("key_rotated", actor, tenant, key_id, f"overlap {overlap_s:g} s")
            return Edit(entry, keys=[made]), ShownKey(text, made)

        return self._change(edit)

    def revoke_key(self, tenant: str, key_id: str, *, actor: str) -> None:
        """Delete a key (`NotFound`)."""

        def edit(now: Snapshot) -> tuple[Edit, None]:
            _key(now, tenant, key_id)
            return Edit(self._entry("key_revoked", actor, tenant, key_id), deleted_keys=[key_id]), None

        self._change(edit)

    def _entry(
        self, action: AccountAction, actor: str, tenant: str, key: str | None = None, detail: str = ""
    ) -> AuditEntry:
        return AuditEntry(self._clock(), actor, action, tenant, key, detail)

    def _change(self, edit: Callable[[Snapshot], tuple[Edit | None, T]]) -> T:
        for _ in range(_MAX_ATTEMPTS):
            now = self.store.snapshot()
            change, result = edit(now)
            if change is None or self.store.write(change, expected=now.revision):
                return result
        raise RegistryUnavailable(f"the accounts were changed concurrently {_MAX_ATTEMPTS} times, try again")


def _tenant(now: Snapshot, tenant: str) -> TenantInfo:
    if not is_known(now, tenant):
        raise NotFound(f"no tenant {tenant!r}")
    return now.tenant(tenant)


def _keys(now: Snapshot, tenant: str) -> list[KeyInfo]:
    return [key for key in now.keys.values() if key.tenant == tenant]


def _key(now: Snapshot, tenant: str, key_id: str) -> KeyInfo:
    key = now.keys.get(key_id)
    if key is None or key.tenant != tenant:
        raise NotFound(f"no key {key_id!r} of tenant {tenant!r}")
    return key


def _limits(tenant: TenantInfo) -> str:
    """Return a tenant's settings as text for the audit trail."""
    values = {name: getattr(tenant, name) for name in TenantLimits.model_fields}
    limits = [f"{name}={value:g}" for name, value in values.items() if value is not None]
    return ", ".join([*limits, *(["suspended"] if tenant.suspended else [])])


def open_accounts(storage: Storage) -> Accounts:
    """Return the tenants and keys of a storage (`RegistryUnavailable` if a file's tables cannot be created)."""
    return Accounts(RedisAccounts(storage) if isinstance(storage, RedisStore) else SqliteAccounts(storage))


def ensure_admin_key(accounts: Accounts, key: SecretStr | None, file: Path | None) -> None:
    """Store the administrator's key of the settings, if they have one.

    Raises:
        InvalidName: the key is malformed or its file is unreadable; the message repeats no part of it
        Conflict: another key has its id
        RegistryUnavailable: it cannot be stored
    """
    if file is not None:
        try:
            key = SecretStr(file.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as exc:
            raise InvalidName("admin_key_file", str(file), "a file that can be read, with a key in it") from exc
    if key is not None:
        accounts.ensure_admin_key(ApiKey.given(key.get_secret_value()), actor="settings")
