"""`make platform`: Redis, two servers, the gateway and Prometheus as processes on this machine, until Ctrl-C."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from platformdirs import user_cache_path

from deploy.debian_tools import ToolUnavailable
from deploy.program import Program, ProgramFailed
from deploy.stack import HOST, Ports, Stack, make_stack

FOLDER = Path(__file__).parent.parent / ".cache" / "platform"
_RESTART_AFTER_S = 1.0


def free_ports(count: int) -> list[int]:
    """Return unused ports."""
    probes = [socket.create_server((HOST, 0)) for _ in range(count)]
    try:
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def choose_ports(*, gateway: int, prometheus: int, replicas: int) -> Ports:
    """Return the ports of all programs: gateway and Prometheus as given, the others unused ones.

    Raises:
        OSError: a given port is in use
    """
    for port in (gateway, prometheus):
        socket.create_server((HOST, port)).close()
    metrics, redis, *servers = free_ports(2 + replicas)
    return Ports(gateway, metrics, prometheus, redis, tuple(servers))


def keep_running(programs: Sequence[Program], stopping: threading.Event, *, every_s: float = _RESTART_AFTER_S) -> None:
    """Restart programs that exit, as a container engine does, until the platform stops."""
    while not stopping.wait(every_s):
        for program in programs:
            if program.ended is not None:
                print(f"platform | {program.name} exited with status {program.wait()}; restarting it", file=sys.stderr)
                program.start()


def main(
    port: Annotated[int, typer.Option(help="Port of the gateway.")] = 8080,
    prometheus_port: Annotated[int, typer.Option(help="Port of Prometheus.")] = 9090,
    replicas: Annotated[int, typer.Option(min=1, help="Number of servers behind the gateway.")] = 2,
    folder: Annotated[Path, typer.Option(help="Folder of data and secrets.")] = FOLDER,
) -> None:
    """Run Redis, the servers, the gateway and Prometheus on this machine, without containers, until Ctrl-C.

    SUPERPOS_<NAME> settings in the environment apply to the servers, except those that make them a platform.
    """
    settings = {
        "SUPERPOS_CACHE_DIR": str(user_cache_path("superpos")),
        "SUPERPOS_THREADS": str(max(1, (os.cpu_count() or 1) // replicas)),
        **{name: value for name, value in os.environ.items() if name.startswith("SUPERPOS_")},
    }
    try:
        ports = choose_ports(gateway=port, prometheus=prometheus_port, replicas=replicas)
    except OSError as exc:
        sys.exit(f"platform: {exc.strerror}: choose another with --port or --prometheus-port")
    # like Ctrl-C, from the start of the first program: no program may outlive this process
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        stack = make_stack(folder.resolve(), ports, sink=_print_line, settings=settings)
        _run(stack)
    except (ToolUnavailable, ProgramFailed) as exc:
        sys.exit(f"platform: {exc}")


def _run(stack: Stack) -> None:
    try:
        stack.start()
        _print_addresses(stack)
        keep_running(stack.programs, threading.Event())
    except KeyboardInterrupt:
        print("platform | stopping; press Ctrl-C again to stop at once", file=sys.stderr)
    finally:
        try:
            stack.stop()
        except KeyboardInterrupt:
            stack.kill()


def _print_line(name: str, line: str) -> None:
    print(f"{name:<10} | {line}", file=sys.stderr, flush=True)


def _print_addresses(stack: Stack) -> None:
    key = stack.admin_key_file
    print(f"gateway     {stack.url}")
    print(f"prometheus  {stack.prometheus_url}")
    for program, url in zip(stack.servers, stack.server_urls, strict=True):
        print(f"{program.name:<11} {url} (send requests to the gateway)")
    print(f"admin key   {key}")
    print(f'try         curl -s {stack.url}/classify/sst2 -H "Authorization: Bearer $(cat {key})" \\')
    print("              -H 'Content-Type: application/json' -d '{\"inputs\": \"a gripping film\"}'", flush=True)


if __name__ == "__main__":
    typer.run(main)
