"""Changes to tenants and keys, each checked against the present state and written with its audit entry."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, TypeVar

from adapters import DEFAULT_TENANT, Conflict, Ref, RegistryUnavailable
from adapters.printable import RULE as PRINTABLE
from adapters.printable import is_printable
from adapters.registry.log_reading import LogPart, search_log
from adapters.storage.opening import Storage
from adapters.storage.sqlite import SqliteFile
from service.errors import InvalidRequest
from service.tenancy.api_keys import ApiKey
from service.tenancy.audit import Excess, excess_entries, was_revoked
from service.tenancy.models import (
    SERVER,
    AccountAction,
    AccountStore,
    AuditEntry,
    Edit,
    KeyInfo,
    KeySecret,
    Snapshot,
    TenantInfo,
    Tombstones,
)
from service.tenancy.principal import Role
from service.tenancy.rules import (
    check_authority,
    check_not_suspended,
    check_operator_remains,
    existing_key,
    existing_tenant,
    keys_of,
    limits_text,
    retired_secrets,
)
from service.tenancy.sqlite_store import SqliteAccounts

DEFAULT_OVERLAP_S = 24 * 3_600.0
MAX_OVERLAP_S = 90 * 24 * 3_600.0
MAX_KEYS = 1_000
"""Per tenant."""
_MAX_SECRETS = 8
_MAX_ATTEMPTS = 100
_MAX_REMOVED = 5_000
"""Audit entries removed in one write, which blocks Redis for some milliseconds."""

SettingsKey = Literal["valid", "revoked", "replaced", "expired"]
"""State of the operator's key that is in the settings."""

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
        return existing_tenant(self.store.snapshot(), tenant)

    def create_tenant(self, tenant: TenantInfo, *, actor: str) -> TenantInfo:
        """Create a tenant (`Conflict` if a tenant has or had this name, or that locks the operators out)."""
        made = tenant.model_copy(update={"created_at": self._clock(), "deleted": False})

        def edit(now: Snapshot) -> tuple[Edit, TenantInfo]:
            known = now.tenants.get(tenant.id)
            if known is not None:
                state = "was deleted, and its name cannot be used again" if known.deleted else "exists already"
                raise Conflict(f"tenant {tenant.id!r} {state}")
            check_not_suspended(now.tenant(tenant.id), made)
            return Edit(self._entry("tenant_created", actor, tenant.id, detail=limits_text(made)), tenants=[made]), made

        return self._change(edit)

    def update_tenant(self, tenant: str, change: Callable[[TenantInfo], TenantInfo], *, actor: str) -> TenantInfo:
        """Replace a tenant by what `change` returns for it (`NotFound`, `Conflict` if that locks the operators out)."""

        def edit(now: Snapshot) -> tuple[Edit, TenantInfo]:
            known = existing_tenant(now, tenant)
            made = change(known)
            check_not_suspended(known, made)
            return Edit(self._entry("tenant_updated", actor, tenant, detail=limits_text(made)), tenants=[made]), made

        return self._change(edit)

    def delete_tenant(self, tenant: str, *, actor: str) -> None:
        """Delete a tenant and its keys (`NotFound`). Its tasks stay in the registry, but no tenant can reach them."""
        if tenant == DEFAULT_TENANT:
            raise Conflict(f"tenant {tenant!r} is used by servers without keys and cannot be deleted")

        def edit(now: Snapshot) -> tuple[Edit, None]:
            gone = [key.id for key in now.keys.values() if key.tenant == tenant]
            made = existing_tenant(now, tenant).model_copy(update={"deleted": True})
            entry = self._entry("tenant_deleted", actor, tenant, detail=f"{len(gone)} keys revoked")
            return Edit(entry, tenants=[made], deleted_keys=gone), None

        self._change(edit)

    def keys(self, tenant: str) -> Sequence[KeyInfo]:
        """Return a tenant's keys, oldest first (`NotFound`)."""
        now = self.store.snapshot()
        existing_tenant(now, tenant)
        return sorted(keys_of(now, tenant), key=lambda key: (key.created_at, key.id))

    def create_key(
        self,
        tenant: str,
        role: Role,
        *,
        actor: str,
        authority: Role = "operator",
        expires_at: datetime | None = None,
        note: str = "",
        default_task: str | None = None,
    ) -> ShownKey:
        """Create a key.

        Args:
            authority: the role of the actor, who may create, change, rotate and revoke keys up to this role
            default_task: ref of the task that answers requests that name none; it need not exist yet

        Raises:
            NotFound: no such tenant
            InvalidName: the default task is not a ref
            Forbidden: the role exceeds the actor's
            InvalidRequest: the expiry is in the past, an operator's key is not for the default tenant, or the note is
                not printable
        """
        check_authority(authority, role)
        if role == "operator" and tenant != DEFAULT_TENANT:
            raise InvalidRequest(
                f"role 'operator' is for keys of tenant {DEFAULT_TENANT!r}, expected admin, publish or classify for "
                f"a key of {tenant!r}"
            )
        if not is_printable(note):
            raise InvalidRequest(f"note is {note[:200]!r}, expected {PRINTABLE}")
        if default_task is not None:
            Ref.parse(default_task)
        at, text = self._clock(), ApiKey.new()
        if expires_at is not None and expires_at <= at:
            raise InvalidRequest(f"expires_at is {expires_at.isoformat()}, expected a time in the future")
        made = KeyInfo(text.id, tenant, role, at, (KeySecret(text.sha256),), expires_at, note, default_task)

        def edit(now: Snapshot) -> tuple[Edit, ShownKey]:
            existing_tenant(now, tenant)
            if len(keys_of(now, tenant)) >= MAX_KEYS:
                raise Conflict(f"tenant {tenant!r} has {MAX_KEYS} keys, revoke one first")
            assert text.id not in now.keys, "the same 48 random bits twice"
            return Edit(self._entry("key_created", actor, tenant, text.id, role, by=authority), keys=[made]), ShownKey(
                text, made
            )

        return self._change(edit)

    def ensure_operator_key(self, text: ApiKey, *, actor: str) -> SettingsKey:
        """Store this key as an operator's key, unless it exists already or was revoked, replaced or has expired.

        A revoked id stays revoked, and a secret that was replaced or has expired stays invalid.
        """

        def edit(now: Snapshot) -> tuple[Edit | None, SettingsKey]:
            known = now.keys.get(text.id)
            if known is not None and (known.tenant, known.role) != (DEFAULT_TENANT, "operator"):
                raise Conflict(f"key id {text.id!r} belongs to tenant {known.tenant!r}, choose another")
            if known is not None and any(secret.sha256 == text.sha256 for secret in known.secrets):
                return None, "valid" if text.sha256 in known.hashes(self._clock()) else "expired"
            buried = self.store.buried([text.id, text.sha256])
            if text.id in buried or (known is None and was_revoked(self.store, text.id)):
                return None, "revoked"
            if buried:
                return None, "replaced"
            secrets = (KeySecret(text.sha256),)
            made = KeyInfo(text.id, DEFAULT_TENANT, "operator", self._clock(), secrets, note="settings")
            entry = self._entry("key_created", actor, DEFAULT_TENANT, text.id, "operator")
            return Edit(entry, keys=[made], tombstones=retired_secrets(known)), "valid"

        return self._change(edit)

    def migrate_roles(self, *, actor: str) -> Sequence[KeyInfo]:
        """Migrate administrators' keys of versions without operators, and return them.

        Keys of the default tenant become operators' keys, all others administrators' keys of their own tenant.
        """

        def edit(now: Snapshot) -> tuple[Edit | None, Sequence[KeyInfo]]:
            migrated = [replace(key, unscoped=False) for key in now.keys.values() if key.unscoped]
            if not migrated:
                return None, []
            operators = sum(key.role == "operator" for key in migrated)
            detail = f"{operators} keys became operator, {len(migrated) - operators} admin of their tenant"
            return Edit(self._entry("roles_migrated", actor, DEFAULT_TENANT, detail=detail), keys=migrated), migrated

        return self._change(edit)

    def update_key(
        self,
        tenant: str,
        key_id: str,
        *,
        default_task: str | None,
        actor: str,
        authority: Role = "operator",
    ) -> KeyInfo:
        """Change the task that answers a key's requests that name none (`NotFound`, `Forbidden`, `InvalidName`).

        Args:
            default_task: a ref; None for the server's own default
        """
        if default_task is not None:
            Ref.parse(default_task)

        def edit(now: Snapshot) -> tuple[Edit, KeyInfo]:
            known = existing_key(now, tenant, key_id)
            check_authority(authority, known.role)
            made = replace(known, default_task=default_task)
            detail = f"default task {default_task or 'removed'}"
            return Edit(self._entry("key_updated", actor, tenant, key_id, detail, by=authority), keys=[made]), made

        return self._change(edit)

    def rotate_key(
        self,
        tenant: str,
        key_id: str,
        *,
        actor: str,
        authority: Role = "operator",
        overlap_s: float = DEFAULT_OVERLAP_S,
    ) -> ShownKey:
        """Give a key a new secret; the old one stays valid for `overlap_s` (`NotFound`, `Forbidden`, `InvalidRequest`).

        The actor sees the new secret, so the key's role must not exceed `authority`.
        """
        if not 0 <= overlap_s <= MAX_OVERLAP_S:
            raise InvalidRequest(f"overlap_s is {overlap_s:g}, expected 0 to {MAX_OVERLAP_S:g}")
        text = ApiKey.new(key_id)

        def edit(now: Snapshot) -> tuple[Edit, ShownKey]:
            known = existing_key(now, tenant, key_id)
            check_authority(authority, known.role)
            secrets = known.rotated(text.sha256, now=self._clock(), overlap_s=overlap_s)
            if len(secrets) > _MAX_SECRETS:
                raise Conflict(f"key {key_id!r} has {_MAX_SECRETS} valid secrets, wait or create another key")
            made = replace(known, secrets=secrets)
            entry = self._entry("key_rotated", actor, tenant, key_id, f"overlap {overlap_s:g} s", by=authority)
            return Edit(entry, keys=[made], tombstones=retired_secrets(known)), ShownKey(text, made)

        return self._change(edit)

    def revoke_key(self, tenant: str, key_id: str, *, actor: str, authority: Role = "operator") -> None:
        """Delete a key for ever: its id gets a tombstone.

        Raises:
            NotFound: no such key
            Forbidden: the key's role exceeds the actor's
            Conflict: it is the last valid key of an operator
        """

        def edit(now: Snapshot) -> tuple[Edit, None]:
            known = existing_key(now, tenant, key_id)
            check_authority(authority, known.role)
            check_operator_remains(now, known, at=self._clock())
            entry = self._entry("key_revoked", actor, tenant, key_id, by=authority)
            return Edit(entry, deleted_keys=[key_id]), None

        self._change(edit)

    def tombstones(self) -> Tombstones:
        """Return the tombstones of keys and secrets, and the names of deleted tenants."""
        deleted = sorted(info.id for info in self.store.snapshot().tenants.values() if info.deleted)
        return Tombstones(tuple(self.store.tombstones()), tuple(deleted))

    def bury(self, tombstones: Tombstones, *, actor: str) -> None:
        """Apply another store's tombstones: revoke its revoked keys, and reserve the names of its deleted tenants."""

        def edit(now: Snapshot) -> tuple[Edit | None, None]:
            keys = [name for name in tombstones.names if name in now.keys]
            tenants = [
                TenantInfo(id=tenant, deleted=True)
                for tenant in tombstones.tenants
                if tenant not in now.tenants and tenant != DEFAULT_TENANT  # which has the operators' keys
            ]
            if not tombstones.names and not tenants:
                return None, None
            detail = f"{len(tombstones.names)} of keys, {len(tenants)} of tenants"
            entry = self._entry("tombstones_copied", actor, DEFAULT_TENANT, detail=detail)
            return Edit(entry, tenants=tenants, deleted_keys=keys, tombstones=tombstones.names), None

        self._change(edit)

    def audit(
        self,
        since: int = 0,
        *,
        limit: int = 1_000,
        tenant: str | None = None,
        pause: Callable[[], None] = lambda: None,
    ) -> LogPart[AuditEntry]:
        """Return the entries of the audit log after a position; with `tenant`, only those about that tenant."""
        return search_log(
            lambda after, most: self.store.audit(after, limit=most),
            since=since,
            limit=limit,
            wanted=lambda entry: tenant in (None, entry.tenant),
            pause=pause,
        )

    def trim_audit(self, *, keep: int, pause: Callable[[], None] = lambda: None) -> int:
        """Remove the oldest audit entries of each tenant and author beyond the latest `keep`; return their number.

        The removal is an entry too. A revocation that is removed leaves a tombstone, if it is older than tombstones.
        `pause` is called after each page of the log, so that other threads can work.
        """
        excess = excess_entries(self.store, keep=keep, pause=pause)
        return sum(self._remove(excess[at : at + _MAX_REMOVED]) for at in range(0, len(excess), _MAX_REMOVED))

    def _remove(self, excess: Sequence[Excess]) -> int:
        positions = [each.position for each in excess]

        def edit(_: Snapshot) -> tuple[Edit | None, int]:
            if [entry.position for entry in self.store.audit(positions[0] - 1, limit=1)] != positions[:1]:
                return None, 0  # another server has removed them
            detail = f"{len(positions)} entries removed, at positions {positions[0]} to {positions[-1]}"
            entry = self._entry("audit_trimmed", SERVER, DEFAULT_TENANT, detail=detail)
            revoked = [each.revoked for each in excess if each.revoked is not None]
            return Edit(entry, tombstones=revoked, trimmed=positions), len(positions)

        return self._change(edit)

    def record_refusals(self, tenant: str, detail: str, *, key: str | None) -> None:
        """Add an entry about refused requests to the audit log; `key` is the id in the last one."""
        entry = self._entry("requests_refused", SERVER, tenant, key, detail)
        self._change(lambda _: (Edit(entry), None))

    def record(self, action: AccountAction, tenant: str, *, actor: str, detail: str, by: Role) -> None:
        """Add an entry to the audit log about what is not part of the accounts."""
        entry = self._entry(action, actor, tenant, detail=detail, by=by)
        self._change(lambda _: (Edit(entry), None))

    def _entry(
        self,
        action: AccountAction,
        actor: str,
        tenant: str,
        key: str | None = None,
        detail: str = "",
        *,
        by: Role = "operator",
    ) -> AuditEntry:
        return AuditEntry(self._clock(), actor, action, tenant, key, detail, None if actor == SERVER else by)

    def _change(self, edit: Callable[[Snapshot], tuple[Edit | None, T]]) -> T:
        for _ in range(_MAX_ATTEMPTS):
            now = self.store.snapshot()
            change, result = edit(now)
            if change is None or self.store.write(change, expected=now.revision):
                return result
        raise RegistryUnavailable(f"the accounts were changed concurrently {_MAX_ATTEMPTS} times, try again")


def open_accounts(storage: Storage) -> Accounts:
    """Return the tenants and keys of a storage (`RegistryUnavailable` if a file's tables cannot be created)."""
    if isinstance(storage, SqliteFile):
        return Accounts(SqliteAccounts(storage))
    from service.tenancy.redis_store import RedisAccounts  # noqa: PLC0415 - as `open_storage`

    return Accounts(RedisAccounts(storage))
