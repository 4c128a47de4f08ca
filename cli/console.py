"""How the command speaks: results on standard output, everything else on standard error, errors in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.table import Table

_PIPE_WIDTH = 1_000

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class CommandError(Exception):
    """Something that the command itself refuses."""


def print_table(table: Table) -> None:
    """Print a table; into a pipe at its full width, so that no name or digest is cut."""
    (out if out.is_terminal else Console(width=_PIPE_WIDTH, highlight=False)).print(table)


def status(line: str) -> None:
    """Tell what is being done."""
    err.print(line, style="dim", markup=False)


@contextmanager
def report_errors(*kinds: type[Exception]) -> Iterator[None]:
    """End the command with status 1 and one line for the errors named, for `CommandError`, and for the system's own."""
    # not at the top: `superpos` must start to say that another package is called `adapters`
    from adapters.atomic_files import describe_oserror

    refused: tuple[type[Exception], ...] = (CommandError, OSError, *kinds)
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read has gone: there is nobody to tell
    except refused as exc:
        err.print(f"superpos: {describe_oserror(exc) if isinstance(exc, OSError) else exc}", style="red", markup=False)
        raise typer.Exit(1) from exc


@contextmanager
def account_refusals() -> Iterator[None]:
    """As `report_errors`, for commands of tenants and keys."""
    from pydantic import ValidationError

    from adapters.errors import AdapterError, first_error
    from service.errors import ServiceError

    with report_errors(AdapterError, ServiceError):
        try:
            yield
        except ValidationError as exc:
            where, value, message = first_error(exc)
            raise CommandError(f"{where} is {value}: {message}") from exc
