"""Cores that a process may use: its affinity and its container's CPU quota, and not the host's cores."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.threads import on_threads

from service import cores
from service.cores import cpu_quota, num_cores, spin_briefly, use_threads


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": ""}, None),
        ({}, None),
    ],
)
def test_a_containers_quota_is_read(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert cpu_quota(tmp_path) == quota


@pytest.mark.parametrize(("quota", "expected"), [("50000 100000", 1), ("100000 100000", 1), ("99900000 100000", None)])
def test_threads_are_no_more_than_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, expected: int | None
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(cores, "cpu_quota", lambda: cpu_quota(tmp_path))
    allowed = len(os.sched_getaffinity(0))
    assert num_cores() == (expected or allowed)
    with on_threads(allowed):
        use_threads(None)
        assert torch.get_num_threads() == (expected or allowed)
        use_threads(3)
        assert torch.get_num_threads() == 3


def test_affinity_counts() -> None:
    confine = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    code = f"{confine}; from service.cores import num_cores; print(num_cores())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "1"


@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_a_users_own_way_of_waiting_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for each in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "7")
    before = dict(os.environ)
    spin_briefly()
    assert dict(os.environ) == before


_BUILDING = """
import os, sys, threading, time
import numpy, torch

def native():
    return set(map(int, os.listdir("/proc/self/task")))

torch.set_num_threads(2)  # which starts a thread of PyTorch's own
before = native()
from service.app import create_app
from service.loading import begin_loading
from service.settings import Settings

settings = Settings(registry=sys.argv[1], cache_dir=sys.argv[2], bundled=False, precision="fp32", threads=2)
loading = begin_loading(settings)
create_app(settings, loading=loading)
loading.result()
until = time.monotonic() + 10
while (new := native() - before - {each.native_id for each in threading.enumerate()}) and time.monotonic() < until:
    time.sleep(0.01)
print(len(new))
"""


@pytest.mark.slow
def test_the_thread_that_builds_a_server_keeps_none_that_compute(tmp_path: Path, cache_dir: Path) -> None:
    """libgomp hardly spins while two threads have helpers: a single text then took a third longer."""
    assert sys.platform == "linux"
    command = [sys.executable, "-c", _BUILDING, tmp_path / "registry.sqlite", cache_dir]
    assert subprocess.check_output(command, text=True).strip() == "0"
