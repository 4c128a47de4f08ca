"""Options that several commands share, and those generated from the training arguments."""

import os
from collections.abc import Callable, Collection, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

import typer

from adapters.atomic_files import describe_oserror
from cli.console import CommandError, print_table
from cli.option_group import Command, option_group
from training.config.arguments import ARGUMENTS, CHOICES, TYPES, default_of
from training.config.choices import MethodName

DEFAULT_SERVER = "http://127.0.0.1:8080"
MAX_RETRIES = 3
"""Retries of each request of a command that classifies many rows."""
KEY_FILE = "SUPERPOS_API_KEY_FILE"
SERVER_VARIABLES = ["SUPERPOS_SERVER", "SUPERPOS_URL"]
"""The second is the Python client's, so that one variable configures both; the first may also name a registry."""


def require_package(package: str, extra: str, *, command: str) -> None:
    """Refuse a command without a package that an extra installs (`CommandError`)."""
    if find_spec(package) is None:
        raise CommandError(
            f"superpos {command} needs {package}, which is not installed: pip install 'superpos[{extra}]'"
        )


def read_if_file(value: str) -> str:
    """Return an argument; for `@FILE` return the first line of that file, so that no secret is on the command line."""
    if not value.startswith("@"):
        return value
    try:
        lines = Path(value[1:]).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        reason = describe_oserror(exc) if isinstance(exc, OSError) else "it is not text"
        raise CommandError(f"cannot read {value}: {reason}") from exc
    return lines[0].strip() if lines else ""


def _read_key(value: str | None) -> str | None:
    """Return the given key, the key in `@FILE`, or the key in the file that SUPERPOS_API_KEY_FILE names."""
    if value is None and (file := os.environ.get(KEY_FILE)):
        value = f"@{file}"
    return None if value is None else read_if_file(value)


def _default_server(context: typer.Context, parameter: typer.CallbackParam, value: str) -> str:
    """Return the server that `superpos serve` starts in this environment, unless the user names another."""
    source = context.get_parameter_source(str(parameter.name))
    if source is None or source.name != "DEFAULT":
        return read_if_file(value)
    host, port = os.environ.get("SUPERPOS_HOST", ""), os.environ.get("SUPERPOS_PORT", "8080")
    if not port.isdecimal():
        raise CommandError(f"SUPERPOS_PORT is {port!r}, expected a number; or name the server with SUPERPOS_SERVER")
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - such a server listens on loopback too
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


_PORT = "Without it, the port in SUPERPOS_PORT is used."
_TARGET = (
    "URL of a server (http://…), path of a SQLite registry, or URL of a Redis registry (redis://…, "
    f"redis+sentinel://…); @FILE reads the location from a file. {_PORT}"
)
ServerOption = Annotated[
    str, typer.Option(envvar=SERVER_VARIABLES, callback=_default_server, help=f"URL of the server. {_PORT}")
]
ToOption = Annotated[str, typer.Option("--to", envvar=SERVER_VARIABLES, callback=_default_server, help=_TARGET)]
FromOption = Annotated[str, typer.Option("--from", envvar=SERVER_VARIABLES, callback=_default_server, help=_TARGET)]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar="SUPERPOS_API_KEY",
        callback=_read_key,
        metavar="@FILE",
        help=f"The server's API key: @FILE reads it from a file, as does {KEY_FILE}=FILE. A key in place of @FILE "
        "works too, but other users of this machine can see it.",
    ),
]


def _list_presets(name: str | None) -> str | None:
    if name != "help":
        return name
    from rich.table import Table

    from training.config.presets import PRESETS

    table = Table("preset", "values", "source")
    for preset, recipe in PRESETS.items():
        values = ", ".join(f"{field} {value}" for field, value in recipe.values.items())
        table.add_row(preset, values, recipe.source)
    print_table(table)
    raise typer.Exit


PresetOption = Annotated[
    str | None,
    typer.Option(
        callback=_list_presets,
        is_eager=True,
        rich_help_panel="Method",
        help="A published recipe to start from, such as paper/superpos, lester/simple or fast; explicit options "
        "override it. '--preset help' lists the presets.",
    ),
]


def with_training_arguments(
    *,
    only: Collection[str] = tuple(ARGUMENTS),
    several: Collection[str] = (),
    ranges: Collection[str] = (),
    auto: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[Command], Command]:
    """Give a command one option per training argument.

    Options that the user sets reach the command's parameter `explicit`, a dictionary by argument name.

    Args:
        only: the arguments, as the fields of `TrainArguments`
        several: arguments that accept several values; these reach the command as one comma-separated string
        ranges: arguments that also accept a range, passed on in the same way
        auto: arguments with a closed set of values that also accept `auto`, with its meaning
    """
    return option_group(
        "explicit",
        {name: (_option(name, _several(name, several, ranges), auto.get(name, "")), None) for name in only},
        _explicit,
    )


def _several(name: str, several: Collection[str], ranges: Collection[str]) -> str:
    """Return how an option takes more than one value; empty if it takes one."""
    if name in ranges:
        return "Takes a range low:high, or values separated by commas."
    return "Separate several values by commas." if name in several else ""


def _explicit(**given: Any) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value not in (None, [])
    }


def _option(name: str, several: str, auto: str) -> object:
    argument = ARGUMENTS[name]
    kind = str if several else list[str] if TYPES[name] == tuple[str, ...] else TYPES[name]
    if auto:
        kind = Literal[(*CHOICES[name], "auto")]
    option = typer.Option(
        *([argument.option] if argument.option else []),
        help=_help(name, several, auto),
        rich_help_panel=argument.panel,
    )
    return Annotated[kind | None, option]  # type: ignore[operator]


def _help(name: str, several: str = "", auto: str = "") -> str:
    """Return an argument's meaning, followed by the methods it is for, its bounds and its default."""
    argument, every = ARGUMENTS[name], get_args(MethodName)
    notes = [] if argument.methods == every else [f"for {', '.join(argument.methods)}"]
    notes += ["for learned readouts"] if argument.learned else []
    notes += [argument.bounds] if argument.bounds and name != "seed" else []
    default = argument.command_default or _default(name)
    notes += [f"default: {default}"] if default else []
    sentences = " ".join(filter(None, (argument.help, several, auto)))
    return f"{sentences} ({'; '.join(notes)})"


def _default(name: str) -> str:
    """Return an argument's default, and those of the methods and readouts that have another."""
    argument = ARGUMENTS[name]
    usual, *others = _users_by_value({method: default_of(name, method) for method in get_args(MethodName)}).items()
    others += _users_by_value(argument.by_readout).items()
    value = usual[0] or argument.unset
    return ", or ".join([value, *(f"{other or argument.unset} for {', '.join(users)}" for other, users in others)])


def _users_by_value(values: Mapping[Any, object]) -> dict[str, list[str]]:
    """Return the names that have each value, by the value as it is shown."""
    users: dict[str, list[str]] = {}
    for user, value in values.items():
        users.setdefault(_shown(value), []).append(user)
    return users


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value in (None, ()) else f"{value:g}" if isinstance(value, float) else str(value)
