"""`client.tenants`, `client.keys` and `client.audit`: what administrators and operators do."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Unpack

from superpos_client import calls
from superpos_client._async.transport import AsyncTransport
from superpos_client.resources import AuditEntry, Change, Key, NewKey, Role, Tenant, TenantLimits


class AsyncTenants:
    """Tenants: an administrator sees its own, an operator all."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self) -> Sequence[Tenant]:
        """Return the tenants that the key manages."""
        return await self._transport.send(calls.tenants())

    async def get(self, tenant: str) -> Tenant:
        """Return a tenant (`NotFound`)."""
        return await self._transport.send(calls.tenant(tenant))

    async def create(self, tenant: str, **limits: Unpack[TenantLimits]) -> Tenant:
        """Create a tenant; omitted limits do not apply (`Conflict` if the name was ever used)."""
        return await self._transport.send(calls.create_tenant(tenant, limits))

    async def update(self, tenant: str, **changes: Unpack[TenantLimits]) -> Tenant:
        """Change a tenant's share and limits, or suspend it; what is omitted stays."""
        return await self._transport.send(calls.update_tenant(tenant, changes))

    async def delete(self, tenant: str) -> None:
        """Delete a tenant and revoke its keys. Its tasks stay stored, but cannot be reached."""
        await self._transport.send(calls.delete_tenant(tenant))


class AsyncKeys:
    """API keys of a tenant."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self, tenant: str) -> Sequence[Key]:
        """Return a tenant's keys, without their secrets."""
        return await self._transport.send(calls.keys(tenant))

    async def create(
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
        return await self._transport.send(call)

    async def update(self, tenant: str, key_id: str, *, default_task: str | None) -> Key:
        """Change the task that answers a key's requests that name none; None for the server's own default."""
        return await self._transport.send(calls.update_key(tenant, key_id, default_task=default_task))

    async def rotate(self, tenant: str, key_id: str, *, overlap_s: float | None = None) -> NewKey:
        """Give a key a new secret; the old one stays valid for `overlap_s` seconds, by default a day."""
        return await self._transport.send(calls.rotate_key(tenant, key_id, overlap_s=overlap_s))

    async def revoke(self, tenant: str, key_id: str) -> None:
        """Revoke a key for ever."""
        await self._transport.send(calls.revoke_key(tenant, key_id))


class AsyncAudit:
    """The logs of a tenant, or for operators of all."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def accounts(self, *, since: int = 0) -> AsyncIterator[AuditEntry]:
        """Yield the changes of tenants and keys, oldest first, after the position `since`."""
        while True:
            page = await self._transport.send(calls.audit(since))
            for entry in page.entries:
                yield entry
            if page.complete:
                return
            since = page.position

    async def tasks(self, *, since: int = 0) -> AsyncIterator[Change]:
        """Yield the changes of tasks, versions, aliases and traffic, oldest first, after the position `since`."""
        while True:
            page = await self._transport.send(calls.audit_tasks(since))
            for change in page.entries:
                yield change
            if page.complete:
                return
            since = page.position
