"""The principal of a request: a tenant and the role of its key."""

from dataclasses import dataclass
from typing import Literal, get_args

from adapters import DEFAULT_TENANT
from service.errors import Forbidden

Role = Literal["classify", "publish", "admin", "operator"]
"""`admin` manages its own tenant, `operator` the platform; operators' keys belong to the default tenant."""

ROLES: tuple[Role, ...] = get_args(Role)
"""Weakest first. Each includes the permissions of all roles before it."""


def includes(role: Role, other: Role) -> bool:
    """Return whether a role has all permissions of another."""
    return ROLES.index(role) >= ROLES.index(other)


@dataclass(frozen=True, slots=True)
class Principal:
    """The tenant whose tasks a request may use, and its role."""

    tenant: str
    role: Role
    key_id: str | None
    """The key that was sent; None on a server without keys."""
    default_task: str | None = None
    """Ref of the task that answers the key's requests that name none."""

    @property
    def actor(self) -> str:
        """The name in the audit trail."""
        return "http" if self.key_id is None else f"key:{self.key_id}"

    def require(self, role: Role) -> None:
        """Raise `Forbidden` unless the role includes `role`."""
        if not includes(self.role, role):
            raise Forbidden(f"the key's role is {self.role!r}, this route needs {role!r}")

    def manages(self, tenant: str) -> bool:
        """Return whether the principal may manage a tenant's keys and read its limits and its audit log."""
        return self.role == "operator" or (self.role == "admin" and self.tenant == tenant)


ANONYMOUS_OPERATOR = Principal(DEFAULT_TENANT, "operator", None)
"""The principal of every request to a server without keys."""
