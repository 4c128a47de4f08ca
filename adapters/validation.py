"""Turns a pydantic `ValidationError` into the one line that people read: where, the value, what is wrong."""

from pydantic import ValidationError


def first_error(exc: ValidationError) -> tuple[str, str, str]:
    """The first error's place (`task.labels.0.name`), its value in at most 200 characters, and the message."""
    error = exc.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in error["loc"]) or "(whole)"
    value = "nothing" if error["type"] == "missing" else repr(error.get("input"))[:200]
    message = error["msg"].removeprefix("Value error, ")
    return where, value, message[0].lower() + message[1:]
