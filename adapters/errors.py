"""The errors of tasks, adapters and the registry.

AdapterError
├── InvalidName           a malformed tenant, task, alias or ref
├── InvalidTask           an invalid task specification
├── InvalidTraffic        an invalid split of traffic
├── InvalidRow            an input that does not fit its task's fields
├── InvalidAdapter        files that fail a check; has the check, the value, and what was expected
└── RegistryError
    ├── NotFound          no such tenant's task, version, alias or digest
    ├── Conflict          the registry is not in the state that the request expects
    ├── LimitReached      the write would exceed a limit of the registry
    ├── PromotionRefused  a version whose metrics are worse than production's, or missing
    └── RegistryUnavailable   the store cannot be read or written
        ├── RegistryReadOnly  it can be read, and the write had no effect
        └── OutcomeUnknown    the write may have taken effect; the message says how to repeat it
"""

from pydantic import ValidationError


class AdapterError(Exception):
    """Base of this package's errors."""


class InvalidName(AdapterError):
    """A name that does not match its pattern."""

    def __init__(self, kind: str, value: str, expected: str) -> None:
        super().__init__(f"{kind} {value!r} is not valid, expected {expected}")
        self.kind, self.value, self.expected = kind, value, expected


class InvalidTask(AdapterError):
    """A task specification that breaks a rule."""


class InvalidTraffic(AdapterError):
    """A traffic split that is impossible."""


class InvalidRow(AdapterError):
    """An input with a missing field, an unknown field, or a value that is not text."""


class InvalidAdapter(AdapterError):
    """Files of an adapter that fail a check."""

    def __init__(self, check: str, value: object, expected: str) -> None:
        super().__init__(f"{check}: got {value if isinstance(value, str) else repr(value)}, expected {expected}")
        self.check, self.value, self.expected = check, value, expected


class NotValidatedInPrecision(InvalidAdapter):
    """An adapter whose labels in a reduced precision were not compared with those in fp32, or differ too often."""


class RowTooLarge(InvalidAdapter):
    """The adapter's rows may be larger than the server's operator allows."""


class RegistryError(AdapterError):
    """Base of a registry's errors."""


class NotFound(RegistryError):
    """The registry does not have it, or it belongs to another tenant."""


class Conflict(RegistryError):
    """The change contradicts the state of the registry, or the state that the caller expected."""


class LimitReached(RegistryError):
    """The task would have too many aliases, or the tenant too many task names."""


class PromotionRefused(RegistryError):
    """A version that is worse than production, or cannot be compared with it; None stands for a missing metric."""

    def __init__(
        self,
        metric: str,
        *,
        candidate: float | None,
        current: float | None,
        reason: str = "",
        remedy: str = "use --force (over HTTP, force: true)",
    ) -> None:
        offered = "has none" if candidate is None else f"has {candidate:g}"
        held = "has none" if current is None else f"{current:g}"
        because = f" ({reason})" if reason else ""
        super().__init__(
            f"{metric}: the version {offered}, production {held}{because}; to promote it regardless, {remedy}"
        )
        self.metric, self.candidate, self.current = metric, candidate, current


class RegistryUnavailable(RegistryError):
    """The store cannot be reached, read or written at present."""


class RegistryReadOnly(RegistryUnavailable):
    """The store can be read but not written at present; the write had no effect."""


class OutcomeUnknown(RegistryUnavailable):
    """The store did not confirm a write, which may have taken effect."""


def first_error(exc: ValidationError) -> tuple[str, str, str]:
    """Return a pydantic error as people read it: the place (`task.labels.0.name`), its value, and what is wrong."""
    error = exc.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in error["loc"]) or "(whole)"
    value = "nothing" if error["type"] == "missing" else repr(error.get("input"))[:200]
    message = error["msg"].removeprefix("Value error, ")
    return where, value, message[0].lower() + message[1:]
