"""What the benchmark of the console measures with: a registry of copied tasks, a server, and a stream that is read."""

import asyncio
import json
from pathlib import Path

import pytest

from adapters.files import to_files
from adapters.names import DEFAULT_TENANT
from adapters.registry.opening import open_registry
from benchmarks.common import workload
from benchmarks.common.publishing import TASK, name
from benchmarks.console import Found, fill, measure, report


def test_copied_tasks_are_those_of_a_registry(tmp_path: Path) -> None:
    place, original = tmp_path / "registry.sqlite", workload.originals()[TASK]
    fill(place, [to_files(workload.perturbed(original, seed)) for seed in range(2)], 5)
    registry = open_registry(place)
    assert [each.task for each in registry.list(DEFAULT_TENANT)] == [name(number) for number in range(5)]
    digests = [registry.describe(DEFAULT_TENANT, name(number)).versions[0].digest for number in range(5)]
    assert digests == [digests[0], digests[1]] * 2 + [digests[0]]
    files = registry.files(DEFAULT_TENANT, name(4), 1)
    assert files == to_files(workload.perturbed(original, 0))


def test_the_figures_compare_periods_of_one_round(capsys: pytest.CaptureFixture[str]) -> None:
    found = Found(
        pages_ms=[200.0, 20.0, 30.0, 25.0],
        without=[100.0, 50.0, 80.0],
        open_page=[99.0, 49.0, 60.0],
        cpu_without=[0.01, 0.02, 0.01],
        cpu_open_page=[0.0101, 0.0202, 0.02],
    )
    report(found)
    *lines, last = capsys.readouterr().out.splitlines()
    figures = json.loads(last)["figures"]
    assert figures["live_page_throughput"] == pytest.approx(0.98)
    assert figures["live_page_cpu"] == pytest.approx(1.01)
    assert (figures["first_page_cold_ms"], figures["first_page_ms"]) == (200, 25)
    assert all(line.endswith(": met") for line in lines)


@pytest.mark.slow
def test_a_server_is_measured_with_and_without_the_page(tmp_path: Path) -> None:
    found = asyncio.run(measure(tmp_path, rounds=1, seconds=3, num_tasks=30))
    assert (len(found.without), len(found.open_page), found.failures) == (1, 1, 0)
    assert min(*found.without, *found.open_page, *found.cpu_without, *found.cpu_open_page) > 0
    assert found.events >= 1
