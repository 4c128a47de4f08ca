"""Connection to a Ray cluster: a running one by its address, or a temporary one on this machine."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from training.errors import InvalidArguments

LOCAL = "local"


@contextmanager
def cluster(address: str, *, num_cpus: int | None = None) -> Iterator[None]:
    """Connect to a Ray cluster, and end our actors when leaving it.

    Args:
        address: of a running cluster, or `local` for a temporary one on this machine
        num_cpus: CPUs of a local cluster; None for all

    Raises:
        InvalidArguments: no cluster answers at the address
    """
    # no usage statistics, and no dashboard on a local cluster
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    page = False if address == LOCAL else None
    try:
        ray.init(
            address, num_cpus=num_cpus, include_dashboard=page, log_to_driver=False, logging_level=logging.CRITICAL
        )
    except (ConnectionError, RuntimeError, ValueError) as exc:
        raise InvalidArguments(f"no Ray cluster at {address!r}: {str(exc).splitlines()[0]}") from exc
    try:
        yield
    finally:
        ray.shutdown()


def num_places(*, threads: int, gpus: int) -> int:
    """Return how many workers the cluster has room for.

    Args:
        threads: CPU cores per worker
        gpus: GPUs per worker

    Raises:
        InvalidArguments: the cluster is too small for any
    """
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    places = [resources.get("CPU", 0) // threads] + ([resources.get("GPU", 0) // gpus] if gpus else [])
    if min(places) < 1:
        raise InvalidArguments(f"the Ray cluster is too small for a worker with {threads} CPUs and {gpus} GPUs")
    return int(min(places))
