"""`superpos serve`."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import structlog
import typer
from pydantic import ValidationError

from adapters.errors import first_error
from adapters.storage.opening import redact
from cli.backbone_options import PANEL, CacheOption, OfflineOption, RevisionOption, ThreadsOption
from cli.console import CommandError, err, status
from cli.options import read_if_file
from cli.targets.first_request import first_request, when_ready
from service.cores import spin_briefly
from service.memory import bound_kernel_caches, without_collections
from service.server.connections import raise_descriptor_limit
from service.server.sockets import hold, listen
from service.server.workers import StartupFailed, serve_with_workers
from service.settings import Settings
from service.telemetry.logging import configure_logging


def serve(
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on; other than loopback only with --require-keys. (default: 127.0.0.1)"),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks a free one. (default: 8080)")] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=PANEL, help="'embedded', a directory, or a Hugging Face model id. (default: embedded)"
        ),
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option(
            help="Registry of the adapters: a SQLite file, or a Redis (redis://…, redis+sentinel://…); @FILE reads "
            "the location from a file."
        ),
    ] = None,
    require_keys: Annotated[
        bool, typer.Option("--require-keys", help="Require an API key; see 'superpos key --help'.")
    ] = False,
    admin_key_file: Annotated[
        Path | None,
        typer.Option(help="File with the first operator's key, sp_<id>_<secret>."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(rich_help_panel=PANEL, help="Device: cpu or cuda. (default: cpu)")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=PANEL,
            help="auto: bf16 on CPUs that are faster in it, else fp32; fp32; int8 on CPUs; bf16 on CUDA and on CPUs "
            "that support it. (default: auto)",
        ),
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="Log format: console or json. (default: console)")] = None,
    cache_dir: CacheOption = None,
    revision: RevisionOption = None,
    offline: OfflineOption = False,
    threads: ThreadsOption = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of server processes, which share the port and the cores. (default: 1)")
    ] = None,
) -> None:
    """Serve every task of a registry over HTTP.

    An empty registry is filled with the bundled tasks, so that there is something to query:

    \b
        superpos serve
        curl -s localhost:8080/classify/sst2 -H 'Content-Type: application/json' \\
             -d '{"inputs": ["a gripping film", "flat and overlong"]}'

    Every option, and many more settings, can also be set in the environment as SUPERPOS_<NAME>, for example
    SUPERPOS_MAX_BATCH_TOKENS=512. Interactive API documentation is at /docs.
    """
    given = {
        "host": host,
        "port": port,
        "backbone": backbone,
        "registry": None if registry is None else read_if_file(registry),
        "require_keys": require_keys or None,
        "admin_key_file": admin_key_file,
        "device": device,
        "precision": precision,
        "log_format": log_format,
        "cache_dir": cache_dir,
        "revision": revision,
        "offline": offline or None,
        "threads": threads,
        "workers": workers,
    }
    settings = configured(given)
    raise_descriptor_limit(settings)
    with _listen(settings) as listener:
        if settings.workers > 1:
            announce = partial(_log_serving, settings, listener, is_ready=lambda: True)
            try:
                serve_with_workers(settings, listener, on_serving=announce)
            except StartupFailed as exc:
                raise CommandError(str(exc)) from exc
        else:
            _serve_alone(settings, listener)


def _serve_alone(settings: Settings, listener: socket.socket) -> None:
    failures: list[str] = []

    def drain(reason: str) -> None:
        failures.append(reason)
        server.should_exit = True

    with without_collections():
        from service.loading import begin_loading

        loading = begin_loading(settings)
        from service.app import create_app
        from service.server.graceful import DrainingServer

        app = create_app(settings, loading=loading, on_model_failure=drain)
    server = DrainingServer(lambda: app, settings)
    _log_serving(
        settings,
        listener,
        is_ready=lambda: server.started and app.state.runtime.inference.engine.stats().not_ready is None,
    )
    # uvicorn drains, then raises the signal again for the handler that was there before it: a requested stop exits
    # with status 0
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _exit(failures))
    server.run(sockets=[listener])
    if not server.started:
        raise CommandError("the server could not start; its log has the reason")
    _exit(failures)


def _exit(failures: list[str]) -> None:
    """End the process, with status 1 if the model failed, so that a supervisor restarts it."""
    if not failures:
        sys.exit(0)
    err.print(f"superpos: {failures[0]}", style="red")
    # a thread that is stuck in native code, or an unresponsive device, can block the interpreter's own exit
    os._exit(1)


def _log_serving(settings: Settings, listener: socket.socket, *, is_ready: Callable[[], bool]) -> None:
    """Log the address now, and a command to try once the server is ready."""
    log, port = structlog.get_logger("service"), listener.getsockname()[1]
    url = _url(settings.host, port)
    log.info("serving", url=url, docs=f"{url}/docs", registry=redact(settings.registry), workers=settings.workers)
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104, what it means
    when_ready(
        is_ready,
        lambda command: _log_ready(settings, url, command),
        lambda: first_request(_url(near, port), settings.registry, require_keys=settings.require_keys),
    )


def _log_ready(settings: Settings, url: str, command: str) -> None:
    log = structlog.get_logger("service")
    if settings.log_format == "json":
        log.info("ready", url=url, **{"try": command})
    else:
        log.info("ready", url=url)
        if settings.log_level in ("debug", "info"):
            status(command)  # on a line of its own: the log's would quote it


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _listen(settings: Settings) -> socket.socket:
    """Reserve the port before loading anything slow."""
    if settings.workers > 1 and sys.platform != "linux":
        raise CommandError(f"setting workers is {settings.workers}: more than one needs Linux")
    reserve = hold if settings.workers > 1 else listen
    try:
        return reserve(settings.host, settings.port)
    except OSError as exc:
        where = f"{settings.host}:{settings.port}"
        raise CommandError(
            f"cannot listen on {where}: {exc.strerror}; choose another port with --port or SUPERPOS_PORT"
        ) from exc


def configured(given: Mapping[str, object]) -> Settings:
    """Return the settings of this process; set up logging, oneDNN's caches and how threads wait.

    Args:
        given: options by the name of their setting; None for one that was not given

    Raises:
        CommandError: an invalid value, of an option or of the environment
    """
    try:
        settings = Settings.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as exc:
        where, value, message = first_error(exc)
        raise CommandError(f"setting {where} is {value}: {message}") from exc
    configure_logging(settings.log_format, settings.log_level)
    bound_kernel_caches()
    spin_briefly()
    return settings
