"""Whole numbers in JSON, which has no others than numbers: 3.0 is one, "3" and true are not."""

from typing import Annotated

from pydantic import BeforeValidator, Field


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Stands last among an integer's annotations, or its bounds are missing from the document."""
Positive = Annotated[int, Field(ge=1), WHOLE]
MAX_VERSION = 999_999_999
"""As many digits as a ref takes."""
VersionNumber = Annotated[int, Field(ge=1, le=MAX_VERSION), WHOLE]
