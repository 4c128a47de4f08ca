# Written by scripts/sync_client.py from _async/accounts.py: change that file.
"""`client.tenants`, `client.keys` and `client.audit`: what administrators and operators do."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Unpack

from superpos_client import calls
from superpos_client._sync.transport import Transport
from superpos_client.resources import AuditEntry, Change, Key, NewKey, Role, Tenant, TenantLimits


class Tenants:
    """Tenants: an administrator sees its own, an operator all."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Sequence[Tenant]:
        """Return the tenants that the key manages."""
        return self._transport.send(calls.tenants())

    def get(self, tenant: str) -> Tenant:
        """Return a tenant (`NotFound`)."""
        return self._transport.send(calls.tenant(tenant))

    def create(self, tenant: str, **limits: Unpack[TenantLimits]) -> Tenant:
        """Create a tenant; omitted limits do not apply (`Conflict` if the name was ever used)."""
        return self._transport.send(calls.create_tenant(tenant, limits))

    def update(self, tenant: str, **changes: Unpack[TenantLimits]) -> Tenant:
        """Change a tenant's share and limits, or suspend it; what is omitted stays."""
        return self._transport.send(calls.update_tenant(tenant, changes))

    def delete(self, tenant: str) -> None:
        """Delete a tenant and revoke its keys. Its tasks stay stored, but cannot be reached."""
        self._transport.send(calls.delete_tenant(tenant))


class Keys:
    """API keys of a tenant."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, tenant: str) -> Sequence[Key]:
        """Return a tenant's keys, without their secrets."""
        return self._transport.send(calls.keys(tenant))

    def create(
        self,
        tenant: str,
        role: Role = "classify",
        *,
        note: str = "",
        expires_at: datetime | None = None,
        default_task: str | None = None,
    ) -> NewKey:
        """Create a key. Only this answer has its secret, `key`.

        Args:
            tenant: the tenant
            role: up to the role of the client's own key
            note: what the key is for
            expires_at: a time with a zone; by default it does not expire
            default_task: ref of the task that answers requests that name none
        """
        call = calls.create_key(tenant, role, note=note, expires_at=expires_at, default_task=default_task)
        return self._transport.send(call)

    def update(self, tenant: str, key_id: str, *, default_task: str | None) -> Key:
        """Change the task that answers a key's requests that name none; None for the server's own default."""
        return self._transport.send(calls.update_key(tenant, key_id, default_task=default_task))

    def rotate(self, tenant: str, key_id: str, *, overlap_s: float | None = None) -> NewKey:
        """Give a key a new secret; the old one stays valid for `overlap_s` seconds, by default a day."""
        return self._transport.send(calls.rotate_key(tenant, key_id, overlap_s=overlap_s))

    def revoke(self, tenant: str, key_id: str) -> None:
        """Revoke a key for ever."""
        self._transport.send(calls.revoke_key(tenant, key_id))


class Audit:
    """The logs of a tenant, or for operators of all."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def accounts(self, *, since: int = 0) -> Iterator[AuditEntry]:
        """Yield the changes of tenants and keys, oldest first, after the position `since`."""
        while True:
            page = self._transport.send(calls.audit(since))
            for entry in page.entries:
                yield entry
            if page.complete:
                return
            since = page.position

    def tasks(self, *, since: int = 0) -> Iterator[Change]:
        """Yield the changes of tasks, versions, aliases and traffic, oldest first, after the position `since`."""
        while True:
            page = self._transport.send(calls.audit_tasks(since))
            for change in page.entries:
                yield change
            if page.complete:
                return
            since = page.position
