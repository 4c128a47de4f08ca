"""`superpos ray`: the server as an application of Ray Serve."""

import os
from typing import Annotated

import typer
from pydantic import ValidationError

from adapters.errors import first_error
from cli.console import CommandError, out, status

app = typer.Typer(no_args_is_help=True, help="Run the server on a Ray cluster.")

_SCALING, _HTTP = "Scaling", "HTTP"


@app.callback()
def ray() -> None:
    """Make a group of a single command."""


@app.command("serve")
def serve(
    address: Annotated[
        str, typer.Option(help="Address of the Ray cluster; auto is the one that this machine belongs to.")
    ] = "auto",
    registry: Annotated[
        str | None,
        typer.Option(
            help="URL of the Redis that all nodes share, without a password. (default: SUPERPOS_REGISTRY of each node)"
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Another setting of the replicas; may be repeated."),
    ] = None,
    cpus: Annotated[
        int | None,
        typer.Option(min=1, rich_help_panel=_SCALING, help="CPUs per replica, and threads of its model. (default: 2)"),
    ] = None,
    min_replicas: Annotated[
        int | None, typer.Option(min=1, rich_help_panel=_SCALING, help="Smallest number of replicas. (default: 2)")
    ] = None,
    max_replicas: Annotated[
        int | None, typer.Option(min=1, rich_help_panel=_SCALING, help="Largest number of replicas. (default: 10)")
    ] = None,
    target_ongoing_requests: Annotated[
        float | None,
        typer.Option(
            min=1, rich_help_panel=_SCALING, help="Requests per replica at a time, to scale on. (default: 64)"
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(rich_help_panel=_HTTP, help="Address that the proxy of each node listens on.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(rich_help_panel=_HTTP, help="Port of the proxies.")] = 8000,
) -> None:
    """Deploy the server on a Ray cluster, and return when it answers. A second call replaces replicas one by one.

    \b
        superpos ray serve --registry redis://redis:6379/0 --min-replicas 3 --host 0.0.0.0
        serve status
        serve shutdown

    Each node needs this package, the backbone, and the Redis. Settings are read from the environment of the nodes
    (SUPERPOS_…); those that are given here take precedence.
    """
    scaling = {
        "cpus": cpus,
        "min_replicas": min_replicas,
        "max_replicas": max_replicas,
        "target_ongoing_requests": target_ongoing_requests,
    }
    settings = dict(_pair(text) for text in setting or ())
    if registry is not None:
        settings["registry"] = registry
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    status("connecting to the cluster")
    from service.ray import Arguments, deploy

    try:
        arguments = Arguments.model_validate(
            {"settings": settings, **{name: value for name, value in scaling.items() if value is not None}}
        )
    except ValidationError as exc:
        where, value, message = first_error(exc)
        raise CommandError(message if where == "(whole)" else f"{where} is {value}: {message}") from exc
    status("starting replicas")
    deploy(arguments, address=address, host=host, port=port)
    out.print(f"serving on port {port} of every node that has a replica")


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise CommandError(f"--set is {text!r}, expected NAME=VALUE")
    return name, value
