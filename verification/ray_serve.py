"""Run the server on Ray Serve on three nodes, each in a network namespace of its own, and lose two of them under load.

Part of `make acceptance`; needs root and `ip` of iproute2, and is skipped without. An adapter is uploaded through one
node and must be served by all. Then one node is killed (all of its processes at once), and another one is cut off from
the network until the cluster has given it up. Callers choose between the nodes whose proxy reports that it is healthy,
as a load balancer does. A supervisor starts a node again whose Ray has ended, as Kubernetes does.

The program exits with status 1 if requests fail for other reasons than a lost node, if the nodes do not all serve the
newest version again in the end, or if an answer is of a version that was never published.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import httpx2
import psutil
import typer

from adapters.files import to_files
from benchmarks.common.report import print_result
from benchmarks.common.workload import originals, perturbed
from cli.console import err
from deploy.stack import redis_server
from superpos_client import Client

HUB = "192.0.2.1"  # addresses for documentation; they exist in these namespaces only
NODES = ("192.0.2.11", "192.0.2.12", "192.0.2.13")
HEAD, KILLED, CUT_OFF = range(3)
PORT = 8000
TASK = "sst2"
_CALLERS = 4
_TIMEOUT_S = 10.0
_WITHIN_S = 240.0
_ASKED_EACH = 15
"""Requests through each node after an upload, so that each of the replicas answers some."""
_STEADY_ANSWERS = 40
_STABLE_S = 15.0
_GIVEN_UP_S = 30.0
"""Ray has given a node up by then, by the health checks below."""
_HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 3_000,
    "health_check_period_ms": 1_500,
    "health_check_timeout_ms": 3_000,
    "health_check_failure_threshold": 3,
}
"""Ray's, of its nodes: a lost one is given up after 5 to 15 s instead of half a minute."""
_SCRIPTS = Path(sys.executable).parent
_KEY = f"sp_admin_{secrets.token_urlsafe(32)}"

_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_memory_monitor_refresh_ms": "0",
    "SUPERPOS_ADMIN_KEY": _KEY,  # replicas read their settings from their node's environment
}
_HEADERS = {"Authorization": f"Bearer {_KEY}"}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass
class Node:
    """One Ray node in its namespace; it starts again if its Ray ends while it is supervised."""

    number: int
    namespace: str
    folder: Path
    is_supervised: bool = True
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://{NODES[self.number]}:{PORT}"

    def command(self, *words: str) -> list[str]:
        """Return a command in this namespace, with a `/tmp` of its own."""
        private = ["sh", "-c", 'mount --bind "$0" /tmp && exec "$@"', str(self.folder)]
        return ["ip", "netns", "exec", self.namespace, *private, *words]

    def start(self) -> None:
        options = ["--num-cpus=1", f"--node-ip-address={NODES[self.number]}", "--object-store-memory=100000000"]
        if self.number == HEAD:
            options += ["--head", "--port=6379", "--include-dashboard=false"]
            options += [f"--system-config={json.dumps(_HEALTH_CHECKS)}"]
        else:
            options += [f"--address={NODES[HEAD]}:6379"]
        words = self.command(str(_SCRIPTS / "ray"), "start", *options, "--block", "--disable-usage-stats")
        with (self.folder / "ray.log").open("ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log)

    def processes(self) -> list[psutil.Process]:
        """Return the processes in the namespace."""
        found = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=True)
        return [psutil.Process(int(pid)) for pid in found.stdout.split() if psutil.pid_exists(int(pid))]

    def kill(self) -> None:
        """Kill everything on the node at once, as a power cut does."""
        for process in self.processes():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        if self.process is not None:
            self.process.wait()

    def has_replica(self) -> bool:
        for process in self.processes():
            try:
                if any("ServeReplica" in part for part in process.cmdline()):
                    return True
            except psutil.NoSuchProcess:
                continue
        return False

    def supervise(self) -> None:
        if self.is_supervised and self.process is not None and self.process.poll() is not None:
            self.kill()
            self.start()


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    node: int
    began: float
    ended: float
    failure: str | None
    version: int | None


@dataclass
class Load:
    """Callers, and what they know of the nodes."""

    nodes: Sequence[Node]
    asked: list[Asked] = field(default_factory=list)
    in_rotation: set[int] = field(default_factory=lambda: {0, 1, 2})
    stop: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Ask the proxies whether they are healthy, each half second, and supervise the nodes."""
        while not self.stop.wait(0.5):
            for node in self.nodes:
                node.supervise()
                try:
                    is_healthy = httpx2.get(f"{node.url}/-/healthz", timeout=1).status_code == 200
                except httpx2.TransportError:
                    is_healthy = False
                (self.in_rotation.add if is_healthy else self.in_rotation.discard)(node.number)

    def call(self) -> None:
        turn = 0
        while not self.stop.is_set():
            turn += 1
            choices = sorted(self.in_rotation)
            if not choices:
                time.sleep(0.1)
                continue
            number = choices[turn % len(choices)]
            began = time.monotonic()
            failure, version = None, None
            try:
                answer = ask(self.nodes[number])
                if answer.status_code == 200:
                    version = answer.json()["version"]
                else:
                    failure = str(answer.status_code)
            except httpx2.TransportError as exc:
                failure = type(exc).__name__
            self.asked.append(Asked(number, began, time.monotonic(), failure, version))


@dataclass(frozen=True, slots=True)
class Loss:
    """Effects of one lost node."""

    how: str
    failed_at_the_node: int
    """Requests that were sent to it."""
    failed_elsewhere: dict[str, int]
    """Requests that another node's proxy had given to its replica, by status."""
    last_failure_s: float
    """From the loss to the end of the last request that failed."""
    answers_meanwhile: int
    longest_gap_s: float
    """The longest time without an answer, from all nodes together."""
    out_of_rotation_s: float
    all_serve_again_s: float
    """From the return of machine or network until all three nodes serve."""


def ask(node: Node) -> httpx2.Response:
    return httpx2.post(
        f"{node.url}/classify/{TASK}", json={"inputs": "a gripping film"}, headers=_HEADERS, timeout=_TIMEOUT_S
    )


@app.command(help=__doc__)
def main(
    backbone: Annotated[str, typer.Option(help="Backbone of the replicas.")] = "embedded",
    inside: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    if inside is not None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the nodes are stopped
        os.environ |= _ENVIRONMENT
        sys.exit(_run(inside, backbone))
    if os.geteuid() != 0 or shutil.which("ip") is None:
        print("SKIPPED: verification.ray_serve needs root and ip (apt-get install iproute2) for network namespaces")
        return
    with _network(f"superpos-{os.getpid()}") as prefix:
        command = [sys.executable, "-m", "verification.ray_serve", "--inside", prefix, "--backbone", backbone]
        status = subprocess.run(["ip", "netns", "exec", f"{prefix}-hub", *command], check=False).returncode
    sys.exit(status)


@contextmanager
def _network(prefix: str) -> Iterator[str]:
    """Make a namespace per node and one for Redis and the callers, joined by a bridge in the latter."""
    hub = f"{prefix}-hub"
    names = [hub, *(f"{prefix}-n{number}" for number in range(len(NODES)))]
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "address", "add", f"{HUB}/24", "dev", "bridge")
        _ip("-n", hub, "link", "set", "bridge", "up")
        for number, address in enumerate(NODES):
            name = names[1 + number]
            peer = ["peer", "name", "eth0", "netns", name]
            _ip("-n", hub, "link", "add", f"node{number}", "type", "veth", *peer)
            _ip("-n", hub, "link", "set", f"node{number}", "master", "bridge", "up")
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
        yield prefix
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _run(prefix: str, backbone: str) -> int:
    """Run everything from the namespace of the callers."""
    with tempfile.TemporaryDirectory(prefix="superpos-") as name:
        nodes = []
        for number in range(len(NODES)):
            folder = Path(name, f"node{number}")
            folder.mkdir()
            nodes.append(Node(number, f"{prefix}-n{number}", folder))
        words = [str(redis_server()), "--bind", HUB, "--port", "6379", "--protected-mode", "no", "--dir", name]
        with Path(name, "redis.log").open("wb") as log:
            store = subprocess.Popen([*words, "--appendonly", "yes"], stdout=log)
        load = Load(nodes)
        try:
            return _lose_nodes(nodes, load, prefix, backbone)
        finally:
            load.stop.set()
            for node in nodes:
                node.is_supervised = False
                node.kill()
            store.kill()
            store.wait()


def _lose_nodes(nodes: Sequence[Node], load: Load, prefix: str, backbone: str) -> int:
    started = time.monotonic()
    for node in nodes:
        node.start()
        time.sleep(3 if node.number == HEAD else 0)
    _until(lambda: _is_up(nodes), "three Ray nodes")
    scale = ["--cpus", "1", "--min-replicas", "3", "--max-replicas", "3", "--host", "0.0.0.0", "--port", str(PORT)]
    options = [*scale, "--set", f"backbone={backbone}", "--set", "bundled=false", "--set", "log_format=json"]
    deploy = [str(_SCRIPTS / "superpos"), "ray", "serve", "--registry", f"redis://{HUB}:6379/0", *options]
    subprocess.run(nodes[HEAD].command(*deploy), check=True)
    _until(lambda: all(node.has_replica() for node in nodes), "a replica on each node")
    deployed_s = time.monotonic() - started
    err.print(f"three nodes serve after {deployed_s:.0f} s")
    problems = _publish(nodes, through=KILLED, version=1)
    watching = [threading.Thread(target=load.watch), *(threading.Thread(target=load.call) for _ in range(_CALLERS))]
    for thread in watching:
        thread.start()
    losses = []
    try:
        _steady(load)
        node = nodes[KILLED]
        node.is_supervised = False
        losses.append(_lose(load, node, "killed", node.kill, lambda: setattr(node, "is_supervised", True)))
        problems += _publish(nodes, through=CUT_OFF, version=2)
        link = ("-n", f"{prefix}-hub", "link", "set", f"node{CUT_OFF}")
        losses.append(_lose(load, nodes[CUT_OFF], "cut off", lambda: _ip(*link, "down"), lambda: _ip(*link, "up")))
        problems += _publish(nodes, through=HEAD, version=3)
        _steady(load)
    finally:
        load.stop.set()
        for thread in watching:
            thread.join()
    problems += _judge(load, losses)
    for problem in problems:
        print(f"does not hold: {problem}", file=sys.stderr)
    failures = Counter(each.failure for each in load.asked if each.failure is not None)
    answers = sum(each.failure is None for each in load.asked)
    figures = {
        "answers": answers, "failures": sum(failures.values()), "deployed_s": round(deployed_s),
        "problems": len(problems),
    }  # fmt: skip
    print_result("ray_serve", figures, detail={"losses": [asdict(loss) for loss in losses]})
    return 1 if problems else 0


def _publish(nodes: Sequence[Node], *, through: int, version: int) -> list[str]:
    """Publish a version through one node; return which nodes do not answer by it."""
    adapter = perturbed(originals()[TASK], version)
    with Client(nodes[through].url, _KEY, timeout=60) as client:
        published = client.tasks.publish(TASK, to_files(adapter)).version
    if published != version:
        return [f"version {published} was published, expected {version}"]
    problems = []
    for node in nodes:
        answered = {ask(node).json().get("version") for _ in range(_ASKED_EACH)}
        if answered != {version}:
            problems.append(f"after version {version} was accepted, {node.url} answered by {answered}")
    err.print(f"version {version} was published through node {through} and is served through all")
    return problems


def _lose(load: Load, node: Node, how: str, lose: Callable[[], None], give_back: Callable[[], None]) -> Loss:
    """Lose a node until the load balancer and Ray have given it up, give it back, and wait until all nodes serve."""
    err.print(f"node {node.number} is {how}")
    lost_at = time.monotonic()
    lose()
    _until(lambda: node.number not in load.in_rotation, "the node's removal from the rotation")
    out_s = time.monotonic() - lost_at
    _steady(load)
    time.sleep(max(0.0, _GIVEN_UP_S - (time.monotonic() - lost_at)))
    returned_at = time.monotonic()
    give_back()
    again_s = _all_serve_since(load) - returned_at
    ended_at = returned_at + again_s
    _steady(load)
    meanwhile = [each for each in load.asked if lost_at <= each.ended]
    failed = [each for each in meanwhile if each.failure is not None]
    ends = sorted([lost_at, *(each.ended for each in meanwhile if each.failure is None)])
    loss = Loss(
        how=how,
        failed_at_the_node=sum(each.node == node.number for each in failed),
        failed_elsewhere=dict(Counter(str(each.failure) for each in failed if each.node != node.number)),
        last_failure_s=round(max((each.ended - lost_at for each in failed), default=0.0), 1),
        answers_meanwhile=sum(each.failure is None and each.ended <= ended_at for each in meanwhile),
        longest_gap_s=round(max(after - before for before, after in pairwise(ends)), 1),
        out_of_rotation_s=round(out_s, 1),
        all_serve_again_s=round(again_s, 1),
    )
    err.print(str(loss))
    return loss


def _all_serve_since(load: Load) -> float:
    """Wait until all nodes have served for some seconds; return since when they have.

    The Ray of a node that was given up runs for a moment after the network is back, until the head ends it.
    """
    since = time.monotonic()

    def have_served() -> bool:
        nonlocal since
        if load.in_rotation != {0, 1, 2} or not all(node.has_replica() for node in load.nodes):
            since = time.monotonic()
        return time.monotonic() - since > _STABLE_S

    _until(have_served, "the return of the node")
    return since


def _judge(load: Load, losses: Sequence[Loss]) -> list[str]:
    """Return what does not hold."""
    problems = [
        f"{loss.failed_elsewhere} failed through other nodes when one was {loss.how}, at most {_CALLERS} were in flight"
        for loss in losses
        if sum(loss.failed_elsewhere.values()) > _CALLERS
    ]
    counted = sum(loss.failed_at_the_node + sum(loss.failed_elsewhere.values()) for loss in losses)
    failed = [each for each in load.asked if each.failure is not None]
    if len(failed) > counted:
        problems.append(f"{len(failed) - counted} requests failed while no node was lost")
    problems += [f"an answer by version {each.version}" for each in load.asked if each.version not in {None, 1, 2, 3}]
    return problems


def _steady(load: Load) -> None:
    """Wait for some answers from each node in rotation, without a failure."""
    since = len(load.asked)

    def is_steady() -> bool:
        asked = load.asked[since:][-_STEADY_ANSWERS:]
        return len(asked) == _STEADY_ANSWERS and all(each.failure is None for each in asked)

    _until(is_steady, "answers without a failure")


def _is_up(nodes: Sequence[Node]) -> bool:
    status = nodes[HEAD].command(str(_SCRIPTS / "ray"), "status")
    found = subprocess.run(status, capture_output=True, text=True, check=False)
    return "0.0/3.0 CPU" in found.stdout


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _WITHIN_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {_WITHIN_S:g} s")
        time.sleep(0.2)


if __name__ == "__main__":
    app()
