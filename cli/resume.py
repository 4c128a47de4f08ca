"""The command that goes on with what a command left half done."""

import shlex
from pathlib import Path

import typer

_LEFT_OUT = frozenset({"key", "out_folder", "resume"})
"""A key is a secret; the others are said at the end."""
_SECRETS = ("username", "password")
"""Of a URL's options, in which they may be a part of a name."""


def resume_command(context: typer.Context, out_folder: Path) -> str:
    """The command of a context with the same words, its folder named, and `--resume`."""
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
    """A text as it is, but for the user and the password of a URL: whoever repeats it gives them again."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return text
    place, _, query = rest.partition("?")
    options = [
        each for each in query.split("&") if each and not any(name in each.partition("=")[0] for name in _SECRETS)
    ]
    return f"{scheme}://{place.rpartition('@')[2]}" + (f"?{'&'.join(options)}" if options else "")
