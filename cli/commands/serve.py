"""`superpos serve`."""

import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import CommandError, err, report_errors
from cli.options import CacheOption, OfflineOption, RevisionOption, ThreadsOption

if TYPE_CHECKING:
    from service.settings import Settings


def serve(
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on; beyond loopback only with --require-keys. (default: 127.0.0.1)"),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. (default: 8080)")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="'embedded', a directory, or a Hugging Face id. (default: embedded)")
    ] = None,
    registry: Annotated[
        str | None, typer.Option(help="What holds the adapters: a SQLite file, or a Redis server (redis://…).")
    ] = None,
    require_keys: Annotated[
        bool, typer.Option("--require-keys", help="Answer nobody without a key; see superpos key --help.")
    ] = False,
    admin_key_file: Annotated[
        Path | None,
        typer.Option(help="File with an administrator's key, sp_<id>_<secret>, that is there from the start."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="'cpu' or 'cuda'. (default: cpu)")] = None,
    precision: Annotated[
        str | None, typer.Option(help="'fp32'; 'int8' on a CPU; 'bf16' on CUDA, or a CPU that has it. (default: fp32)")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="'console' or 'json'. (default: console)")] = None,
    cache_dir: CacheOption = None,
    revision: RevisionOption = None,
    offline: OfflineOption = False,
    threads: ThreadsOption = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes behind the port, the cores shared among them. (default: 1)")
    ] = None,
) -> None:
    """Serve every task of a registry over HTTP.

    An empty registry gets the bundled tasks, so that there is something to ask:

    \b
        superpos serve
        curl -s localhost:8080/classify/sst2 -H 'Content-Type: application/json' \\
             -d '{"inputs": ["a gripping film", "flat and overlong"]}'

    Every option, and the limits that have none, can be set as SUPERPOS_… in the environment
    (SUPERPOS_MAX_BATCH_TOKENS=512). Interactive documentation is at /docs.
    """
    bound_kernel_caches()
    from pydantic import ValidationError

    from adapters.errors import first_error
    from service.server.workers import StartupFailed, serve_with_workers
    from service.settings import Settings
    from service.telemetry.logging import configure_logging

    given = {
        "host": host,
        "port": port,
        "backbone": backbone,
        "registry": registry,
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
    with report_errors():
        try:
            settings = Settings.model_validate({name: value for name, value in given.items() if value is not None})
        except ValidationError as exc:
            where, value, message = first_error(exc)
            raise CommandError(f"setting {where} is {value}: {message}") from exc
        configure_logging(settings.log_format, settings.log_level)
        with _take_port(settings) as held:
            if settings.workers > 1:
                with report_errors(StartupFailed):
                    serve_with_workers(settings, held, on_serving=lambda: _tell(settings, held))
            else:
                _serve_alone(settings, held)


def _serve_alone(settings: "Settings", listener: socket.socket) -> None:
    from adapters.errors import AdapterError
    from backbone import BackboneError
    from service.app import create_app
    from service.server.graceful import DrainingServer

    lost: list[str] = []

    def drain(reason: str) -> None:
        lost.append(reason)
        server.should_exit = True

    with report_errors(AdapterError, BackboneError):
        app = create_app(settings, on_model_failure=drain)
    _tell(settings, listener)
    server = DrainingServer(lambda: app, settings)
    # uvicorn drains, then raises the signal again for the handler before its own: a requested stop is not a failure
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _leave(lost))
    server.run(sockets=[listener])
    if not server.started:
        raise CommandError("the server could not start; its log says why")
    _leave(lost)


def _leave(lost: list[str]) -> None:
    """End the process: with status 1 where the model was lost, so that a supervisor starts another."""
    if not lost:
        sys.exit(0)
    err.print(f"superpos: {lost[0]}", style="red", markup=False)
    # a thread that is stuck in native code, or a device that does not answer, can hold up the interpreter's own end
    os._exit(1)


def _tell(settings: "Settings", listener: socket.socket) -> None:
    import structlog

    from adapters.storage.opening import redact

    address = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{address}:{listener.getsockname()[1]}"
    structlog.get_logger("service").info(
        "serving", url=url, docs=f"{url}/docs", registry=redact(settings.registry), workers=settings.workers
    )


def _take_port(settings: "Settings") -> socket.socket:
    """Take the port before anything slow is loaded."""
    from service.server.sockets import hold, listen

    if settings.workers > 1 and sys.platform != "linux":
        raise CommandError(f"setting workers is {settings.workers}: more than one needs Linux")
    take = hold if settings.workers > 1 else listen
    try:
        return take(settings.host, settings.port)
    except OSError as exc:
        where = f"{settings.host}:{settings.port}"
        raise CommandError(f"cannot listen on {where}: {exc.strerror}; choose another with --port") from exc


_ENTRIES = "128"


def bound_kernel_caches() -> None:
    """Set both bounds for this process and those it starts, where nobody has; to be called before torch is imported.

    A forward uses about thirteen shapes, again and again over its layers: 128 hold those of ten lengths. On batches of
    mixed lengths that cost nothing measurable, and 32 did (docs/decisions.md).
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, _ENTRIES)
