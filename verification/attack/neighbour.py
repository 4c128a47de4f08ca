"""The neighbour: a victim tenant's light, steady traffic in a process of its own, and its waiting times.

Requests are sent at fixed times, whether or not earlier ones were answered, and a request waits from the time at which
it was due. A server that stalls is therefore seen by every request of that time.
"""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.common.http_load import Client, call
from benchmarks.common.schedule import percentile

KEY = "ATTACK_NEIGHBOUR_KEY"
"""Environment variable with the key, which does not belong on a command line."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request of the neighbour."""

    due: float
    """On `time.monotonic`'s clock, which processes share."""
    seconds: float
    status: int
    """0 if there was no response."""


@dataclass
class Neighbour:
    """The waiting times so far."""

    rate: float
    """Requests per second."""
    samples: list[Sample] = field(default_factory=list)

    def since(self, started: float) -> list[Sample]:
        """Return the samples of requests due since then that have ended."""
        return [sample for sample in list(self.samples) if sample.due >= started]

    def wait(self, count: int, *, started: float, within_s: float) -> list[Sample]:
        """Wait until `count` requests due since then have ended, or for a time; return the samples."""
        deadline = time.monotonic() + within_s
        while len(found := self.since(started)) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        return found


def p99_s(samples: list[Sample]) -> float:
    """Return the 99th percentile of the waiting times, by nearest rank."""
    return percentile([sample.seconds for sample in samples], 99)


@contextmanager
def neighbour(url: str, ref: str, key: str, *, rate: float) -> Iterator[Neighbour]:
    """Run the neighbour during the block."""
    found = Neighbour(rate)
    command = [sys.executable, "-m", __name__, url, ref, str(rate)]
    with subprocess.Popen(command, env={**os.environ, KEY: key}, stdout=subprocess.PIPE, text=True) as process:
        lines = process.stdout
        assert lines is not None
        reader = threading.Thread(target=lambda: found.samples.extend(Sample(*json.loads(line)) for line in lines))
        reader.start()
        try:
            yield found
        finally:
            process.terminate()
            reader.join(10)


async def _ask_steadily(url: str, ref: str, rate: float, key: str) -> None:
    idle: list[Client] = []
    asking: set[asyncio.Task[None]] = set()

    async def ask(number: int, due: float) -> None:
        body = json.dumps({"inputs": f"a gripping film {number}"}).encode()  # another text each time: none is cached
        request = call(url, f"/classify/{ref}", body, rows=1, headers=f"Authorization: Bearer {key}\r\n")
        client = idle.pop() if idle else Client(url)
        try:
            async with asyncio.timeout(60):
                reply = await client.ask(request)
            status = 0 if reply is None else reply.status
            idle.append(client)
        except (OSError, TimeoutError):
            status = 0
        print(json.dumps([due, time.monotonic() - due, status]), flush=True)

    started = time.monotonic()
    for number in range(1_000_000):
        due = started + number / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.create_task(ask(number, due))
        asking.add(task)
        task.add_done_callback(asking.discard)


if __name__ == "__main__":
    asyncio.run(_ask_steadily(sys.argv[1], sys.argv[2], float(sys.argv[3]), os.environ[KEY]))
