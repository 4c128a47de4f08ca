"""The command that goes on with what a command left half done."""

import shlex
from pathlib import Path

import typer

_LEFT_OUT = frozenset({"key", "out_folder", "resume"})
"""A key is a secret; the others are said at the end."""


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
    return [names[0], str(value)]
