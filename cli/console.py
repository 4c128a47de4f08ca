"""Console output of the commands: results on standard output, progress and errors on standard error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.table import Table

_PIPE_WIDTH = 1_000
_ERRORS = (
    ("adapters.errors", "AdapterError"),
    ("backbone.errors", "BackboneError"),
    ("service.errors", "ServiceError"),
    ("training.errors", "TrainingError"),
)

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class CommandError(Exception):
    """An error that a command itself detects."""


def print_table(table: Table) -> None:
    """Print a table, at full width when the output is not a terminal, so that no name or digest is cut."""
    (out if out.is_terminal else Console(width=_PIPE_WIDTH, highlight=False)).print(table)


def status(line: str) -> None:
    """Print a progress line on standard error."""
    err.print(line, style="dim", markup=False)


@contextmanager
def report_errors() -> Iterator[None]:
    """Report the project's own errors and the operating system's in one line and exit with status 1."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader is gone, so the message would not be seen
    except Exception as exc:
        if not isinstance(exc, (CommandError, OSError, *_imported_errors())):
            raise
        from adapters.atomic_files import describe_oserror

        message = describe_oserror(exc) if isinstance(exc, OSError) else str(exc)
        err.print(f"superpos: {message}", style="red", markup=False)
        raise typer.Exit(1) from exc


def _imported_errors() -> list[type[Exception]]:
    """Return the base errors of the packages imported so far; no other package can have raised one."""
    return [getattr(sys.modules[module], name) for module, name in _ERRORS if module in sys.modules]
