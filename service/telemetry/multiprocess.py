"""The folder in which the workers of one server keep their metrics, so that each can give the numbers of all.

The files are `prometheus_client`'s (multiprocess mode). A worker's files carry the number of its place and not of its
process: whoever takes a dead worker's place counts on from where that one ended, and restarts pile up no files.
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
    """One worker's place in the folder: its own until the process ends, however it ends."""

    path: Path
    place: int
    lock: FileLock
    """Held by the process that has the place."""

    def collect(self) -> Iterable[Metric]:
        """The numbers of all workers together."""
        files = [str(file) for file in sorted(self.path.glob("*.db")) if _is_begun(file)]
        metrics: Iterable[Metric] = multiprocess.MultiProcessCollector.merge(files)
        return metrics


def join(path: Path) -> SharedFolder:
    """Take a free place. From here on every metric that this process makes is kept in the folder."""
    for place in count():
        lock = _lock(path, place)
        try:
            lock.acquire()
        except Timeout:
            continue
        break
    multiprocess.mark_process_dead(place, str(path))
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(path)  # where the library looks
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: place)
    return SharedFolder(path, place, lock)


def forget_dead(path: Path) -> None:
    """Remove the gauges of workers that are no more; what they counted stays."""
    for place in range(len(list(path.glob("*.lock")))):
        try:
            with _lock(path, place):
                multiprocess.mark_process_dead(place, str(path))
        except Timeout:
            continue


def _is_begun(file: Path) -> bool:
    """False for one that a worker is about to fill: the library cannot read that."""
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:  # a dead worker's gauges
        return False


def _lock(path: Path, place: int) -> FileLock:
    return FileLock(path / f"{place}.lock", timeout=0)
