"""Publishing process: a second handle on a registry's file, controlled over its standard input.

Each input line is JSON: `{"first", "last", "seed"}` publishes a version of each of the tasks with these numbers. The
answer to each line is the start of the publication by `time.monotonic`, which processes of one machine share. With
the argument `mixed` the adapters have readouts of all kinds in turn, else label words.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.registry.opening import open_registry
from benchmarks.common import workload

TASK = "sst2"
"""Bundled adapter that all others are made from: the same template and labels, other prompts."""


def name(number: int) -> str:
    """Return the task of an adapter by its number."""
    return f"{TASK}-{number:05d}"


@dataclass(frozen=True, slots=True)
class Publisher:
    """Handle of the process."""

    process: asyncio.subprocess.Process

    async def publish(self, first: int, last: int, *, seed: int) -> float:
        """Publish a version of the tasks `first` to `last`; return its start by `time.monotonic`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"first": first, "last": last, "seed": seed}).encode() + b"\n")
        line = await self.process.stdout.readline()
        if not line:
            raise SystemExit("the publishing process ended")
        began: float = json.loads(line)["began"]
        return began


@asynccontextmanager
async def publisher(registry: Path, *, mixed: bool = False) -> AsyncIterator[Publisher]:
    """Run the process on a registry during the block."""
    command = (sys.executable, "-m", "benchmarks.common.publishing", str(registry), *(["mixed"] if mixed else []))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        yield Publisher(process)
    finally:
        process.terminate()
        await process.wait()


def main() -> None:
    """Publish as standard input requests, until its end."""
    registry, original = open_registry(Path(sys.argv[1])), workload.originals()[TASK]
    make = workload.of_mixed_readout if sys.argv[2:] == ["mixed"] else workload.perturbed
    for line in sys.stdin:
        order = json.loads(line)
        numbers = range(order["first"], order["last"] + 1)
        # seeds of one publication differ by a multiple of 3, so that a task's versions have one kind of readout
        made = [(number, make(original, order["seed"] * 3_000_003 + number)) for number in numbers]
        began = time.monotonic()
        for number, adapter in made:
            workload.publish(registry, name(number), adapter)
        print(json.dumps({"began": began}), flush=True)


if __name__ == "__main__":
    main()
