"""OpenAPI descriptions that many routes share: responses, and forms without further fields."""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from service.api.schemas.types import ProblemBody


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
            if form := content.get("multipart/form-data"):
                name = form["schema"]["$ref"].rpartition("/")[2]
                document["components"]["schemas"][name]["additionalProperties"] = False
    return document
