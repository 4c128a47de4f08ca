"""The parts of a measurement, each in this process: batches, adapters, requests. `make bench` runs it as a whole."""

import os
from pathlib import Path
from threading import Barrier
from urllib.parse import urlsplit

import pytest
from support.server import RunningServer

from sizing.errors import MeasuringFailed
from sizing.measuring import extent_of_this_machine
from sizing.model_timing import (
    POINTS,
    SERVER_REGISTRY,
    VIRTUAL_TOKENS,
    BackboneSource,
    adapter_costs,
    batch_seconds,
    fit,
)
from sizing.processes import main_thread_s, processor, resident_bytes
from sizing.server_timing import request_costs


def test_a_fit_finds_the_coefficients_that_made_the_durations() -> None:
    seconds = [0.004 + 0.002 * rows + 1e-4 * rows * (tokens + VIRTUAL_TOKENS) for rows, tokens in POINTS]
    found = fit(seconds, precision="fp32", threads=2)
    assert (found.batch_s, found.row_s, found.token_s) == pytest.approx((0.004, 0.002, 1e-4))
    assert found.max_error == pytest.approx(0, abs=1e-6)
    rough = [value * (1.2 if number % 2 else 1.0) for number, value in enumerate(seconds)]
    assert 0.05 < fit(rough, precision="fp32", threads=2).max_error < 0.2


def test_every_measured_batch_fits_into_the_servers_budget() -> None:
    assert max(rows * (tokens + VIRTUAL_TOKENS) for rows, tokens in POINTS) <= 1_024


@pytest.mark.usefixtures("one_thread")
def test_batches_are_measured_on_the_servers_own_forward(tiny_t5: Path, cache_dir: Path) -> None:
    source = BackboneSource(source=str(tiny_t5), cache_dir=cache_dir)
    seconds = batch_seconds(source, "fp32", 1, Barrier(1))
    assert len(seconds) == len(POINTS)
    assert seconds[0] < max(seconds[5:]), "one short row against many"


def test_adapters_are_measured_in_a_registry_and_in_memory(tiny_t5: Path, cache_dir: Path, tmp_path: Path) -> None:
    found = adapter_costs(BackboneSource(source=str(tiny_t5), cache_dir=cache_dir), tmp_path, 20)
    prompt = VIRTUAL_TOKENS * 32 * 4  # float32
    assert found.width == 32
    assert found.version_bytes > prompt
    assert found.load_s > 0
    assert (tmp_path / SERVER_REGISTRY).exists()


def test_requests_are_measured_on_a_running_server(shared_server: RunningServer) -> None:
    port = urlsplit(shared_server.url).port
    assert port is not None
    found = request_costs(os.getpid(), port, "sentiment", requests=3)
    assert found.overhead_s > 0
    assert found.request_s >= 0
    with pytest.raises(MeasuringFailed, match="the server answered 404"):
        request_costs(os.getpid(), port, "unknown", requests=1)


def test_the_extent_is_what_suits_the_processor_unless_it_is_named() -> None:
    found = extent_of_this_machine()
    assert {"fp32", "int8"} <= set(found.precisions)
    assert found.threads[0] == 1
    named = extent_of_this_machine(precision="int8", threads=3)
    assert (named.precisions, named.threads, named.num_steps) == (("int8",), (3,), 3)


def test_the_system_reports_memory_time_and_processor() -> None:
    assert resident_bytes(os.getpid()) > 10 << 20
    assert (main_thread_s(os.getpid()) or 1) > 0
    assert processor()
