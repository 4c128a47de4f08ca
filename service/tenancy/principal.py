"""The principal of a request: a tenant and the role of its key."""

from dataclasses import dataclass
from typing import Literal

from adapters import DEFAULT_TENANT
from service.errors import Forbidden

Role = Literal["classify", "publish", "admin"]

_ROLES: tuple[Role, ...] = ("classify", "publish", "admin")


@dataclass(frozen=True, slots=True)
class Principal:
    """The tenant whose tasks a request may use, and its role, which includes the permissions of all roles before it."""

    tenant: str
    role: Role
    key_id: str | None
    """The key that was sent; None on a server without keys."""

    @property
    def actor(self) -> str:
        """The name in the audit trail."""
        return "http" if self.key_id is None else f"key:{self.key_id}"

    def require(self, role: Role) -> None:
        """Raise `Forbidden` unless the role includes `role`."""
        if _ROLES.index(self.role) < _ROLES.index(role):
            raise Forbidden(f"the key's role is {self.role!r}, this route needs {role!r}")


ANONYMOUS_ADMIN = Principal(DEFAULT_TENANT, "admin", None)
"""The principal of every request to a server without keys."""
