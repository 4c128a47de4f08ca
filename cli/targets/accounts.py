"""Tenants and keys, behind a running server or in the store of a registry that no server needs to run for."""

from typing import Protocol, TypeVar, cast

from pydantic import BaseModel, ValidationError

from adapters.errors import first_error
from adapters.storage.opening import open_storage
from cli.console import CommandError
from cli.targets.opening import is_address, require_registry
from cli.targets.server import open_client
from service.api.schemas.admin import (
    KeyBody,
    KeyChange,
    KeyRequest,
    NewKeyBody,
    RotateRequest,
    TenantBody,
    TenantChange,
    TenantRequest,
)
from service.tenancy.accounts import Accounts, open_accounts
from service.tenancy.models import TenantInfo
from superpos_client import Client
from superpos_client.resources import TenantLimits

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

    def update_key(self, tenant: str, key: str, body: KeyChange) -> KeyBody: ...

    def rotate_key(self, tenant: str, key: str, body: RotateRequest) -> NewKeyBody: ...

    def revoke_key(self, tenant: str, key: str) -> None: ...


def open_account_target(location: str, key: str | None) -> AccountTarget:
    """Open the accounts of a server, for an administrator's or an operator's key, or those of an existing registry."""
    if is_address(location):
        return ServerAccounts(open_client(location, key))
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
    """Accounts of a running server, through its Python client."""

    def __init__(self, client: Client) -> None:
        self._tenants, self._keys = client.tenants, client.keys

    def tenants(self) -> list[TenantBody]:
        return list(map(TenantBody.model_validate, self._tenants.list()))

    def create_tenant(self, body: TenantRequest) -> TenantBody:
        given = body.model_dump(exclude_unset=True, exclude={"id"})
        return TenantBody.model_validate(self._tenants.create(body.id, **cast(TenantLimits, given)))

    def update_tenant(self, tenant: str, body: TenantChange) -> TenantBody:
        given = body.model_dump(exclude_unset=True)
        return TenantBody.model_validate(self._tenants.update(tenant, **cast(TenantLimits, given)))

    def delete_tenant(self, tenant: str) -> None:
        self._tenants.delete(tenant)

    def keys(self, tenant: str) -> list[KeyBody]:
        return list(map(KeyBody.model_validate, self._keys.list(tenant)))

    def create_key(self, tenant: str, body: KeyRequest) -> NewKeyBody:
        given = body.model_dump(exclude={"role"})
        return NewKeyBody.model_validate(self._keys.create(tenant, body.role, **given))

    def update_key(self, tenant: str, key: str, body: KeyChange) -> KeyBody:
        return KeyBody.model_validate(self._keys.update(tenant, key, default_task=body.default_task))

    def rotate_key(self, tenant: str, key: str, body: RotateRequest) -> NewKeyBody:
        return NewKeyBody.model_validate(self._keys.rotate(tenant, key, overlap_s=body.overlap_s))

    def revoke_key(self, tenant: str, key: str) -> None:
        self._keys.revoke(tenant, key)


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

    def update_key(self, tenant: str, key: str, body: KeyChange) -> KeyBody:
        return KeyBody.model_validate(self._accounts.update_key(tenant, key, actor=_ACTOR, **body.model_dump()))

    def rotate_key(self, tenant: str, key: str, body: RotateRequest) -> NewKeyBody:
        return NewKeyBody.shown(self._accounts.rotate_key(tenant, key, actor=_ACTOR, **body.model_dump()))

    def revoke_key(self, tenant: str, key: str) -> None:
        self._accounts.revoke_key(tenant, key, actor=_ACTOR)
