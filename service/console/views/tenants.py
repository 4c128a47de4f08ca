"""Tenants and their keys: limits for operators, keys for administrators; a secret is shown once."""

from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo
from starlette.datastructures import FormData
from starlette.responses import Response

from service.console.api import ApiProblem, path
from service.console.page import Page, number_of, text_of
from service.console.views.route import ViewRoute
from service.tenancy.models import TenantLimits
from service.tenancy.principal import ROLES, includes

_PART = 50
_OVERLAPS = ((0, "at once"), (3_600, "in an hour"), (86_400, "in a day"), (7 * 86_400, "in a week"))
"""When the old secret of a rotated key ends."""
_LIMITS: Mapping[str, FieldInfo] = TenantLimits.model_fields


async def show(page: Page) -> Response:
    """Show the tenants that the person manages; a single one at once."""
    tenants = (await page.api.get("/admin/tenants"))["tenants"]
    if not page.can("operator"):
        return await _tenant(page, page.principal.tenant)
    query = page.query("q").strip().lower()
    found = [each for each in tenants if query in each["id"]]
    after = page.query("cursor")
    part = [each for each in found if each["id"] > after][:_PART]
    return await page.render(
        "tenants.html",
        tenants=part,
        total=len(found),
        query=query,
        following=part[-1]["id"] if part and part[-1]["id"] != found[-1]["id"] else None,
    )


async def tenant(page: Page) -> Response:
    """Show one tenant with its limits and keys."""
    return await _tenant(page, page.request.path_params["tenant"])


async def create(page: Page) -> Response:
    """Create a tenant."""
    name = text_of(await page.form(), "id")
    await page.api.call("POST", "/admin/tenants", json={"id": name})
    return page.go(f"/console/tenants/{name}")


async def change(page: Page) -> Response:
    """Change a tenant's limits."""
    name, form = page.request.path_params["tenant"], await page.form()
    body = {each: _limit(form, each) for each in _LIMITS} | {"suspended": "suspended" in form}
    await page.api.call("PATCH", path("admin", "tenants", name), json=body)
    return await page.say("The limits have changed.", detail="Every replica follows within a second.", changed=True)


async def create_key(page: Page) -> Response:
    """Create a key, and show its secret."""
    name, form = page.request.path_params["tenant"], await page.form()
    body = {"role": text_of(form, "role"), "note": text_of(form, "note")}
    if default_task := text_of(form, "default_task"):
        body["default_task"] = default_task
    if expires := text_of(form, "expires_at"):
        body["expires_at"] = f"{expires}T00:00:00Z"
    made = (await page.api.call("POST", path("admin", "tenants", name, "keys"), json=body)).json()
    return await page.render("_new_key.html", tenant=name, key=made, keys=await _keys(page, name), overlaps=_OVERLAPS)


async def rotate(page: Page) -> Response:
    """Give a key a new secret, and show it."""
    params, form = page.request.path_params, await page.form()
    overlap = text_of(form, "overlap_s")
    body = {"overlap_s": overlap if (number := number_of(overlap)) is None else number}
    url = path("admin", "tenants", params["tenant"], "keys", params["key"], "rotate")
    made = (await page.api.call("POST", url, json=body)).json()
    return await page.render(
        "_new_key.html",
        tenant=params["tenant"],
        key=made,
        keys=await _keys(page, params["tenant"]),
        overlaps=_OVERLAPS,
    )


async def revoke(page: Page) -> Response:
    """Revoke a key for ever."""
    params = page.request.path_params
    await page.api.call("DELETE", path("admin", "tenants", params["tenant"], "keys", params["key"]))
    return await page.say(
        f"The key {params['key']} is revoked.", detail="Every replica rejects it within a second.", changed=True
    )


async def _tenant(page: Page, name: str) -> Response:
    info = await page.api.get(path("admin", "tenants", name))
    usage = await page.api.get("/usage", {"tenant": name if page.can("operator") else None})
    return await page.render(
        "tenant.html",
        tenant=name,
        info=info,
        limits=[(each, info[each], field.description or "") for each, field in _LIMITS.items()],
        keys=await _keys(page, name),
        roles=[role for role in ROLES if includes(page.principal.role, role)],
        total=usage["total"],
        since=usage["since"],
        overlaps=_OVERLAPS,
    )


async def _keys(page: Page, tenant: str) -> list[dict[str, Any]]:
    keys = (await page.api.get(path("admin", "tenants", tenant, "keys")))["keys"]
    return sorted(keys, key=lambda key: key["created_at"], reverse=True)


def _limit(form: FormData, name: str) -> float | int | None:
    text = text_of(form, name).replace(",", "").replace(" ", "")
    if not text:
        return 1.0 if name == "weight" else None
    try:
        value = float(text)
    except ValueError as exc:
        detail = f"{name} is {text!r}, expected a number, or nothing for no limit"
        raise ApiProblem(400, {"code": "invalid_request", "detail": detail}, {}) from exc
    return int(value) if value.is_integer() else value


ROUTES = [
    ViewRoute("GET", "/tenants", show, role="admin"),
    ViewRoute("POST", "/tenants", create, role="operator"),
    ViewRoute("GET", "/tenants/{tenant}", tenant, role="admin"),
    ViewRoute("POST", "/tenants/{tenant}", change, role="operator"),
    ViewRoute("POST", "/tenants/{tenant}/keys", create_key, role="admin"),
    ViewRoute("POST", "/tenants/{tenant}/keys/{key}/rotate", rotate, role="admin"),
    ViewRoute("POST", "/tenants/{tenant}/keys/{key}/revoke", revoke, role="admin"),
]
