"""`superpos classify`: query a running server."""

import json
import sys
from typing import Annotated

import typer
from rich.table import Table

from cli.client.targets import Server
from cli.console import CommandError, out, print_table
from cli.options import DEFAULT_SERVER, KeyOption, ServerOption


def classify(
    ref: Annotated[str, typer.Argument(help="task, task@3, task@alias or task@sha256:…")],
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts to classify, or JSON objects for a task with several fields. (default: lines of standard input)"
        ),
    ] = None,
    server: ServerOption = DEFAULT_SERVER,
    key: KeyOption = None,
    truncate: Annotated[
        str, typer.Option(help="Texts that are too long: error refuses them, start or end cuts them there.")
    ] = "error",
    as_json: Annotated[bool, typer.Option("--json", help="Print the server's response as JSON.")] = False,
) -> None:
    """Classify texts with a running server.

    \b
        superpos classify sst2 "a gripping film" "flat and overlong"
        superpos classify rte '{"premise": "It rains.", "hypothesis": "It is wet."}'
        cut -f2 reviews.tsv | superpos classify sst2 --json
    """
    lines = texts or [line.rstrip("\n") for line in sys.stdin]
    if not lines:
        raise CommandError("nothing to classify: give texts as arguments or on standard input")
    body = {"inputs": [_input(line) for line in lines], "truncate": truncate}
    answer = Server(server, key).request("POST", f"/classify/{ref}", json=body).json()
    if as_json:
        out.print_json(data=answer)
        return
    table = Table("label", "score", "text", title=f"{answer['task']}@{answer['version']} {answer['adapter'][:19]}")
    for line, prediction in zip(lines, answer["predictions"], strict=True):
        table.add_row(prediction["label"], f"{prediction['score']:.3f}", line)
    print_table(table)


def _input(line: str) -> object:
    """Return the fields that a line holds as a JSON object, or else the line as text."""
    try:
        value = json.loads(line)
    except ValueError:
        return line
    return value if isinstance(value, dict) else line
