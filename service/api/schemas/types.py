"""Whole numbers in JSON, which has no others than numbers: 3.0 is one, "3" and true are not."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from adapters.names import REF_PATTERN

RefText = Annotated[str, Field(json_schema_extra={"pattern": f"^{REF_PATTERN}$"})]


class ProblemBody(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str
    request_id: str | None


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Stands last among an integer's annotations, or its bounds are missing from the document."""
Positive = Annotated[int, Field(ge=1), WHOLE]
MAX_VERSION = 999_999_999
"""As many digits as a ref takes."""
VersionNumber = Annotated[int, Field(ge=1, le=MAX_VERSION), WHOLE]
