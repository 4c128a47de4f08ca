"""OpenAPI descriptions that many routes share: responses, keys, and forms without further fields."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel

from service.api.middleware.authentication import API_KEY
from service.api.request_body import FORM
from service.api.schemas.types import ProblemBody

_KEY_SCHEMES = {
    "HTTPBearer": {"type": "http", "scheme": "bearer", "description": "a key: `sp_<id>_<secret>`"},
    "APIKeyHeader": {"type": "apiKey", "in": "header", "name": API_KEY, "description": "the same key"},
}


def not_modified() -> dict[int | str, Any]:
    """Describe a read whose response may be 304 without a body."""
    return {304: {"description": HTTPStatus.NOT_MODIFIED.phrase}}


def errors(body: type[BaseModel], *statuses: int, media_type: str = "application/json") -> dict[int | str, Any]:
    """Describe the error responses of a route."""
    content = {media_type: {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}}
    return {
        status: {"model": body, "description": HTTPStatus(status).phrase, "content": content} for status in statuses
    }


def problems(*statuses: int) -> dict[int | str, Any]:
    """Describe the error responses of a native route."""
    return errors(ProblemBody, *statuses, media_type="application/problem+json")


def close_forms(document: dict[str, Any]) -> dict[str, Any]:
    """Declare that no form has further fields, as `StrictRoute` has it; the framework's schemas leave that open."""
    for operations in document["paths"].values():
        for operation in operations.values():
            content = operation.get("requestBody", {}).get("content", {})
            if form := content.get(FORM):
                name = form["schema"]["$ref"].rpartition("/")[2]
                document["components"]["schemas"][name]["additionalProperties"] = False
    return document


def state_keys(document: dict[str, Any], keyed: Iterable[APIRoute]) -> None:
    """Declare that these routes require a key, in either header. `AuthenticationMiddleware` reads both."""
    document["components"]["securitySchemes"] = _KEY_SCHEMES
    for route in keyed:
        if route.include_in_schema:
            for method in route.methods or ():
                document["paths"][route.path_format][method.lower()]["security"] = [{name: []} for name in _KEY_SCHEMES]
