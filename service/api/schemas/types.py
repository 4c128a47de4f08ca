"""Bases and field types that all schemas share."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from adapters.names import REF_PATTERN

RefText = Annotated[str, Field(max_length=200, json_schema_extra={"pattern": f"^{REF_PATTERN}$"})]


class Schema(BaseModel):
    """A JSON object. Responses are read from the attributes of the service's own values."""

    model_config = ConfigDict(use_attribute_docstrings=True, from_attributes=True)


class RequestSchema(Schema):
    """A request body: unknown fields and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ProblemBody(Schema):
    """RFC 9457 problem details."""

    type: str
    """A URN that identifies the kind of problem."""
    title: str
    """The status in words."""
    status: int
    detail: str
    """The error in this request, with the value and what was expected."""
    code: str
    """Stable name of the kind of problem, for programs."""
    instance: str
    """The path of the request."""
    request_id: str | None


def whole(value: object) -> object:
    """Turn a float without a fraction into an integer; JSON has one type of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(whole)
"""Accepts 3.0 as 3. Must be an integer's last annotation, or OpenAPI loses the bounds."""
Positive = Annotated[int, Field(ge=1), WHOLE]
MAX_VERSION = 999_999_999
"""The largest version number that a ref can name."""
VersionNumber = Annotated[int, Field(ge=1, le=MAX_VERSION), WHOLE]
