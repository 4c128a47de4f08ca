"""Memory that a process may still use: the machine's, and not more than its container's limit leaves."""

from pathlib import Path

import psutil
import pytest

from service.memory import available_bytes, release_freed

MEMINFO = "MemTotal:       8000 kB\nMemFree:        1000 kB\nMemAvailable:   4000 kB\n"
VERSION_2 = {"memory.max": "3000000\n", "memory.current": "2500000\n", "memory.stat": "anon 9\ninactive_file 100000\n"}
VERSION_1 = {
    "memory/memory.limit_in_bytes": "3000000\n",
    "memory/memory.usage_in_bytes": "3500000\n",
    "memory/memory.stat": "cache 9\ntotal_inactive_file 100000\n",
}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"meminfo": MEMINFO}, 4_096_000),
        ({"meminfo": MEMINFO, **VERSION_2}, 600_000),
        ({"meminfo": MEMINFO, **VERSION_2, "memory.max": "max\n"}, 4_096_000),
        ({"meminfo": MEMINFO, **VERSION_2, "memory.max": "99000000000\n"}, 4_096_000),
        (VERSION_1, 0),
        ({"meminfo": "MemTotal: 8000 kB\n"}, None),
        ({}, None),
    ],
)
def test_the_smaller_of_the_machines_and_the_containers_is_free(
    tmp_path: Path, files: dict[str, str], expected: int | None
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert available_bytes(tmp_path, tmp_path / "meminfo") == expected


@pytest.mark.skipif(not psutil.LINUX, reason="other systems do not say")
def test_this_machine_has_memory() -> None:
    found = available_bytes()
    assert found is not None
    assert 0 < found <= psutil.virtual_memory().total


@pytest.mark.skipif(not psutil.LINUX, reason="other allocators decide for themselves")
def test_freed_memory_returns_to_the_system() -> None:
    pieces = [bytes(4_096) for _ in range(20_000)]
    kept = pieces[::100]
    before = psutil.Process().memory_info().rss
    del pieces
    release_freed()
    assert len(kept) == 200
    assert psutil.Process().memory_info().rss < before - (40 << 20)
