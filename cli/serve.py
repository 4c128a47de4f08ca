"""`superpos serve`."""

import signal
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.options import CacheOption, OfflineOption, RevisionOption, ThreadsOption
from cli.output import CommandError, one_line_errors


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; loopback only. (default: 127.0.0.1)")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. (default: 8080)")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="'embedded', a directory, or a Hugging Face id. (default: embedded)")
    ] = None,
    registry: Annotated[Path | None, typer.Option(help="SQLite file that holds the adapters.")] = None,
    device: Annotated[str | None, typer.Option(help="'cpu' or 'cuda'. (default: cpu)")] = None,
    log_format: Annotated[str | None, typer.Option(help="'console' or 'json'. (default: console)")] = None,
    cache_dir: CacheOption = None,
    revision: RevisionOption = None,
    offline: OfflineOption = False,
    threads: ThreadsOption = None,
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
    import structlog
    import uvicorn
    from pydantic import ValidationError

    from adapters.errors import AdapterError
    from adapters.validation import first_error
    from backbone import BackboneError
    from service.app import create_app
    from service.logs import configure_logging
    from service.settings import Settings

    given = {
        "host": host,
        "port": port,
        "backbone": backbone,
        "registry": registry,
        "device": device,
        "log_format": log_format,
        "cache_dir": cache_dir,
        "revision": revision,
        "offline": offline or None,
        "threads": threads,
    }
    with one_line_errors(AdapterError, BackboneError):
        try:
            settings = Settings.model_validate({name: value for name, value in given.items() if value is not None})
        except ValidationError as exc:
            where, value, message = first_error(exc)
            raise CommandError(f"setting {where} is {value}: {message}") from exc
        configure_logging(settings.log_format)
        with _listen(settings.host, settings.port) as listener:
            app = create_app(settings)
            address = f"[{settings.host}]" if ":" in settings.host else settings.host
            url = f"http://{address}:{listener.getsockname()[1]}"
            structlog.get_logger("service").info(
                "serving", url=url, docs=f"{url}/docs", registry=str(settings.registry)
            )
            config = uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=settings.drain_timeout_s,
            )
            # uvicorn drains, then raises the signal again for whoever handled it before: that a stop was asked for
            # is no failure
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: sys.exit(0))
            uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before anything slow is loaded."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # every connection inherits it; without it an answer waits 40 ms for the caller's delayed acknowledgement
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(2_048)
    except OSError as exc:
        raise CommandError(f"cannot listen on {host}:{port}: {exc.strerror}; choose another with --port") from exc
    return listener
