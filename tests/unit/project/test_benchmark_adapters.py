"""The benchmark of adapters: its help, and the process that publishes beside it."""

import asyncio
from pathlib import Path

from typer.testing import CliRunner

from adapters import DEFAULT_TENANT
from adapters.registry.opening import open_registry
from benchmarks.adapters import __main__ as benchmark
from benchmarks.common.publishing import name, publisher


def test_the_help_of_adapters_says_what_its_figures_mean() -> None:
    shown = CliRunner().invoke(benchmark.app, ["--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert shown.exit_code == 0
    for figure in ("throughput_vs_1", "p99_vs_1", "adapter_resident_bytes", "cold_extra_ms", "publish_to_served_ms"):
        assert figure in shown.output


def test_another_process_publishes_into_the_same_registry(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    registry = open_registry(path)

    async def run() -> tuple[float, float]:
        async with publisher(path) as other:
            return await other.publish(0, 1, seed=1), await other.publish(1, 1, seed=2)

    first, second = asyncio.run(run())
    assert first < second
    assert [len(registry.describe(DEFAULT_TENANT, name(number)).versions) for number in (0, 1)] == [1, 2]
