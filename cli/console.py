"""Console output of the commands: results on standard output, progress and errors on standard error.

Every text is printed literally. Users and servers supply most of what the commands print, so a text is neither rich's
markup nor a terminal's control sequence. Commands style a text by `style=` or as a `rich.text.Text`.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn

import typer
from rich.console import Console, RenderableType
from rich.status import Status
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 1_000
_OPEN: ContextVar[ExitStack | None] = ContextVar("open", default=None)
"""Closes what the running command has opened."""
_ERRORS = (
    ("adapters.errors", "AdapterError"),
    ("backbone.errors", "BackboneError"),
    ("scoring.errors", "ScoringError"),
    ("service.errors", "ServiceError"),
    ("sizing.errors", "SizingError"),
    ("superpos_client.errors", "SuperposError"),
    ("training.errors", "TrainingError"),
)


class LiteralConsole(Console):
    """A console without markup, emoji codes and highlighting."""

    def render_str(self, text: str, **options: Any) -> Text:
        from adapters.printable import (
            visible,
        )  # imported here, since listing the commands needs neither pydantic nor numpy

        literal = {"markup": False, "emoji": False, "highlight": False}
        return super().render_str(visible(text, self.encoding), **options | literal)

    def status(self, status: RenderableType, **options: Any) -> Status:
        return super().status(self.render_str(status) if isinstance(status, str) else status, **options)

    def print_data(self, data: object) -> None:
        """Print a value as JSON; what a terminal would obey or cannot print is escaped, as JSON allows."""
        from adapters.printable import json_visible

        text = json.dumps(data, indent=2, ensure_ascii=self.encoding != "utf-8")
        self.print(json_visible(text))


out = LiteralConsole(soft_wrap=True)
err = LiteralConsole(stderr=True, soft_wrap=True)


class CommandError(Exception):
    """An error that a command itself detects."""


def print_table(table: Table) -> None:
    """Print a table, at full width when the output is not a terminal, so that no name or digest is cut."""
    (out if out.is_terminal else LiteralConsole(width=_PIPE_WIDTH)).print(table)


def status(line: str) -> None:
    """Print a progress line on standard error."""
    err.print(line, style="dim")


@contextmanager
def report_errors() -> Iterator[None]:
    """Report the project's own errors and the operating system's in one line and exit with status 1."""
    try:
        with ExitStack() as stack:
            token = _OPEN.set(stack)
            stack.callback(_OPEN.reset, token)
            yield
    except BrokenPipeError:
        raise  # the reader is gone, so the message would not be seen
    except UnicodeEncodeError as exc:  # an argument that holds other bytes than UTF-8, on its way to a file or a server
        broken = exc.object[exc.start : exc.end]
        _refuse(f"{exc.object[:200]!r} is not text: {broken!r} is not a character, expected UTF-8", exc)
    except Exception as exc:
        if not isinstance(exc, (CommandError, OSError, *_imported_errors())):
            raise
        from adapters.atomic_files import describe_oserror

        _refuse(describe_oserror(exc) if isinstance(exc, OSError) else str(exc), exc)


def close_at_end(close: Callable[[], None]) -> None:
    """Call a function when the command ends; outside of a command, it is left to the caller."""
    if (stack := _OPEN.get()) is not None:
        stack.callback(close)


def _refuse(message: str, cause: Exception) -> NoReturn:
    err.print(f"superpos: {message}", style="red")
    raise typer.Exit(1) from cause


def _imported_errors() -> list[type[Exception]]:
    """Return the base errors of the packages imported so far; no other package can have raised one."""
    return [getattr(sys.modules[module], name) for module, name in _ERRORS if module in sys.modules]
