"""Tenants and keys, behind a running server or in the store of a registry that no server needs to run for."""

from typing import Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from adapters.errors import first_error
from adapters.storage.opening import open_storage
from cli.client.targets import Server, is_address, require_registry
from cli.console import CommandError
from service.api.schemas.admin import (
    KeyBody,
    KeyList,
    KeyRequest,
    NewKeyBody,
    RotateRequest,
    TenantBody,
    TenantChange,
    TenantList,
    TenantRequest,
)
from service.tenancy.accounts import Accounts, open_accounts
from service.tenancy.models import TenantInfo

_ACTOR = "cli"

Model = TypeVar("Model", bound=BaseModel)


class AccountTarget(Protocol):
    """Reads and changes tenants and keys, with the request and response bodies of `/admin`."""

    def tenants(self) -> list[TenantBody]: ...

    def create_tenant(self, body: TenantRequest) -> TenantBody: ...

    def update_tenant(self, tenant: str, body: TenantChange) -> TenantBody: ...

    def delete_tenant(self, tenant: str) -> None: ...

    def keys(self, tenant: str) -> list[KeyBody]: ...

    def create_key(self, tenant: str, body: KeyRequest) -> NewKeyBody: ...

    def rotate_key(self, tenant: str, key: str, body: RotateRequest) -> NewKeyBody: ...

    def revoke_key(self, tenant: str, key: str) -> None: ...


def open_account_target(location: str, key: str | None) -> AccountTarget:
    """Open the accounts of a server, for an administrator's or an operator's key, or those of an existing registry."""
    if is_address(location):
        return ServerAccounts(Server(location, key))
    require_registry(location)
    return DirectAccounts(open_accounts(open_storage(location)))


def validated(model: type[Model], **values: object) -> Model:
    """Build a request body, or raise `CommandError` naming the first invalid value."""
    try:
        return model.model_validate(values)
    except ValidationError as exc:
        where, value, message = first_error(exc)
        raise CommandError(f"{where} is {value}: {message}") from exc


class ServerAccounts:
    """Accounts over a server's `/admin` routes."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def tenants(self) -> list[TenantBody]:
        return self._request(TenantList, "GET").tenants

    def create_tenant(self, body: TenantRequest) -> TenantBody:
        return self._request(TenantBody, "POST", body=body)

    def update_tenant(self, tenant: str, body: TenantChange) -> TenantBody:
        return self._request(TenantBody, "PATCH", tenant, body=body)

    def delete_tenant(self, tenant: str) -> None:
        self._server.request("DELETE", "admin", "tenants", tenant)

    def keys(self, tenant: str) -> list[KeyBody]:
        return self._request(KeyList, "GET", tenant, "keys").keys

    def create_key(self, tenant: str, body: KeyRequest) -> NewKeyBody:
        return self._request(NewKeyBody, "POST", tenant, "keys", body=body)

    def rotate_key(self, tenant: str, key: str, body: RotateRequest) -> NewKeyBody:
        return self._request(NewKeyBody, "POST", tenant, "keys", key, "rotate", body=body)

    def revoke_key(self, tenant: str, key: str) -> None:
        self._server.request("DELETE", "admin", "tenants", tenant, "keys", key)

    def _request(self, model: type[Model], method: str, *path: str, body: BaseModel | None = None) -> Model:
        sent = {} if body is None else {"json": body.model_dump(mode="json", exclude_unset=True)}
        response = self._server.request(method, "admin", "tenants", *path, **sent)
        return model.model_validate_json(response.content)


class DirectAccounts:
    """Accounts in the store itself: for the first key, and while no server runs. Servers follow within a second."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def tenants(self) -> list[TenantBody]:
        return [TenantBody.model_validate(tenant) for tenant in self._accounts.tenants()]

    def create_tenant(self, body: TenantRequest) -> TenantBody:
        return TenantBody.model_validate(self._accounts.create_tenant(TenantInfo(**body.model_dump()), actor=_ACTOR))

    def update_tenant(self, tenant: str, body: TenantChange) -> TenantBody:
        return TenantBody.model_validate(self._accounts.update_tenant(tenant, body.apply_to, actor=_ACTOR))

    def delete_tenant(self, tenant: str) -> None:
        self._accounts.delete_tenant(tenant, actor=_ACTOR)

    def keys(self, tenant: str) -> list[KeyBody]:
        return [KeyBody.model_validate(key) for key in self._accounts.keys(tenant)]

    def create_key(self, tenant: str, body: KeyRequest) -> NewKeyBody:
        return NewKeyBody.shown(self._accounts.create_key(tenant, actor=_ACTOR, **body.model_dump()))

    def rotate_key(self, tenant: str, key: str, body: RotateRequest) -> NewKeyBody:
        return NewKeyBody.shown(self._accounts.rotate_key(tenant, key, actor=_ACTOR, **body.model_dump()))

    def revoke_key(self, tenant: str, key: str) -> None:
        self._accounts.revoke_key(tenant, key, actor=_ACTOR)
