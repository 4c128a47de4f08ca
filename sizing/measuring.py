"""Measurement of this machine's coefficients: `superpos size --measure`."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path

from backbone.precision import cpu_has_bf16
from service.cores import num_cores
from sizing.coefficients import BatchTime, Coefficients, Origin, Precision
from sizing.model_timing import (
    SERVER_REGISTRY,
    SERVER_TASK,
    AdapterCosts,
    BackboneSource,
    adapter_costs_apart,
    time_batches,
)
from sizing.processes import processor
from sizing.server_timing import ServerCosts, server_costs

_PACKAGES = ("superpos", "torch", "transformers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Precisions and threads to measure, and how often."""

    precisions: tuple[Precision, ...]
    threads: tuple[int, ...]
    """Numbers of threads of a replica; with each, as many replicas run at once as the cores permit."""
    adapters: int = 1_000
    requests: int = 100

    @property
    def num_steps(self) -> int:
        """Number of messages of `measure`."""
        return len(self.precisions) * len(self.threads) + 2


def extent_of_this_machine(*, precision: Precision | None = None, threads: int | None = None) -> Extent:
    """Return what to measure here.

    Args:
        precision: None for each that this processor is suited to
        threads: None for one thread and one per core
    """
    suited: tuple[Precision, ...] = ("fp32", "int8", "bf16") if cpu_has_bf16() else ("fp32", "int8")
    return Extent(
        precisions=suited if precision is None else (precision,),
        threads=tuple(sorted({1, num_cores()})) if threads is None else (threads,),
    )


def measure(source: BackboneSource, extent: Extent, *, command: str, say: Callable[[str], None]) -> Coefficients:
    """Measure everything on this machine, which should do nothing else meanwhile: two to four minutes on two cores.

    Args:
        source: the backbone
        extent: what to measure
        command: the command that measures, as the file of coefficients will state it
        say: called with a message before each step

    Raises:
        MeasuringFailed: a server that was started ended, or did not answer
        BackboneError: the backbone cannot be loaded
    """
    batches = tuple(_batches(source, extent, say))
    with tempfile.TemporaryDirectory(prefix="superpos-size-") as folder:
        say(f"{extent.adapters:,} adapters: memory, registry, loading")
        adapters = adapter_costs_apart(source, Path(folder), extent.adapters)
        say("a server: start, memory, requests")
        server = server_costs(
            source,
            Path(folder) / SERVER_REGISTRY,
            SERVER_TASK,
            threads=max(extent.threads),
            requests=extent.requests,
        )
    return _coefficients(source, batches, adapters, server, command)


def _batches(source: BackboneSource, extent: Extent, say: Callable[[str], None]) -> Iterator[BatchTime]:
    for precision, threads in product(extent.precisions, extent.threads):
        processes = max(1, num_cores() // threads)
        say(f"batches in {precision}: {processes} × {threads} thread{'s' * (threads > 1)}")
        yield time_batches(source, precision, threads=threads, processes=processes)


def _coefficients(
    source: BackboneSource, batches: Sequence[BatchTime], adapters: AdapterCosts, server: ServerCosts, command: str
) -> Coefficients:
    origin = Origin(
        processor=processor(),
        cores=num_cores(),
        backbone=source.source,
        width=adapters.width,
        measured_on=datetime.now(UTC).date(),
        command=command,
        software={name: version(name) for name in _PACKAGES},
    )
    return Coefficients(
        origin=origin,
        batches=tuple(batches),
        request_s=server.requests.request_s,
        request_row_s=server.requests.request_row_s,
        overhead_s=server.requests.overhead_s,
        start_s=server.start_s,
        load_adapter_s=adapters.load_s,
        server_bytes=server.resident_bytes,
        adapter_bytes=adapters.resident_bytes,
        version_bytes=adapters.version_bytes,
    )
