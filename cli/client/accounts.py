"""Where tenants and keys are kept: behind a running server, or beside a registry itself. One face, values as JSON."""

from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from adapters.storage.opening import open_storage
from cli.client.targets import Server, is_address
from cli.console import CommandError
from service.api.schemas.admin import (
    KeyBody,
    KeyRequest,
    NewKeyBody,
    RotateRequest,
    TenantBody,
    TenantChange,
    TenantRequest,
)
from service.tenancy.accounts import Accounts, open_accounts
from service.tenancy.models import TenantInfo

Json = dict[str, Any]
_ACTOR = "cli"


class AccountTarget(Protocol):
    """Tenants and keys; takes and gives the bodies of `/admin`."""

    def tenants(self) -> list[Json]:
        """Every tenant."""
        ...

    def create_tenant(self, body: Json) -> Json:
        """Make a tenant."""
        ...

    def update_tenant(self, tenant: str, body: Json) -> Json:
        """Set something of a tenant."""
        ...

    def delete_tenant(self, tenant: str) -> None:
        """Remove a tenant and its keys."""
        ...

    def keys(self, tenant: str) -> list[Json]:
        """A tenant's keys."""
        ...

    def create_key(self, tenant: str, body: Json) -> Json:
        """Make a key."""
        ...

    def rotate_key(self, tenant: str, key: str, body: Json) -> Json:
        """Give a key a new secret."""
        ...

    def revoke_key(self, tenant: str, key: str) -> None:
        """Remove a key."""
        ...


def open_account_target(place: str, key: str | None) -> AccountTarget:
    """A server's accounts, asked with an administrator's key, or those beside a registry that is there already."""
    if is_address(place):
        return ServerAccounts(Server(place, key))
    if "://" not in place and not Path(place).is_file():
        raise CommandError(f"registry {place}: no such file; 'superpos serve --registry {place}' makes it")
    return DirectAccounts(open_accounts(open_storage(place)))


class ServerAccounts:
    """Over `/admin`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def tenants(self) -> list[Json]:
        return list(self._ask("GET", "")["tenants"])

    def create_tenant(self, body: Json) -> Json:
        return self._ask("POST", "", TenantRequest.model_validate(body))

    def update_tenant(self, tenant: str, body: Json) -> Json:
        return self._ask("PATCH", f"/{tenant}", TenantChange.model_validate(body))

    def delete_tenant(self, tenant: str) -> None:
        self._server.request("DELETE", f"/admin/tenants/{tenant}")

    def keys(self, tenant: str) -> list[Json]:
        return list(self._ask("GET", f"/{tenant}/keys")["keys"])

    def create_key(self, tenant: str, body: Json) -> Json:
        return self._ask("POST", f"/{tenant}/keys", KeyRequest.model_validate(body))

    def rotate_key(self, tenant: str, key: str, body: Json) -> Json:
        return self._ask("POST", f"/{tenant}/keys/{key}/rotate", RotateRequest.model_validate(body))

    def revoke_key(self, tenant: str, key: str) -> None:
        self._server.request("DELETE", f"/admin/tenants/{tenant}/keys/{key}")

    def _ask(self, method: str, path: str, body: BaseModel | None = None) -> Json:
        given = {} if body is None else {"json": body.model_dump(mode="json", exclude_unset=True)}
        answer = self._server.request(method, f"/admin/tenants{path}", **given)
        return dict(answer.json())


class DirectAccounts:
    """In the store itself: for the first key, and for when no server runs. Servers see it within a second."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def tenants(self) -> list[Json]:
        return [TenantBody.model_validate(tenant).model_dump(mode="json") for tenant in self._accounts.tenants()]

    def create_tenant(self, body: Json) -> Json:
        asked = TenantRequest.model_validate(body)
        made = self._accounts.create_tenant(TenantInfo(**asked.model_dump()), actor=_ACTOR)
        return TenantBody.model_validate(made).model_dump(mode="json")

    def update_tenant(self, tenant: str, body: Json) -> Json:
        change = TenantChange.model_validate(body)
        made = self._accounts.update_tenant(tenant, change.apply_to, actor=_ACTOR)
        return TenantBody.model_validate(made).model_dump(mode="json")

    def delete_tenant(self, tenant: str) -> None:
        self._accounts.delete_tenant(tenant, actor=_ACTOR)

    def keys(self, tenant: str) -> list[Json]:
        return [KeyBody.model_validate(key).model_dump(mode="json") for key in self._accounts.keys(tenant)]

    def create_key(self, tenant: str, body: Json) -> Json:
        asked = KeyRequest.model_validate(body)
        made = self._accounts.create_key(tenant, asked.role, actor=_ACTOR, expires_at=asked.expires_at, note=asked.note)
        return NewKeyBody.shown(made).model_dump(mode="json")

    def rotate_key(self, tenant: str, key: str, body: Json) -> Json:
        asked = RotateRequest.model_validate(body)
        made = self._accounts.rotate_key(tenant, key, actor=_ACTOR, overlap_s=asked.overlap_s)
        return NewKeyBody.shown(made).model_dump(mode="json")

    def revoke_key(self, tenant: str, key: str) -> None:
        self._accounts.revoke_key(tenant, key, actor=_ACTOR)
