"""A Ray cluster of two nodes of one core each, all of it on this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from ray.cluster_utils import Cluster

_STORE_BYTES = 100 << 20


@contextmanager
def two_nodes() -> Iterator[str]:
    """Yield the address of a cluster, which ends with the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    node = {"num_cpus": 1, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(num_cpus=1, object_store_memory=_STORE_BYTES)
        yield cluster.address
    finally:
        cluster.shutdown()


def worker_processes(name: str) -> list[psutil.Process]:
    """Return the worker processes of this test's clusters whose title contains a name."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if any(part.startswith("ray::") and name in part for part in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found
