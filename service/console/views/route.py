"""A route of the console."""

from dataclasses import dataclass

from service.api.request_body import BodySize
from service.console.page import View
from service.tenancy.principal import Role


@dataclass(frozen=True, slots=True)
class ViewRoute:
    """Method and path below `/console`, the view, and who may see it."""

    method: str
    path: str
    view: View
    role: Role = "classify"
    """The smallest role; each call of the API checks the role again."""
    body: BodySize = "small"
    relays: bool = False
    """Whether the view passes the body on unread; the form's token is then in its header."""
