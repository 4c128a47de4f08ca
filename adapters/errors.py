"""The errors of tasks, adapters and the registry.

AdapterError
├── InvalidName           a tenant, task, alias or ref that is not well formed
├── InvalidTask           a task specification that cannot be built
├── InvalidTraffic        a canary percentage that cannot be
├── InvalidRow            an input that does not fit its task's fields
├── InvalidAdapter        files that are not one of our adapters; says which check, the value, what was expected
└── RegistryError
    ├── NotFound          no such tenant's task, version, alias or digest
    ├── Conflict          the registry is not in the state that the caller expected
    ├── PromotionRefused  a version whose figures are worse than production's, or missing
    └── RegistryUnavailable   the store behind it cannot be read or written
"""

from pydantic import ValidationError


class AdapterError(Exception):
    """Anything that this package refuses."""


class InvalidName(AdapterError):
    """A name outside its pattern."""

    def __init__(self, kind: str, value: str, expected: str) -> None:
        super().__init__(f"{kind} {value!r} is not valid, expected {expected}")
        self.kind, self.value, self.expected = kind, value, expected


class InvalidTask(AdapterError):
    """A task specification that breaks a rule."""


class InvalidTraffic(AdapterError):
    """A traffic split that cannot be carried out."""


class InvalidRow(AdapterError):
    """An input that lacks a field of its task, has one too many, or has one that is not text."""


class InvalidAdapter(AdapterError):
    """Files that fail a check."""

    def __init__(self, check: str, value: object, expected: str) -> None:
        super().__init__(f"{check}: got {value if isinstance(value, str) else repr(value)}, expected {expected}")
        self.check, self.value, self.expected = check, value, expected


class RegistryError(AdapterError):
    """Anything that a registry refuses."""


class NotFound(RegistryError):
    """The thing named is not in the registry, or is another tenant's."""


class Conflict(RegistryError):
    """The change would break what the registry holds, or what the caller expected of it."""


class PromotionRefused(RegistryError):
    """A version that does not show that it is as good as production's; None where a card lacks the figure."""

    def __init__(self, metric: str, *, candidate: float | None, current: float | None) -> None:
        offered = "has none" if candidate is None else f"has {candidate:g}"
        held = "has none" if current is None else f"{current:g}"
        super().__init__(f"{metric}: the version {offered}, production {held}; a promotion may be forced")
        self.metric, self.candidate, self.current = metric, candidate, current


class RegistryUnavailable(RegistryError):
    """The store cannot be reached, read or written now."""


def first_error(exc: ValidationError) -> tuple[str, str, str]:
    """Return a pydantic error as people read it: the place (`task.labels.0.name`), its value, and what is wrong."""
    error = exc.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in error["loc"]) or "(whole)"
    value = "nothing" if error["type"] == "missing" else repr(error.get("input"))[:200]
    message = error["msg"].removeprefix("Value error, ")
    return where, value, message[0].lower() + message[1:]
