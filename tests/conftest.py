"""Fixtures of all rooms (tiny T5s, the embedded backbone, real rows) and the marks that fixtures and folders imply."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest
from hypothesis import settings
from support.backbone import make_t5
from support.threads import on_one_thread

from backbone import Backbone, load
from service.cores import num_cores

MARK_OF_FIXTURE = {"redis_server": "redis", "start_redis": "redis", "chromium": "browser"}
SYSTEM = Path(__file__).with_name("system")
settings.register_profile("untimed", deadline=None)  # an example that waits for a core is no failure
settings.load_profile("untimed")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list[object]) -> None:
    """Divide the cores among the workers, which inherit the environment.

    Otherwise each computes on threads for all cores. They spin while they wait for one another, and take the time from
    the other workers: two files that take 8 s side by side took 28 s on two cores.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, num_cores() // len(specs))))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the programs that their fixtures start, and those of `system/` as slow."""
    for item in items:
        for fixture, mark in MARK_OF_FIXTURE.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(mark)
        if item.path.is_relative_to(SYSTEM):
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def sigint_arrives() -> None:
    """Let SIGINT reach tests and the programs that they start, also where a shell's `&` has it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def servers_in_fp32() -> Iterator[None]:
    """Let servers compute in fp32 unless a test says otherwise: with `auto`, answers depend on the processor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUPERPOS_PRECISION", "fp32")
        yield


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """Return the folder that keeps the embedded backbone's weights between test runs."""
    return Path(os.environ.get("SUPERPOS_CACHE_DIR") or platformdirs.user_cache_path("superpos"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real rows; tests that use it are marked `data` and are skipped without it."""
    if not os.environ.get("SUPERPOS_DATA"):
        pytest.skip("SUPERPOS_DATA is not set: this test needs real rows")
    return Path(os.environ["SUPERPOS_DATA"])


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a tiny T5 v1.1; returns its folder."""
    return make_t5(tmp_path_factory.mktemp("tiny-t5-v11"), gated=True)


@pytest.fixture(scope="session")
def tiny_t5_v10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a tiny T5 v1.0; returns its folder."""
    return make_t5(tmp_path_factory.mktemp("tiny-t5-v10"), gated=False)


@pytest.fixture(scope="session")
def tiny(tiny_t5: Path, cache_dir: Path) -> Backbone:
    """Load the tiny T5 v1.1."""
    return load(str(tiny_t5), cache_dir=cache_dir)


@pytest.fixture(scope="session")
def embedded(cache_dir: Path) -> Backbone:
    """Load the embedded backbone."""
    return load("embedded", cache_dir=cache_dir)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Compute on one thread within a module."""
    with on_one_thread():
        yield
