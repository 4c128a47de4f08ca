"""Kill parts of the platform under load: Redis, two servers with the embedded backbone, the gateway.

Part of `make acceptance`. The program publishes through the gateway and measures how long both servers take to answer
with the new version. Then it kills Redis, kills a server and stops a server, one by one, under constant load. It
exits with status 1 if a promise does not hold.
"""

import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import httpx2
import typer
from platformdirs import user_cache_path

from adapters.files import to_files
from benchmarks.common.report import print_result
from benchmarks.common.workload import originals, perturbed
from deploy.platform import free_ports
from deploy.stack import Ports, Stack, make_stack
from verification.platform_callers import callers, client_of, digest_at, wait_until

NUM_CALLERS = 8
MAX_CONVERGENCE_S = 1.0
TASK = "sst2"


app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(turns: Annotated[int, typer.Option(min=1, help="How often each part is killed.")] = 3) -> None:
    gateway, metrics, prometheus, redis, *servers = free_ports(6)
    with tempfile.TemporaryDirectory() as folder, Path(folder, "log").open("w", encoding="utf-8") as log:
        settings = {"SUPERPOS_CACHE_DIR": str(user_cache_path("superpos")), "SUPERPOS_THREADS": "1"}
        ports = Ports(gateway, metrics, prometheus, redis, tuple(servers))
        stack = make_stack(
            Path(folder), ports, sink=lambda *line: print(*line, file=log, flush=True), settings=settings
        )
        stack.start()
        try:
            figures = _figures(stack, turns)
        finally:
            stack.stop()
    broken = _broken(figures)
    for promise in broken:
        print(f"does not hold: {promise}", file=sys.stderr)
    print_result("platform", figures, detail={"turns": turns, "callers": NUM_CALLERS})
    raise typer.Exit(1 if broken else 0)


def _figures(stack: Stack, turns: int) -> dict[str, float]:
    with client_of(stack.url, stack.admin_key) as client:
        seconds = sorted(_publish(stack, client, seed) for seed in range(20))
        outages = [_redis_dies(stack, client, 100 + turn) for turn in range(turns)]
    deaths = [_server_dies(stack, turn % 2) for turn in range(turns)]
    stops = [_server_stops(stack, turn % 2) for turn in range(turns)]
    return {
        "convergence_s_p50": seconds[len(seconds) // 2],
        "convergence_s_max": seconds[-1],
        "failed_of_redis_killed": sum(failed for failed, _ in outages),
        "answered_of_redis_killed": sum(answered for _, answered in outages),
        "failed_of_server_killed_max": max(failed for failed, _ in deaths),
        "answered_of_server_killed": sum(answered for _, answered in deaths),
        "failed_of_server_stopped": sum(failed for failed, _ in stops),
        "answered_of_server_stopped": sum(answered for _, answered in stops),
    }


def _broken(figures: dict[str, float]) -> list[str]:
    promises = {
        f"both servers answer with a new version within {MAX_CONVERGENCE_S:g} s": (
            figures["convergence_s_max"] <= MAX_CONVERGENCE_S
        ),
        "no classify fails while Redis is killed and started": figures["failed_of_redis_killed"] == 0,
        "a killed server fails only what was on it": figures["failed_of_server_killed_max"] <= NUM_CALLERS,
        "a server that is stopped loses nothing": figures["failed_of_server_stopped"] == 0,
    }
    return [promise for promise, holds in promises.items() if not holds]


def _upload(client: httpx2.Client, seed: int) -> httpx2.Response:
    parts = [("files", (name, data)) for name, data in to_files(perturbed(originals()[TASK], seed)).items()]
    return client.post(f"/tasks/{TASK}/versions", files=parts, data={"alias": "production"})


def _publish(stack: Stack, client: httpx2.Client, seed: int) -> float:
    """Return the seconds from the upload's response until both servers answer with its digest."""
    published = _upload(client, seed).raise_for_status()
    started = time.monotonic()
    wait_until(lambda: {digest_at(stack, server, TASK) for server in (0, 1)} == {published.json()["adapter"]})
    return time.monotonic() - started


def _under_load(stack: Stack, happens: Callable[[], None]) -> tuple[int, int]:
    with callers(stack, TASK, count=NUM_CALLERS) as asking:
        asking.wait_for(30)
        happens()
        asking.wait_for(30)
    return len(asking.refusals), len(asking.answered)


def _redis_dies(stack: Stack, client: httpx2.Client, seed: int) -> tuple[int, int]:
    def happens() -> None:
        stack.redis.kill()
        wait_until(lambda: _upload(client, seed).status_code == 503)
        time.sleep(2)
        stack.redis.start()
        stack.redis.wait_ready()
        wait_until(lambda: _upload(client, seed).is_success)

    return _under_load(stack, happens)


def _server_dies(stack: Stack, server: int) -> tuple[int, int]:
    def happens() -> None:
        stack.servers[server].kill()
        time.sleep(2)
        stack.servers[server].start()
        stack.servers[server].wait_ready()
        wait_until(lambda: digest_at(stack, server, TASK) is not None)

    return _under_load(stack, happens)


def _server_stops(stack: Stack, server: int) -> tuple[int, int]:
    def happens() -> None:
        stack.servers[server].send(signal.SIGTERM)
        assert stack.servers[server].wait() == 0
        stack.servers[server].start()
        stack.servers[server].wait_ready()
        wait_until(lambda: digest_at(stack, server, TASK) is not None)

    return _under_load(stack, happens)


if __name__ == "__main__":
    app()
