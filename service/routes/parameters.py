"""What stands in paths and queries, documented by its pattern.

Names are refused where they are used, with their own problem.
"""

from typing import Annotated

from fastapi import Path, Query
from pydantic import Field

from adapters.names import ALIAS_PATTERN, DIGEST_PATTERN, NAME_PATTERN, REF_PATTERN
from service.json_numbers import MAX_VERSION

RefPath = Annotated[
    str,
    Path(
        description="`task` (its production version), `task@3`, `task@alias` or `task@sha256:…`",
        examples=["sst2"],
        json_schema_extra={"pattern": f"^{REF_PATTERN}$"},
    ),
]
TaskPath = Annotated[str, Path(examples=["sst2"], json_schema_extra={"pattern": f"^{NAME_PATTERN}$"})]
AliasPath = Annotated[str, Path(examples=["canary"], json_schema_extra={"pattern": f"^{ALIAS_PATTERN}$"})]
VersionPath = Annotated[int, Path(ge=1, le=MAX_VERSION, examples=[1])]
Digest = Annotated[str, Field(pattern=f"^{DIGEST_PATTERN}$")]
FilePath = Annotated[str, Path(examples=["superpos.json"])]

Since = Annotated[int, Query(ge=0, le=1 << 53, description="a position in the log: only what came after it")]
Limit = Annotated[int, Query(ge=1, le=1_000, description="entries at most")]
