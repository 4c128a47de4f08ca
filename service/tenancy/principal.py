"""Who asks: a tenant, by a key that has a role."""

from dataclasses import dataclass
from typing import Literal

from adapters import DEFAULT_TENANT
from service.errors import Forbidden

Role = Literal["classify", "publish", "admin"]

_ROLES: tuple[Role, ...] = ("classify", "publish", "admin")


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose tasks a request may use, and what it may do with them. Each role may do what those before it may."""

    tenant: str
    role: Role
    key_id: str | None
    """The key that was shown; None where the server asks for none."""

    @property
    def actor(self) -> str:
        """How the audit trail names the caller."""
        return "http" if self.key_id is None else f"key:{self.key_id}"

    def require(self, role: Role) -> None:
        """Refuse what takes another role (`Forbidden`)."""
        if _ROLES.index(self.role) < _ROLES.index(role):
            raise Forbidden(f"the key's role is {self.role!r}, this route takes {role!r}")


ANONYMOUS_ADMIN = Principal(DEFAULT_TENANT, "admin", None)
"""Whoever reaches a server that asks for no keys."""
