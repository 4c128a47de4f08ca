"""Times of the model and of adapters, each measured in processes of its own."""

import gc
import multiprocessing
import os
import sqlite3
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Barrier

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray

from adapters import DEFAULT_TENANT, BackboneRef, Manifest, PromptAdapter, Provenance, TaskSpec
from adapters.files import from_files, to_files
from adapters.registry.opening import open_registry
from backbone import Backbone, load
from service.catalog.adapter_cache import LoadedAdapter, load_adapter
from service.engine.model_runner import ModelRunner
from service.engine.prompt_table import PromptTable
from service.engine.types import Row
from service.memory import bound_kernel_caches
from sizing.coefficients import BatchTime, Precision
from sizing.processes import resident_bytes

POINTS = ((1, 8), (1, 64), (1, 256), (4, 32), (8, 64), (16, 32), (12, 70), (32, 20))
"""Rows and text tokens per row of the measured batches; with prompts of 10 tokens at most 1,024 in all."""
LONGER = range(-4, 5)
"""Tokens by which the texts are longer, another number in each turn: a server seldom sees a length again soon."""
TASK = TaskSpec(template="{text}", labels={"no": "no", "yes": "yes"}, max_tokens=512)
VIRTUAL_TOKENS = 10
SERVER_REGISTRY, SERVER_TASK = "server.sqlite", "measured"
_NUM_ADAPTERS = 4
_START_LIMIT_S = 600.0
_FIRST_ID = 3
"""The lowest token id of made-up texts; the time of a batch does not depend on them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSource:
    """Arguments of `backbone.load`, for each process."""

    source: str
    cache_dir: Path
    revision: str | None = None
    offline: bool = False

    def load(self, precision: Precision = "fp32") -> Backbone:
        """Load the backbone."""
        return load(
            self.source,
            cache_dir=self.cache_dir,
            revision=self.revision,
            offline=self.offline,
            precision=precision,
        )


@dataclass(frozen=True, slots=True)
class AdapterCosts:
    """Costs of one adapter, in the mean over many."""

    width: int
    """H of the backbone."""
    resident_bytes: int
    version_bytes: int
    load_s: float


def time_batches(source: BackboneSource, precision: Precision, *, threads: int, processes: int) -> BatchTime:
    """Measure batches of several sizes and fit their coefficients.

    Args:
        source: the backbone
        precision: the precision of the model
        threads: threads of each process
        processes: how many run at once, as replicas on one machine do; the coefficients are of their mean
    """
    bound_kernel_caches()  # of the new processes, as `superpos serve` does
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(processes, mp_context=context) as pool:
        barrier = manager.Barrier(processes)
        running = [pool.submit(batch_seconds, source, precision, threads, barrier) for _ in range(processes)]
        seconds = np.mean([each.result() for each in running], axis=0)
    return fit(seconds.tolist(), precision=precision, threads=threads)


def fit(seconds: Sequence[float], *, precision: Precision, threads: int) -> BatchTime:
    """Fit the coefficients to the durations of `POINTS`: least squares of the relative errors, none negative."""
    points = np.array([(1, rows, rows * (tokens + VIRTUAL_TOKENS)) for rows, tokens in POINTS], dtype=np.float64)
    relative = points / np.array(seconds)[:, None]  # [points, 3]
    found, _ = scipy.optimize.nnls(relative, np.ones(len(points)))
    return BatchTime(
        precision=precision,
        threads=threads,
        batch_s=found[0],
        row_s=found[1],
        token_s=found[2],
        max_error=float(np.abs(relative @ found - 1).max()),
    )


def batch_seconds(source: BackboneSource, precision: Precision, threads: int, barrier: Barrier) -> list[float]:
    """Return the median duration of each of `POINTS` in this process; every turn measures all of them.

    Sets the number of this process's threads. The measurement begins when all processes have reached the barrier.
    """
    torch.set_num_threads(threads)
    backbone = source.load(precision)
    runner = ModelRunner(backbone, prompt_table_bytes=1 << 20)
    adapters = [load_adapter(make_adapter(backbone, seed), backbone) for seed in range(_NUM_ADAPTERS)]
    num_ids = len(backbone.weights.embedding)
    turns = [
        [
            [_row(adapters[i % _NUM_ADAPTERS], tokens + longer, num_ids=num_ids, seed=i) for i in range(rows)]
            for rows, tokens in POINTS
        ]
        for longer in LONGER
    ]
    for batch in turns[0]:
        runner(batch)
    # the processor time of one thread is the same on a busy machine
    clock = time.thread_time if threads == 1 else time.perf_counter
    barrier.wait(_START_LIMIT_S)
    seconds: list[list[float]] = [[] for _ in POINTS]
    for batches in turns:
        for batch, found in zip(batches, seconds, strict=True):
            started = clock()
            runner(batch)
            found.append(clock() - started)
    return [statistics.median(found) for found in seconds]


def _row(adapter: LoadedAdapter, tokens: int, *, num_ids: int, seed: int) -> Row:
    ids: list[int] = np.random.default_rng(seed).integers(_FIRST_ID, num_ids, tokens).tolist()
    return Row(adapter, tuple(ids), deadline=0.0)


def make_adapter(backbone: Backbone, seed: int) -> PromptAdapter:
    """Make an adapter of the backbone whose prompt is random; its answers mean nothing."""
    prompt: NDArray[np.float32] = (
        np.random.default_rng(seed).normal(size=(VIRTUAL_TOKENS, backbone.width)).astype(np.float32)
    )
    manifest = Manifest(
        task=TASK,
        backbone=BackboneRef(**asdict(backbone.identity)),
        provenance=Provenance(method="random", seed=seed),
    )
    return PromptAdapter(prompt, manifest)


def adapter_costs_apart(source: BackboneSource, folder: Path, count: int) -> AdapterCosts:
    """Return `adapter_costs`, measured in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(adapter_costs, source, folder, count).result()


def adapter_costs(source: BackboneSource, folder: Path, count: int) -> AdapterCosts:
    """Measure `count` adapters: published into a SQLite registry in the folder, and loaded from it.

    Another registry in the folder, `SERVER_REGISTRY`, gets one of them as `SERVER_TASK`.
    """
    backbone, path = source.load(), folder / "adapters.sqlite"
    first = to_files(make_adapter(backbone, 0))
    open_registry(folder / SERVER_REGISTRY).publish(DEFAULT_TENANT, SERVER_TASK, first, actor="sizing")
    registry = open_registry(path)
    digests: list[str] = []
    stored = 0
    for seed in range(count + 1):
        files = to_files(make_adapter(backbone, seed))
        digests.append(registry.publish(DEFAULT_TENANT, f"task-{seed}", files, actor="sizing").digest)
        stored = stored or _stored_bytes(path)
    stored = _stored_bytes(path) - stored
    table = PromptTable(width=backbone.width, device=backbone.device, max_bytes=1 << 30)
    kept: list[LoadedAdapter] = []
    seconds: list[float] = []
    before = 0
    for digest in digests:
        started = time.thread_time()
        kept.append(load_adapter(from_files(registry.get(digest)), backbone))
        seconds.append(time.thread_time() - started)
        table.load(kept[-1:])
        before = before or _own_bytes()
    return AdapterCosts(
        width=backbone.width,
        resident_bytes=max(1, (_own_bytes() - before) // count),
        version_bytes=max(1, stored // count),
        load_s=statistics.median(seconds),
    )


def _stored_bytes(path: Path) -> int:
    """Return the size of a SQLite registry whose log of writes is empty."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size


def _own_bytes() -> int:
    gc.collect()
    return resident_bytes(os.getpid())
