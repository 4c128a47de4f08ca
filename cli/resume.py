"""The command line that resumes an interrupted run."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.console import err

if TYPE_CHECKING:
    from training.runs.plan import RunPlan

_LEFT_OUT = frozenset({"key", "out_folder", "resume"})
"""A key is a secret; the other two are appended at the end."""
_SECRETS = ("username", "password")
"""URL options whose name contains one of these are left out."""


@contextmanager
def resume_hint(command: str, plans: Sequence["RunPlan"]) -> Iterator[None]:
    """On exit, print the command that resumes, if some runs are unfinished and it is not the one that is refused."""
    from training.errors import InvalidCheckpoint
    from training.runs.plan import unfinished_runs

    is_refused = False
    try:
        yield
    except InvalidCheckpoint:
        is_refused = True
        raise
    finally:
        if not is_refused and (left := unfinished_runs(plans)):
            err.print(f"{len(left)} of {len(plans)} runs are unfinished; to resume them:", style="yellow")
            err.print(f"  {command}")


def resume_command(context: typer.Context, out_folder: Path) -> str:
    """Rebuild the command line that was run, with its folder named and `--resume`."""
    words = ["superpos", str(context.info_name)]
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        if name in _LEFT_OUT or source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[name]
        for each in value if isinstance(value, list | tuple) else [value]:
            words += _words(each, parameter.param_type_name, parameter.opts, parameter.secondary_opts)
    return shlex.join([*words, "--out", str(out_folder), "--resume"])


def _words(value: object, kind: str, names: list[str], negative_names: list[str]) -> list[str]:
    if kind == "argument":
        return [str(value)]
    if isinstance(value, bool):
        return [(names if value else negative_names)[0]]
    return [names[0], without_credentials(str(value))]


def without_credentials(text: str) -> str:
    """Remove the user and password of a URL from a text; other text is unchanged."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return text
    address, _, query = rest.partition("?")
    options = [
        each for each in query.split("&") if each and not any(name in each.partition("=")[0] for name in _SECRETS)
    ]
    return f"{scheme}://{address.rpartition('@')[2]}" + (f"?{'&'.join(options)}" if options else "")
