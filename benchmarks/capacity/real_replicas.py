"""Real servers on one Redis under an open load, and the simulation of exactly the same requests."""

import asyncio
import os
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray

from adapters import DEFAULT_TENANT
from adapters.registry.opening import open_registry
from benchmarks.capacity.replica import ReplicaModel
from benchmarks.capacity.scenarios import capacity
from benchmarks.capacity.simulation import Result, Scenario, simulate
from benchmarks.capacity.traffic import Arrival, Traffic
from benchmarks.common import workload
from benchmarks.common.http_load import open_loop
from benchmarks.common.load import Load
from benchmarks.common.schedule import draw, poisson_arrivals
from benchmarks.common.server_process import (
    SUPERPOS,
    Question,
    Server,
    free_port,
    started,
    superpos_server,
    until_it_answers,
)
from cli.console import err
from deploy.secret_files import REGISTRY, make_secrets
from deploy.stack import HOST, redis_program
from sizing.coefficients import Coefficients

NUM_TASKS = 100
NUM_CALLS = 400
"""Different requests, each of one text; they repeat in this order."""
SETTLE_S = 2.0
_WARM_UP = 0.1
_BUSY = re.compile(r"^superpos_batch_duration_seconds_sum (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One step of the load: what was measured, and what the simulation of the same requests gives."""

    load: float
    requests: int
    failures: int
    p50_s: float
    p99_s: float
    busy: float
    """Share of the time in which a server's model runs, in the mean."""
    simulated: Result

    @property
    def p50_ratio(self) -> float:
        """Simulated ÷ measured, as the next two."""
        return self.simulated.p50_s / self.p50_s

    @property
    def p99_ratio(self) -> float:
        return self.simulated.p99_s / self.p99_s

    @property
    def busy_ratio(self) -> float:
        return self.simulated.busy / self.busy


@dataclass(frozen=True, slots=True)
class Layout:
    """The cores of each part."""

    replicas: int
    threads: int
    """Threads of each server's model."""
    server_cores: frozenset[int]
    other_cores: frozenset[int]
    """Cores of Redis and of what sends requests."""

    @classmethod
    def together(cls) -> "Layout":
        """Two replicas, each with a thread for half of the cores, which all parts share."""
        cores = frozenset(os.sched_getaffinity(0))
        return cls(2, max(1, len(cores) // 2), cores, cores)

    @classmethod
    def apart(cls) -> "Layout":
        """One replica on one half of the cores, everything else on the other."""
        cores = sorted(os.sched_getaffinity(0))
        half = len(cores) // 2
        if half == 0:
            raise ValueError("this process may use one core, expected two: one for the server, one for its callers")
        return cls(1, half, frozenset(cores[:half]), frozenset(cores[half:]))

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Run what the block starts on the servers' cores."""
        with _on_cores(self.server_cores):
            yield

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Run this thread, and what the block starts, on the others."""
        with _on_cores(self.other_cores):
            yield


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request of one text."""

    question: Question
    task: int
    tokens: int
    """Length of the text as the server states it, without the prompt."""


async def compare(
    folder: Path, coefficients: Coefficients, layout: Layout, *, loads: Sequence[float], seconds: float, seed: int
) -> list[Comparison]:
    """Measure and simulate each load, from low to high.

    Args:
        folder: for Redis, logs and secrets
        coefficients: costs of a replica with the layout's threads
        layout: the replicas, and their cores
        loads: shares of the capacity that the coefficients state
        seconds: duration of each load
        seed: of arrivals and balancing
    """
    model = ReplicaModel.of(coefficients, "fp32", layout.threads)
    with layout.asking(), _redis(folder) as location, ExitStack() as stack:
        adapters = workload.mixed_adapters(NUM_TASKS)
        registry = open_registry(location.read_text(encoding="ascii").strip())
        for task, adapter in adapters.items():
            workload.publish(registry, task, adapter)
        server = _server(location, layout.threads)
        logs = [folder / f"server-{number}.log" for number in range(layout.replicas)]
        with layout.serving():
            urls = [stack.enter_context(started(server, log=log)) for log in logs]
        asked: list[_Asked] = []
        for task, question in _questions(list(adapters)):
            replies = [
                await until_it_answers(url, server.call(url, question), log=log)  # on both: their adapters are loaded
                for url, log in zip(urls, logs, strict=True)
            ]
            asked.append(_Asked(question, task, replies[0].json()["predictions"][0]["tokens"]))
        return [
            await _step(server, urls, asked, model, load=load, seconds=seconds, seed=seed + number)
            for number, load in enumerate(sorted(loads))
        ]


async def _step(
    server: Server,
    urls: Sequence[str],
    asked: Sequence[_Asked],
    model: ReplicaModel,
    *,
    load: float,
    seconds: float,
    seed: int,
) -> Comparison:
    """Send one load, and simulate it."""
    traffic = Traffic(requests_per_s=1.0, tasks=NUM_TASKS, lengths=tuple(each.tokens for each in asked))
    rate = load * len(urls) * capacity(model, traffic)
    err.print(f"load {load:.0%}: {rate:.1f} requests/s for {seconds:g} s")
    times = poisson_arrivals(rate, seconds=seconds, seed=seed)
    requests = list(islice(cycle(asked), len(times)))
    chooser = random.Random(seed)
    replicas = [chooser.randrange(len(urls)) for _ in times]
    await asyncio.sleep(SETTLE_S)
    before = _busy_s(urls)
    sent = [(at, each.question) for at, each in zip(times, requests, strict=True)]
    measured = await asyncio.gather(
        *(
            _send(server, url, [one for one, chosen in zip(sent, replicas, strict=True) if chosen == number])
            for number, url in enumerate(urls)
        )
    )
    wall_s = max(each.wall_s for each in measured)
    busy = (_busy_s(urls) - before) / len(urls) / wall_s
    p50_s, p99_s = np.percentile(np.concatenate(list(map(_counted, measured))), (50, 99)).tolist()
    order = iter(replicas)
    simulated = simulate(
        Scenario(name="check", traffic=traffic, replicas=len(urls), seconds=wall_s),
        model,
        seed=seed,
        arrivals=[
            Arrival(at, each.task, DEFAULT_TENANT, (each.tokens,)) for at, each in zip(times, requests, strict=True)
        ],
        balance=lambda _, ready: ready[next(order)],
    )
    return Comparison(
        load=load,
        requests=len(times),
        failures=sum(each.failures for each in measured),
        p50_s=p50_s,
        p99_s=p99_s,
        busy=busy,
        simulated=simulated,
    )


async def _send(server: Server, url: str, sent: Sequence[tuple[float, Question]]) -> Load:
    """Send requests to one server at their times."""
    return await open_loop(url, [server.call(url, question) for _, question in sent], [at for at, _ in sent])


def _counted(load: Load) -> NDArray[np.float64]:
    """Return the latencies after the first tenth of the answers, as the simulation counts them."""
    latencies = np.array(load.latencies)
    return latencies[int(_WARM_UP * len(latencies)) :]


def _busy_s(urls: Sequence[str]) -> float:
    """Return the seconds in which the servers' models have run, in all."""
    total = 0.0
    for url in urls:
        with urlopen(f"{url}/metrics", timeout=30) as answer:
            found = _BUSY.search(answer.read().decode())
        assert found is not None
        total += float(found[1])
    return total


def _questions(names: Sequence[str]) -> list[tuple[int, Question]]:
    """Draw the different requests: the number of each task, and one text of it."""
    originals = workload.originals()
    texts = workload.texts({task: adapter.spec for task, adapter in originals.items()})
    err.print(f"texts: {texts.source}")
    turns = {task: cycle(items) for task, items in texts.items.items()}
    asked = []
    for number in draw(len(names), "zipf", size=NUM_CALLS, seed=1):
        original = workload.original(names[number])
        item, spec = next(turns[original]), originals[original].spec
        asked.append((number, Question(names[number], (item,), (spec.render(item),), spec.max_tokens)))
    return asked


def _server(location: Path, threads: int) -> Server:
    """Return a server of the registry whose URL is in a file."""

    def command(port: int) -> Sequence[str]:
        options = ("--port", str(port), "--registry", f"@{location}", "--threads", str(threads))
        return (SUPERPOS, "serve", *options, "--log-format", "json")

    return replace(superpos_server(location), command=command)


@contextmanager
def _on_cores(cores: frozenset[int]) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _redis(folder: Path) -> Iterator[Path]:
    """Run Redis; yields the file with its URL."""
    port = free_port()
    make_secrets(folder / "secrets", redis=f"{HOST}:{port}")
    redis = redis_program(folder, port, lambda *_: None)
    redis.start()
    try:
        redis.wait_ready()
        yield folder / "secrets" / REGISTRY
    finally:
        redis.stop()
