"""Kill each part of a replicated deployment under load: three servers on three Redis servers with three sentinels.

Part of `make acceptance`. Two tenants with tasks of one name publish and classify all the time. The program kills the
master, a replica, each sentinel and each server with SIGKILL, one by one, and starts each again when the load is
steady; it also stops the master for some seconds and lets it continue, as a network that parts and heals. Then it
compares what was accepted with what every server and the registry know. It exits with status 1 if something accepted is
lost, or an answer was another tenant's or another version's.

A publication is accepted once the master and a replica have it (`min_replicas=1`).
"""

import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import redis
import typer
from platformdirs import user_cache_path
from rich.table import Table

from adapters import NotFound, Registry
from adapters.registry.opening import open_registry
from benchmarks.common.report import print_result
from benchmarks.common.workload import originals
from cli.console import err, print_table
from deploy.platform import free_ports
from deploy.program import Program
from deploy.replicated_redis import HOST, SERVICE, ReplicatedRedis, Timing, make_replicated_redis
from deploy.secret_files import ADMIN_KEY, REGISTRY, make_secrets
from deploy.stack import redis_server, server_program
from verification.chaos_load import TASK, Load, Tenant, load, lost
from verification.platform_callers import client_of

NUM_SERVERS = 3
CALLERS_EACH = 2
ORIGINALS = {"acme": "sst2", "zeta": "ag_news"}
"""Each tenant's adapters are made from a bundled one; their labels differ."""
_STOPPED_S = 4.0
"""Longer than sentinels wait for a master."""
_WITHIN_S = 120.0
_PAUSE_S = 0.2
_TIMING = Timing(down_after_ms=1_000, failover_timeout_ms=5_000)

app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Deployment:
    """All programs of a deployment."""

    store: ReplicatedRedis
    servers: Sequence[Program]
    urls: Sequence[str]
    admin_key: str

    def start(self) -> None:
        """Start everything."""
        self.store.start()
        for server in self.servers:  # one after the other: each needs the cores to load the model
            server.start()
            server.wait_ready()

    def stop(self) -> None:
        """Stop everything."""
        for server in self.servers:
            server.stop()
        self.store.stop()

    def master(self) -> int:
        """Return the number of the Redis server that most sentinels name."""
        votes: Counter[int] = Counter()
        for port in self.store.sentinel_ports:
            try:
                with redis.Redis(HOST, port, password=self.store.sentinel_password, socket_timeout=1) as sentinel:
                    votes[int(sentinel.sentinel_get_master_addr_by_name(SERVICE)[1])] += 1
            except redis.RedisError:
                continue
        return self.store.server_ports.index(votes.most_common(1)[0][0])


@dataclass(frozen=True, slots=True)
class Turn:
    """Effects of one death."""

    part: str
    answers_again_s: float
    """The longest time without an answer to a classification."""
    publishes_again_s: float
    """From the death to the beginning of the first upload that was accepted."""
    failures: dict[str, int]


@app.command(help=__doc__)
def main(
    turns: Annotated[int, typer.Option(min=1, help="How often each part is killed.")] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="Kill the master, one sentinel and one server only: about a minute.")
    ] = False,
    backbone: Annotated[str, typer.Option(help="Backbone of the servers.")] = "embedded",
) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the programs are stopped
    with tempfile.TemporaryDirectory(prefix="superpos-") as name, Path(name, "log").open("w", encoding="utf-8") as log:
        deployment = _deployment(Path(name), backbone, lambda *line: print(*line, file=log, flush=True))
        try:
            deployment.start()
            tenants = _tenants(deployment)
            done, outcome, problems = _run(deployment, tenants, turns, quick=quick)
        finally:
            deployment.stop()
    _report(done)
    for problem in [*problems, *outcome.wrong][:20]:
        print(f"does not hold: {problem}", file=sys.stderr)
    figures = _figures(tenants, done, outcome, problems)
    print_result("chaos", figures, detail={"turns": [asdict(turn) for turn in done], "failures": outcome.failures})
    raise typer.Exit(1 if problems or outcome.wrong else 0)


def _deployment(folder: Path, backbone: str, sink: Callable[[str, str], None]) -> Deployment:
    ports = free_ports(9)
    store = make_replicated_redis(folder, redis_server(), ports[:3], ports[3:6], sink=sink, timing=_TIMING)
    make_secrets(folder / "secrets")
    (folder / "secrets" / REGISTRY).write_text(store.url(min_replicas=1), encoding="ascii")
    settings = {
        "SUPERPOS_BACKBONE": backbone,
        "SUPERPOS_CACHE_DIR": str(user_cache_path("superpos")),
        "SUPERPOS_THREADS": "1",
        "SUPERPOS_BUNDLED": "false",
        "SUPERPOS_DRAIN_DELAY_S": "0",
    }
    servers = [server_program(folder, f"server-{port}", port, sink, settings) for port in ports[6:]]
    admin_key = (folder / "secrets" / ADMIN_KEY).read_text(encoding="ascii").strip()
    return Deployment(store, servers, [f"http://{HOST}:{port}" for port in ports[6:]], admin_key)


def _tenants(deployment: Deployment) -> list[Tenant]:
    tenants = []
    with client_of(deployment.urls[0], deployment.admin_key) as client:
        for name, original in ORIGINALS.items():
            client.post("/admin/tenants", json={"id": name}).raise_for_status()
            made = client.post(f"/admin/tenants/{name}/keys", json={"role": "publish"}).raise_for_status()
            tenants.append(Tenant(name, str(made.json()["key"]), originals()[original]))
    return tenants


def _run(
    deployment: Deployment, tenants: Sequence[Tenant], turns: int, *, quick: bool
) -> tuple[list[Turn], Load, list[str]]:
    """Let every part die, and return the turns, all outcomes, and what was lost."""
    done = []
    with load(deployment.urls, tenants, callers_each=CALLERS_EACH) as outcome:
        _wait_until(lambda: outcome.is_steady(0.0) and all(tenant.accepted for tenant in tenants))
        for _ in range(turns):
            for part in _parts(quick=quick):
                done.append(_turn(deployment, part, outcome))
                err.print(f"{part}: answers again after {done[-1].answers_again_s:.1f} s", highlight=False)
    return done, outcome, _lost(deployment, tenants)


def _parts(*, quick: bool) -> list[str]:
    if quick:
        return ["master", "sentinel 0", "server 0"]
    each = [f"{kind} {number}" for kind in ("sentinel", "server") for number in range(NUM_SERVERS)]
    return ["master", "replica", "master stopped", *each]


def _turn(deployment: Deployment, part: str, outcome: Load) -> Turn:
    program, before = _program(deployment, part), outcome.failures.copy()
    began = time.monotonic()
    if part == "master stopped":
        program.send(signal.SIGSTOP)
        time.sleep(_STOPPED_S)
        program.send(signal.SIGCONT)
    else:
        program.kill()
    _wait_until(lambda: outcome.is_steady(began))
    if part != "master stopped":
        program.start()
        program.wait_ready()
    restarted = time.monotonic()
    _wait_until(lambda: outcome.is_steady(restarted) and _is_whole(deployment))
    failures = {kind: outcome.failures[kind] - before[kind] for kind in sorted(outcome.failures)}
    return Turn(
        part,
        outcome.longest_gap_s(began),
        outcome.published_after_s(began),
        {kind: count for kind, count in failures.items() if count},
    )


def _program(deployment: Deployment, part: str) -> Program:
    """Return the program that a turn kills."""
    kind, _, number = part.partition(" ")
    match kind:
        case "master":
            return deployment.store.servers[deployment.master()]
        case "replica":
            return deployment.store.servers[(deployment.master() + 1) % len(deployment.store.servers)]
        case "sentinel":
            return deployment.store.sentinels[int(number)]
        case _:
            return deployment.servers[int(number)]


def _is_whole(deployment: Deployment) -> bool:
    """Return whether the master has all its replicas again, and every server is ready and not degraded."""
    master = deployment.store.server_ports[deployment.master()]
    try:
        with redis.Redis(HOST, master, password=deployment.store.password, socket_timeout=1) as client:
            state = client.info("replication")
    except redis.RedisError:
        return False
    if state["role"] != "master" or state["connected_slaves"] < len(deployment.store.servers) - 1:
        return False
    for url in deployment.urls:
        with client_of(url, deployment.admin_key) as server:
            ready = server.get("/healthz/ready")
        if not ready.is_success or ready.json()["degraded"]:
            return False
    return True


def _lost(deployment: Deployment, tenants: Sequence[Tenant]) -> list[str]:
    """Return what was accepted and is missing, in the registry or on a server."""
    registry = open_registry(deployment.store.url(min_replicas=0))
    problems = []
    for tenant in tenants:
        known = {info.version: info.digest for info in registry.describe(tenant.name, TASK).versions}
        problems += lost(tenant, known)
        missing = [digest for _, digest in tenant.accepted if not _has(registry, digest)]
        problems += [f"{tenant.name}: no files of {digest}" for digest in missing]
        for url in deployment.urls:
            with client_of(url, tenant.key) as client:
                listed = client.get(f"/tasks/{TASK}").raise_for_status().json()["versions"]
            problems += [f"{url}: {what}" for what in lost(tenant, {v["version"]: v["adapter"] for v in listed})]
    return problems


def _has(registry: Registry, digest: str) -> bool:
    try:
        return bool(registry.get(digest))
    except NotFound:
        return False


def _wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition in other processes holds, without taking much of their time (`TimeoutError`)."""
    deadline = time.monotonic() + _WITHIN_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not happen within {_WITHIN_S:g} s")
        time.sleep(_PAUSE_S)


def _figures(
    tenants: Sequence[Tenant], done: Sequence[Turn], outcome: Load, problems: Sequence[str]
) -> dict[str, float]:
    of_master = [turn for turn in done if turn.part.startswith("master")]
    return {
        "accepted": sum(len(tenant.accepted) for tenant in tenants),
        "accepted_lost": len(problems),
        "answered": len(outcome.answered),
        "answered_wrong": len(outcome.wrong),
        "classify_failed": sum(n for kind, n in outcome.failures.items() if kind.startswith("classify")),
        "publish_failed": sum(n for kind, n in outcome.failures.items() if kind.startswith("publish")),
        "answers_again_s_max": max(turn.answers_again_s for turn in done),
        "publishes_again_s_max": max(turn.publishes_again_s for turn in done),
        "publishes_again_after_master_s_max": max(turn.publishes_again_s for turn in of_master),
    }


def _report(done: Sequence[Turn]) -> None:
    table = Table("killed", "no answer for at most", "publishes again after", "failed requests")
    for turn in done:
        failures = ", ".join(f"{count} × {kind}" for kind, count in turn.failures.items()) or "none"
        table.add_row(turn.part, f"{turn.answers_again_s:.2f} s", f"{turn.publishes_again_s:.2f} s", failures)
    print_table(table)


if __name__ == "__main__":
    app()
