"""A request of a view: the person, the API and the form; and its responses: a page, a fragment or a message."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from service.api.request_body import BODY_LIMIT, BodySize, body_limit
from service.console.access import CSRF_FIELD, CSRF_HEADER, Access, Visit, check_origin, check_token
from service.console.api import Api, Caller
from service.console.cards import VersionCards
from service.console.file_scoring import ScoringRuns
from service.console.live import LiveFeed
from service.console.pages import Pages
from service.runtime import Runtime
from service.tenancy.principal import Principal, Role, includes

CHANGED = "changed"
"""The event that makes the page's main part load itself again."""


_MAX_DIGITS = 15


@dataclass(frozen=True, slots=True)
class Console:
    """The console's components."""

    pages: Pages
    access: Access
    api: Api
    runtime: Runtime
    cards: VersionCards
    live: LiveFeed
    scoring: ScoringRuns


@dataclass(frozen=True, slots=True)
class Page:
    """One request to the console by a person who is signed in."""

    console: Console
    request: Request
    visit: Visit
    api: Caller

    @property
    def principal(self) -> Principal:
        """The person's tenant and role."""
        return self.visit.principal

    @property
    def is_fragment(self) -> bool:
        """Whether htmx asks for a part of the page."""
        return "HX-Request" in self.request.headers

    def can(self, role: Role) -> bool:
        """Return whether the person has the permissions of a role."""
        return includes(self.principal.role, role)

    def query(self, name: str, default: str = "") -> str:
        """Return a query parameter."""
        return self.request.query_params.get(name, default)

    async def form(self) -> FormData:
        """Return the form that was sent."""
        return await self.request.form()

    async def render(self, template: str, **values: Any) -> Response:
        """Return a page or a fragment."""
        return await self.console.pages.render(template, {**self._layout(), **values})

    async def text(self, template: str, **values: Any) -> str:
        """Return a fragment as text."""
        return await self.console.pages.text(template, values)

    async def say(self, message: str, *, detail: str = "", changed: bool = False) -> Response:
        """Report in the page's message area that something was done.

        Args:
            message: what was done
            detail: what follows from it
            changed: let the page load its main part again
        """
        if not self.is_fragment:
            return RedirectResponse(self.request.headers.get("Referer", "/console/"), 303)
        headers = {"HX-Retarget": "#message", "HX-Reswap": "innerHTML"} | ({"HX-Trigger": CHANGED} if changed else {})
        return await self.console.pages.render("_message.html", {"message": message, "detail": detail}, headers=headers)

    def go(self, url: str) -> Response:
        """Lead the browser to another page of the console."""
        return Response(headers={"HX-Redirect": url}) if self.is_fragment else RedirectResponse(url, 303)

    def _layout(self) -> dict[str, Any]:
        return layout(self.request, self.visit)


def layout(request: Request, visit: Visit | None) -> dict[str, Any]:
    """Return what every page's frame shows."""
    principal = None if visit is None else visit.principal
    query = request.url.query
    return {
        "principal": principal,
        "can": lambda role: principal is not None and includes(principal.role, role),
        "csrf_token": "" if visit is None else visit.csrf_token,
        "has_keys": principal is None or principal.key_id is not None,
        "here": request.url.path + (f"?{query}" if query else ""),
        "where": request.url.path,
        "base_url": str(request.base_url).split("/console")[0].rstrip("/"),
    }


View = Callable[[Page], Awaitable[Response]]


def endpoint(
    console: Console, view: View, *, role: Role = "classify", body: BodySize = "small", relays: bool = False
) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of a view for people with a role.

    Args:
        console: the components
        view: makes the response
        role: smallest role; the API's routes check theirs in any case
        body: how large the form may be
        relays: whether the view passes the body on unread
    """

    async def respond(request: Request) -> Response:
        try:
            return await answer(request)
        finally:
            await request.close()  # files of a form

    async def answer(request: Request) -> Response:
        visit = await console.access.visit(request)
        visit.principal.require(role)
        request.scope["state"][BODY_LIMIT] = body_limit(body, console.runtime.settings)
        if request.method not in ("GET", "HEAD"):
            check_origin(request)
            token = request.headers.get(CSRF_HEADER)
            if token is None and not relays:
                token = str((await request.form()).get(CSRF_FIELD, ""))
            check_token(token, visit)
        async with console.api.as_principal(request, visit.principal) as caller:
            return await view(Page(console, request, visit, caller))

    return respond


def number_of(text: str) -> int | None:
    """Return a whole number of at most 15 digits; None for any other text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None


def text_of(form: FormData, name: str) -> str:
    """Return a text field of a form without surrounding blanks; empty if it is missing."""
    value = form.get(name, "")
    return value.strip() if isinstance(value, str) else ""
