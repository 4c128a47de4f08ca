"""Structured logs on standard error.

They never contain a text that a caller sent, a key, or a path that is not a route. Log records of libraries take the
same shape without the messages of their exceptions, which may quote a caller.
"""

import logging
import sys
import time
import traceback
from typing import Literal

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from adapters.printable import visible

LogFormat = Literal["json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]
_SILENT = ("opentelemetry",)
"""Libraries whose errors we log ourselves, once per outage."""
_INTERVAL_S = 10.0
"""Seconds between two entries of an event that any client can cause."""


class RateLimitedLog:
    """Logs events that any client can cause at most once per interval each, with a count.

    Not thread-safe.
    """

    def __init__(self, *, interval_s: float = _INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._next: dict[str, float] = {}
        self._times: dict[str, int] = {}

    def warning(self, event: str, **fields: object) -> None:
        """Log an event, unless it was logged within the interval."""
        if (times := self.count(event)) > 0:
            structlog.get_logger("service").warning(event, times=times, **fields)

    def count(self, event: str) -> int:
        """Count an event; return how often it occurred since it was last logged, or 0 if it must not be logged now."""
        self._times[event] = times = self._times.get(event, 0) + 1
        now = time.monotonic()
        if now < self._next.get(event, 0.0):
            return 0
        self._next[event], self._times[event] = now + self._interval_s, 0
        return times


class _RateLimit(logging.Filter):
    """Drops repeated warnings of a library about its clients."""

    def __init__(self) -> None:
        super().__init__()
        self._log = RateLimitedLog()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno != logging.WARNING or self._log.count(str(record.msg)) > 0


def configure_logging(log_format: LogFormat, level: LogLevel = "info") -> None:
    """Configure structlog for this process; called once, by the entry point."""
    renderer: Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    final: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _visible,
        renderer,
    ]
    foreign: list[Processor] = [*shared, structlog.stdlib.add_logger_name, _without_quotes]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=foreign, processors=final))
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)
    for own in ("service", "trainer"):
        logging.getLogger(own).setLevel(number)
    server = logging.getLogger("uvicorn.error")
    server.filters[:] = [_RateLimit()]
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _visible(_: WrappedLogger, __: str, entry: EventDict) -> EventDict:
    """Escape control characters: an entry may contain a tenant's text, such as a name in a stored adapter."""
    return {name: visible(value) if isinstance(value, str) else value for name, value in entry.items()}


def _without_quotes(_: WrappedLogger, __: str, entry: EventDict) -> EventDict:
    """Remove what a library's record may quote: keep exception types and locations, drop messages and task reprs."""
    record: logging.LogRecord = entry["_record"]
    error = record.exc_info[1] if record.exc_info else None
    entry.pop("exc_info", None)
    if error is not None:
        entry["exception"] = _places(error)
    event = str(entry["event"]).strip()
    entry["event"] = event.splitlines()[0].partition("<")[0].strip() if record.name == "asyncio" and event else event
    return entry


def _places(error: BaseException) -> str:
    """Return the chain of exception types and where each was raised, without messages."""
    parts: list[str] = []
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        frames = traceback.extract_tb(cause.__traceback__)
        places = "".join(f"  {frame.filename}:{frame.lineno} in {frame.name}\n" for frame in frames)
        parts.append(f"{type(cause).__module__}.{type(cause).__qualname__}\n{places}")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "caused by\n".join(parts).rstrip()
