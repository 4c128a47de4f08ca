"""The console's routes and error pages: an application of its own inside the server's."""

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from service.api.problems import PROBLEM_TYPES, problem_of
from service.console.access import Access, check_origin
from service.console.api import Api, ApiProblem
from service.console.cards import VersionCards
from service.console.file_scoring import ScoringRuns
from service.console.live import LiveFeed
from service.console.page import Console, endpoint, layout, text_of
from service.console.pages import PageMiddleware, Pages
from service.console.sessions import open_sessions
from service.console.views import VIEWS
from service.errors import RateLimited, Unauthenticated
from service.runtime import Runtime
from service.telemetry.request_record import current_record

_SIGN_IN = "/console/sign-in"


def build_console(app: FastAPI, runtime: Runtime) -> Starlette:
    """Build the console, to be mounted at `/console`.

    Args:
        app: the server's application with all routes and error handlers of the API
        runtime: its components
    """
    access = Access(
        open_sessions(runtime.storage), runtime.tenancy.account_cache, require_keys=runtime.settings.require_keys
    )
    console = Console(
        Pages(), access, Api(app, runtime.tenancy.quotas), runtime, VersionCards(), LiveFeed(runtime), ScoringRuns()
    )
    doors = _Doors(console)
    routes = [
        Route("/sign-in", doors.show, methods=["GET"]),
        Route("/sign-in", doors.sign_in, methods=["POST"]),
        Route("/sign-out", doors.sign_out, methods=["POST"]),
        Route("/static/{path:path}", doors.static, methods=["GET"]),
        *(
            Route(
                each.path,
                endpoint(console, each.view, role=each.role, body=each.body, relays=each.relays),
                methods=[each.method],
            )
            for each in VIEWS
        ),
    ]
    handlers = dict.fromkeys([ApiProblem, HTTPException, *PROBLEM_TYPES], doors.problem)
    return Starlette(routes=routes, middleware=[Middleware(PageMiddleware)], exception_handlers=handlers)


class _Doors:
    """Pages without a session: sign-in, static files, error pages."""

    def __init__(self, console: Console) -> None:
        self._console, self._pages = console, console.pages

    async def static(self, request: Request) -> Response:
        response = self._pages.static.response(request.path_params["path"], request)
        if response is None:
            raise HTTPException(404)
        return response

    async def show(self, request: Request) -> Response:
        """Show the form, or redirect a person who is signed in."""
        try:
            await self._console.access.visit(request)
        except Unauthenticated:
            return await self._form(request, "", then=request.query_params.get("next", ""))
        return RedirectResponse(_next(request.query_params.get("next", "")), 303)

    async def sign_in(self, request: Request) -> Response:
        check_origin(request)
        form = await request.form()
        response: Response = RedirectResponse(_next(text_of(form, "next")), 303)
        try:
            principal = await self._console.access.sign_in(
                text_of(form, "key"), response, secure=request.url.scheme == "https"
            )
            await self._count(principal.tenant)
        except (Unauthenticated, RateLimited) as exc:
            record = current_record()
            record.error, record.code = exc, problem_of(exc).code
            return await self._form(request, str(exc), status=problem_of(exc).status, then=text_of(form, "next"))
        return response

    async def _count(self, tenant: str) -> None:
        quotas = self._console.runtime.tenancy.quotas
        await quotas.leave(tenant, await quotas.enter(tenant))

    async def sign_out(self, request: Request) -> Response:
        check_origin(request)
        response = RedirectResponse(_SIGN_IN, 303)
        await self._console.access.sign_out(request, response)
        return response

    async def problem(self, request: Request, exc: Exception) -> Response:
        """Show an error: as a page, or as a message within one."""
        if isinstance(exc, Unauthenticated):
            return await self._lead_to_sign_in(request)
        record = current_record()
        if isinstance(exc, ApiProblem):
            status, code, detail, body = exc.status, exc.code, str(exc), exc.body
        elif isinstance(exc, HTTPException):
            status, code, detail, body = exc.status_code, "not_found", "the console has no such page", {}
        else:
            problem = problem_of(exc)
            status, code, detail, body = problem.status, problem.code, problem.detail, dict(problem.extra)
            record.error = exc
        record.code = code
        values = {
            "status": status,
            "code": code,
            "message": detail,
            "body": body,
            "request_id": record.request_id,
        }
        if "HX-Request" in request.headers:
            # 200: otherwise htmx and the browser would report a failure of the page
            headers = {"HX-Retarget": "#message", "HX-Reswap": "innerHTML", "X-Superpos-Status": str(status)}
            return await self._pages.render("_problem.html", values, headers=headers)
        try:
            visit = await self._console.access.visit(request)
        except Exception:  # noqa: BLE001 - the store of sessions may be what is down
            visit = None
        return await self._pages.render("problem.html", {**layout(request, visit), **values}, status=status)

    async def _lead_to_sign_in(self, request: Request) -> Response:
        if request.headers.get("Sec-Fetch-Site") == "cross-site" and request.method == "GET":
            # a link on another site: the browser sends the session's cookie only from a page of this one
            return await self._pages.render("again.html", layout(request, None))
        here = str(layout(request, None)["here"]) if request.method == "GET" else "/console"
        url = f"{_SIGN_IN}?next={here}"
        if "HX-Request" in request.headers:
            return Response(headers={"HX-Redirect": _SIGN_IN})
        return RedirectResponse(url, 303)

    async def _form(self, request: Request, refusal: str, *, then: str, status: int = 200) -> Response:
        values = {"refusal": refusal, "next": then}
        return await self._pages.render("sign_in.html", {**layout(request, None), **values}, status=status)


def _next(asked: str) -> str:
    """Return where to go after the sign-in: a page of the console, whatever the address says."""
    is_ours = asked.startswith("/console") and "//" not in asked and "\\" not in asked and asked.isprintable()
    return asked if is_ours else "/console"
