"""Extension of schemathesis: an additional check, and a record of the status of each operation's responses."""

import atexit
import json
import os
import re
from collections import Counter
from pathlib import Path

import schemathesis

RECORD = "SUPERPOS_CONFORMANCE_RECORD"
"""Environment variable with the path of the record: {"GET /tasks": {"200": 12}}."""

_BY_THE_SCHEMA = re.compile(r"(body|path|query|header)(\.|:)")
_answers: dict[str, Counter[str]] = {}


@schemathesis.hook
def after_call(ctx: schemathesis.HookContext, case: schemathesis.Case, response: schemathesis.Response) -> None:
    """Count the status of a response to an operation's own method."""
    if case.method.upper() == case.operation.method.upper():
        _answers.setdefault(case.operation.label, Counter())[str(response.status_code)] += 1


@schemathesis.check
def valid_data_passes_the_schema(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """Check that data which the document allows is refused for its meaning at most, never for its form."""
    if response.status_code not in (400, 422) or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    refusal = _detail(response.json())
    if _BY_THE_SCHEMA.match(refusal):
        raise AssertionError(f"refused by its form, which the document allows: {refusal}")


def _detail(body: dict[str, object]) -> str:
    error = body.get("detail") or body.get("error")
    return str(error.get("message")) if isinstance(error, dict) else str(error)


@atexit.register
def _write() -> None:
    if RECORD in os.environ and _answers:
        Path(os.environ[RECORD]).write_text(json.dumps(_answers), encoding="utf-8")
