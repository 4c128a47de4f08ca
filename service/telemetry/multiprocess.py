"""The folder in which the workers of one server keep their metrics, so that each can report the totals.

The files are `prometheus_client`'s (multiprocess mode). A worker's files are named after its place instead of its
process id: the replacement of a dead worker continues its counts, and restarts leave no files behind.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout
from prometheus_client import multiprocess, values
from prometheus_client.metrics_core import Metric


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """A worker's place in the folder, held until its process ends for whatever reason."""

    path: Path
    place: int
    lock: FileLock
    """Held by the process that owns the place."""

    def collect(self) -> Iterable[Metric]:
        """Return the merged series of all workers."""
        files = [str(file) for file in sorted(self.path.glob("*.db")) if _is_begun(file)]
        metrics: Iterable[Metric] = multiprocess.MultiProcessCollector.merge(files)
        return metrics


def join(path: Path) -> SharedFolder:
    """Take a free place; every metric that this process creates from now on is kept in the folder."""
    for place in count():
        lock = _lock(path, place)
        try:
            lock.acquire()
        except Timeout:
            continue
        break
    multiprocess.mark_process_dead(place, str(path))
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(path)  # read by prometheus_client
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: place)
    return SharedFolder(path, place, lock)


def forget_dead(path: Path) -> None:
    """Remove the gauges of dead workers; their counters stay."""
    for place in range(len(list(path.glob("*.lock")))):
        try:
            with _lock(path, place):
                multiprocess.mark_process_dead(place, str(path))
        except Timeout:
            continue


def _is_begun(file: Path) -> bool:
    """Return whether a file has content: the library cannot read one that a worker has only just created."""
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:  # removed meanwhile: a dead worker's gauges
        return False


def _lock(path: Path, place: int) -> FileLock:
    return FileLock(path / f"{place}.lock", timeout=0)
