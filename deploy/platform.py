"""`make platform`: Redis, two servers, the gateway and Prometheus on this machine, until Ctrl-C. No containers."""

import argparse
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

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
                print(
                    f"platform | {program.name} ended with status {program.wait()}; starting it again", file=sys.stderr
                )
                program.start()


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.platform",
        description=__doc__,
        epilog="SUPERPOS_… variables are passed to the servers, except those that the platform sets.",
    )
    parser.add_argument("--port", type=int, default=8080, help="the gateway's port (default: %(default)s)")
    parser.add_argument("--prometheus-port", type=int, default=9090, help="(default: %(default)s)")
    parser.add_argument("--replicas", type=int, default=2, help="servers behind the gateway (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="data and secrets (default: .cache/platform)")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Run the platform until a signal arrives."""
    asked = _parse(words)

    settings = {
        "SUPERPOS_CACHE_DIR": str(user_cache_path("superpos")),
        "SUPERPOS_THREADS": str(max(1, (os.cpu_count() or 1) // asked.replicas)),
        **{name: value for name, value in os.environ.items() if name.startswith("SUPERPOS_")},
    }
    try:
        ports = choose_ports(gateway=asked.port, prometheus=asked.prometheus_port, replicas=asked.replicas)
    except OSError as exc:
        sys.exit(f"platform: {exc.strerror}: choose another with --port or --prometheus-port")
    # like Ctrl-C, from the start of the first program: no program may outlive this process
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        stack = make_stack(asked.folder.resolve(), ports, sink=_say, settings=settings)
        _run(stack)
    except (ToolUnavailable, ProgramFailed) as exc:
        sys.exit(f"platform: {exc}")


def _run(stack: Stack) -> None:
    try:
        stack.start()
        _tell(stack)
        keep_running(stack.programs, threading.Event())
    except KeyboardInterrupt:
        print("platform | stopping; once more ends it at once", file=sys.stderr)
    finally:
        try:
            stack.stop()
        except KeyboardInterrupt:
            stack.kill()


def _say(name: str, line: str) -> None:
    print(f"{name:<10} | {line}", file=sys.stderr, flush=True)


def _tell(stack: Stack) -> None:
    key = stack.admin_key_file
    print(f"gateway     {stack.url}")
    print(f"prometheus  {stack.prometheus_url}")
    for program, url in zip(stack.servers, stack.server_urls, strict=True):
        print(f"{program.name:<11} {url} (the gateway is the way in)")
    print(f"admin key   {key}")
    print(f'try         curl -s {stack.url}/classify/sst2 -H "Authorization: Bearer $(cat {key})" \\')
    print("              -H 'Content-Type: application/json' -d '{\"inputs\": \"a gripping film\"}'", flush=True)


if __name__ == "__main__":
    main()
