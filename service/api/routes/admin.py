"""`/admin`: tenants, keys and the audit log. Administrators reach their own tenant, operators all."""

import asyncio

from fastapi import APIRouter, Response

from adapters.registry.log_reading import read_log
from service.api.dependencies import JSON_BODY, Administering, Limit, Operating, Running, Since
from service.api.json_response import json_response
from service.api.logs import change_log, search
from service.api.openapi import problems
from service.api.schemas.admin import (
    AuditLog,
    KeyBody,
    KeyChange,
    KeyList,
    KeyRequest,
    NewKeyBody,
    RotateRequest,
    TenantBody,
    TenantChange,
    TenantList,
    TenantRequest,
)
from service.api.schemas.tasks import ChangeLog
from service.api.strict_route import StrictRoute
from service.runtime import Runtime
from service.tenancy.models import TenantInfo
from service.tenancy.principal import Principal

router = APIRouter(route_class=StrictRoute, prefix="/admin", tags=["admin"])


@router.get("/tenants", responses=problems(503))
async def list_tenants(runtime: Running, principal: Administering) -> TenantList:
    """List the tenants that the caller manages: its own, or for operators all."""
    tenants = await asyncio.to_thread(runtime.tenancy.accounts.tenants)
    return TenantList.model_validate({"tenants": [info for info in tenants if principal.manages(info.id)]})


@router.post("/tenants", status_code=201, dependencies=[JSON_BODY], responses=problems(400, 409, 413, 415, 503))
async def create_tenant(body: TenantRequest, runtime: Running, principal: Operating) -> TenantBody:
    """Create a tenant. A name is never reused, not even after its tenant is deleted."""
    made = await asyncio.to_thread(
        runtime.tenancy.accounts.create_tenant, TenantInfo(**body.model_dump()), actor=principal.actor
    )
    await runtime.tenancy.account_cache.refresh()
    return TenantBody.model_validate(made)


@router.get("/tenants/{tenant}", responses=problems(404, 503))
async def describe_tenant(tenant: str, runtime: Running, principal: Administering) -> TenantBody:
    """Return one tenant."""
    return TenantBody.model_validate(await asyncio.to_thread(runtime.tenancy.accounts.tenant, tenant))


@router.patch("/tenants/{tenant}", dependencies=[JSON_BODY], responses=problems(400, 404, 409, 413, 415, 503))
async def update_tenant(tenant: str, body: TenantChange, runtime: Running, principal: Operating) -> TenantBody:
    """Change a tenant's share and limits; omitted fields stay as they are. The default tenant cannot be suspended."""
    made = await asyncio.to_thread(runtime.tenancy.accounts.update_tenant, tenant, body.apply_to, actor=principal.actor)
    await runtime.tenancy.account_cache.refresh()
    return TenantBody.model_validate(made)


@router.delete("/tenants/{tenant}", status_code=204, responses=problems(404, 409, 503))
async def delete_tenant(tenant: str, runtime: Running, principal: Operating) -> None:
    """Delete a tenant and revoke its keys. Its tasks stay stored but cannot be reached."""
    await asyncio.to_thread(runtime.tenancy.accounts.delete_tenant, tenant, actor=principal.actor)
    await runtime.tenancy.account_cache.refresh()


@router.get("/tenants/{tenant}/keys", responses=problems(404, 503))
async def list_keys(tenant: str, runtime: Running, principal: Administering) -> KeyList:
    """List a tenant's keys without their secrets."""
    return KeyList.model_validate({"keys": await asyncio.to_thread(runtime.tenancy.accounts.keys, tenant)})


@router.post(
    "/tenants/{tenant}/keys",
    status_code=201,
    dependencies=[JSON_BODY],
    responses=problems(400, 404, 409, 413, 415, 503),
)
async def create_key(
    tenant: str, body: KeyRequest, response: Response, runtime: Running, principal: Administering
) -> NewKeyBody:
    """Create a key with a role up to the caller's. Only this response shows it."""
    await _count_change(runtime, principal)
    made = await asyncio.to_thread(
        runtime.tenancy.accounts.create_key,
        tenant,
        body.role,
        actor=principal.actor,
        authority=principal.role,
        expires_at=body.expires_at,
        note=body.note,
        default_task=body.default_task,
    )
    await runtime.tenancy.account_cache.refresh()
    response.headers["Cache-Control"] = "no-store"
    return NewKeyBody.shown(made)


@router.patch(
    "/tenants/{tenant}/keys/{key}", dependencies=[JSON_BODY], responses=problems(400, 404, 409, 413, 415, 503)
)
async def update_key(tenant: str, key: str, body: KeyChange, runtime: Running, principal: Administering) -> KeyBody:
    """Change the task that answers a key's requests that name none. Every replica follows within a second."""
    await _count_change(runtime, principal)
    made = await asyncio.to_thread(
        runtime.tenancy.accounts.update_key,
        tenant,
        key,
        default_task=body.default_task,
        actor=principal.actor,
        authority=principal.role,
    )
    await runtime.tenancy.account_cache.refresh()
    return KeyBody.model_validate(made)


@router.post(
    "/tenants/{tenant}/keys/{key}/rotate",
    dependencies=[JSON_BODY],
    responses=problems(400, 404, 409, 413, 415, 503),
)
async def rotate_key(
    tenant: str, key: str, body: RotateRequest, response: Response, runtime: Running, principal: Administering
) -> NewKeyBody:
    """Give a key a new secret, shown only here. The old one stays valid for `overlap_s` seconds."""
    await _count_change(runtime, principal)
    made = await asyncio.to_thread(
        runtime.tenancy.accounts.rotate_key,
        tenant,
        key,
        actor=principal.actor,
        authority=principal.role,
        overlap_s=body.overlap_s,
    )
    await runtime.tenancy.account_cache.refresh()
    response.headers["Cache-Control"] = "no-store"
    return NewKeyBody.shown(made)


@router.delete("/tenants/{tenant}/keys/{key}", status_code=204, responses=problems(404, 409, 503))
async def revoke_key(tenant: str, key: str, runtime: Running, principal: Administering) -> None:
    """Revoke a key for ever. Every replica rejects it within a second. The last operator's key cannot be revoked."""
    await _count_change(runtime, principal)
    await asyncio.to_thread(
        runtime.tenancy.accounts.revoke_key, tenant, key, actor=principal.actor, authority=principal.role
    )
    await runtime.tenancy.account_cache.refresh()


@router.get("/audit", responses=problems(503), response_model=AuditLog)
async def read_audit(
    runtime: Running, principal: Administering, response: Response, since: Since = 0, limit: Limit = 100
) -> Response:
    """Read the audit log of the caller's tenant and its keys, or for operators of all."""
    own = None if principal.role == "operator" else principal.tenant
    accounts = runtime.tenancy.accounts
    part = await search(runtime, lambda pause: accounts.audit(since, limit=limit, tenant=own, pause=pause))
    return await json_response(AuditLog.model_validate(part), response)


@router.get("/audit/tasks", responses=problems(503), response_model=ChangeLog)
async def read_changes(
    runtime: Running, principal: Administering, response: Response, since: Since = 0, limit: Limit = 100
) -> Response:
    """Read the change log of tasks, versions and aliases of the caller's tenant, or for operators of all tenants."""
    store = runtime.registry.store
    part = await search(
        runtime,
        lambda pause: read_log(
            store, since=since, limit=limit, wanted=lambda change: principal.manages(change.tenant), pause=pause
        ),
    )
    return await json_response(await change_log(part), response)


async def _count_change(runtime: Runtime, principal: Principal) -> None:
    """Count a change of keys (`RateLimited`); operators are not limited."""
    if principal.role != "operator":
        await runtime.tenancy.quotas.count_change(principal.tenant)
