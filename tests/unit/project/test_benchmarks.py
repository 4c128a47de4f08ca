"""What the serving benchmarks stand on: schedules, percentiles, load loops, the HTTP client, the comparison's rules."""

import asyncio
import json
import statistics
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters import DEFAULT_TENANT
from adapters.registry.opening import open_registry
from benchmarks.adapters import __main__ as benchmark
from benchmarks.common import load, workload
from benchmarks.common.http_load import Client, Connection, ask, call, closed_loop
from benchmarks.common.publishing import name, publisher
from benchmarks.common.report import machine, print_result
from benchmarks.common.schedule import draw, percentile, poisson_arrivals, popularity
from benchmarks.common.server_process import Question
from benchmarks.serving import __main__ as serving
from benchmarks.serving.against_peers import Duel
from benchmarks.serving.http_shares import mixed


def test_the_help_of_serving_says_what_its_figures_mean() -> None:
    shown = CliRunner().invoke(serving.app, ["--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert shown.exit_code == 0
    for figure in (
        "http_share_batch8",
        "http_share_single",
        "http_overhead_ms_p50",
        "open_loop_p99_ms",
        "vs_best_peer",
    ):
        assert figure in shown.output


def test_zipf_gives_the_first_of_a_hundred_tasks_a_fifth_of_the_requests() -> None:
    shares = popularity(100, "zipf")
    assert shares.sum() == pytest.approx(1)
    assert shares[0] == pytest.approx(0.193, abs=0.001)
    assert shares[0] / shares[9] == pytest.approx(10)
    assert popularity(4, "uniform").tolist() == [0.25] * 4


def test_tasks_are_drawn_as_often_as_their_popularity_says_and_the_same_by_the_same_seed() -> None:
    drawn = draw(50, "zipf", size=20_000, seed=3)
    assert drawn == draw(50, "zipf", size=20_000, seed=3)
    assert drawn != draw(50, "zipf", size=20_000, seed=4)
    counts = [count / 20_000 for _, count in Counter(drawn).most_common()]
    assert counts[:3] == pytest.approx(popularity(50, "zipf")[:3].tolist(), rel=0.1)


def test_poisson_arrivals_have_the_rate_and_the_spread_of_independent_callers() -> None:
    arrivals = poisson_arrivals(100, seconds=100, seed=0)
    gaps = [later - earlier for earlier, later in pairwise(arrivals)]
    assert len(arrivals) == pytest.approx(10_000, rel=0.05)
    assert min(gaps) >= 0
    assert arrivals[-1] < 100
    assert statistics.stdev(gaps) / statistics.mean(gaps) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("share", "expected"), [(0, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)])
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], share) == expected


def test_nothing_measured_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 99)


def test_an_answer_that_is_late_counts_from_when_the_request_was_due() -> None:
    async def run() -> load.Load:
        last = asyncio.Event()

        async def answered_together(number: int) -> int:
            if number == 12:  # the third
                last.set()
            await last.wait()
            return 1

        return await load.open_loop(answered_together, [0.0, 0.01, 0.05], first=10)

    latencies = asyncio.run(run()).latencies
    assert len(latencies) == 3
    assert max(latencies) >= 0.05
    assert sorted(latencies)[1] >= 0.04


def test_clients_of_a_closed_loop_share_one_order_and_refusals_are_no_rows() -> None:
    asked: list[int] = []

    async def refuses_odd(number: int) -> int | None:
        asked.append(number)
        await asyncio.sleep(0)
        return None if number % 2 else 8

    result = asyncio.run(load.closed_loop([refuses_odd] * 3, seconds=0.01, first=5))
    assert asked == list(range(5, 5 + len(asked)))
    assert result.failures == sum(number % 2 for number in asked)
    assert result.rows == 8 * (len(asked) - result.failures)
    assert result.rows_per_s == result.rows / result.wall_s


@asynccontextmanager
async def server_that_replies(*pieces: bytes) -> AsyncIterator[str]:
    """Answers every request with these bytes, flushed piece by piece; ends when its callers have hung up."""
    serving: list[asyncio.Task[object] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b'{"inputs": []}'):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await asyncio.gather(*(task for task in serving if task))


HEAD = b"HTTP/1.1 200 OK\r\n"
LENGTH = (HEAD + b"Content-Le", b'ngth: 10\r\n\r\n{"a', b'": "b"}')
CHUNKS = (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b'5\r\n{"a":\r\n', b'4\r\n "b"\r\n', b"1\r\n}\r\n0\r\n\r\n")


@pytest.mark.parametrize("pieces", [LENGTH, CHUNKS], ids=["length", "chunks"])
def test_the_client_reads_a_reply_in_whatever_pieces_it_comes(pieces: tuple[bytes, ...]) -> None:
    async def run() -> None:
        async with server_that_replies(*pieces) as url:
            request = call(url, "/", b'{"inputs": []}', rows=1)
            assert (await ask(url, request)).json() == {"a": "b"}
            connection = await Connection.open(url)
            assert [(await connection.ask(request)).json() for _ in range(3)] == [{"a": "b"}] * 3
            connection.close()

    asyncio.run(run())


def test_replies_other_than_200_are_failures() -> None:
    async def run() -> load.Load:
        async with server_that_replies(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n") as url:
            return await closed_loop(url, [call(url, "/", b'{"inputs": []}', rows=1)], clients=2, seconds=0.2)

    result = asyncio.run(run())
    assert result.rows == 0
    assert result.failures > 0


def test_a_connection_that_the_server_has_closed_is_opened_again() -> None:
    closing = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"

    async def run() -> list[int]:
        async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b'{"inputs": []}')
            writer.write(closing)
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            client = Client(url)
            replies = [await client.ask(call(url, "/", b'{"inputs": []}', rows=1)) for _ in range(3)]
            client.close()
        return [reply.status for reply in replies if reply is not None]

    assert asyncio.run(run()) == [200, 200, 200]


def loads(rows: int, latency_s: float) -> list[load.Load]:
    return [load.Load(wall_s=1, rows=rows, latencies=[latency_s] * 10) for _ in range(3)]


def test_a_peer_is_compared_at_the_most_clients_that_keep_our_p99_no_worse() -> None:
    duel = Duel("peer", agreement=1.0, theirs=loads(10, 1.0))
    duel.ours = {64: loads(40, 1.1), 32: loads(30, 0.9), 16: loads(50, 0.5)}
    assert duel.clients == 32
    assert duel.ratio == 3
    assert duel.counts


def test_a_peer_that_answers_otherwise_or_fails_does_not_count() -> None:
    assert not Duel("peer", agreement=0.97, theirs=loads(10, 1.0)).counts
    failing = Duel("peer", agreement=1.0, theirs=loads(10, 1.0))
    failing.theirs[0].failures = 1
    assert not failing.counts


def test_single_questions_are_the_texts_of_the_batches_near_where_they_were() -> None:
    batches = [
        Question("sst2", tuple({"sentence": f"{n}.{k}"} for k in range(8)), tuple(f"{n}.{k}" for k in range(8)), 64)
        for n in range(64)
    ]
    singles = [question.texts for question in mixed(batches)]
    assert sorted(singles) == sorted((text,) for question in batches for text in question.texts)
    assert sorted(singles[:256]) == sorted((text,) for question in batches[:32] for text in question.texts)
    assert singles[:8] != [(text,) for text in batches[0].texts]


def test_mixed_adapters_differ_from_each_other_and_keep_their_tasks() -> None:
    bundled, made = workload.originals(), workload.mixed_adapters(9)
    assert len({adapter.digest for adapter in made.values()} | {a.digest for a in bundled.values()}) == 9 + len(bundled)
    assert {adapter.manifest.readout for adapter in made.values()} == {"words"}
    for task, adapter in made.items():
        assert adapter.spec == bundled[workload.original(task)].spec


def test_without_real_rows_every_task_is_asked_with_the_example_tickets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUPERPOS_DATA", raising=False)
    specs = {task: adapter.spec for task, adapter in workload.originals().items()}
    texts = workload.texts(specs)
    assert "examples/tickets" in texts.source
    for task, spec in specs.items():
        assert all(set(item) == set(spec.fields) for item in texts.items[task])


def test_the_last_line_of_a_benchmark_is_one_json_object_with_its_figures_and_its_machine(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print("a table for people")
    print_result("fairness", {"p99_ms": 1.5}, detail={"rounds": [1, 2]})
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result == {
        "benchmark": "fairness",
        "figures": {"p99_ms": 1.5},
        "machine": machine(),
        "detail": {"rounds": [1, 2]},
    }
    assert {"commit", "device", "threads", "torch", "transformers"} <= result["machine"].keys()


def test_a_figure_that_is_no_number_is_not_reported() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_result("fairness", {"p99_ms": float("nan")})


def test_the_help_of_adapters_says_what_its_figures_mean() -> None:
    shown = CliRunner().invoke(benchmark.app, ["--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert shown.exit_code == 0
    for figure in ("throughput_vs_1", "p99_vs_1", "adapter_resident_bytes", "cold_extra_ms", "publish_to_served_ms"):
        assert figure in shown.output


@pytest.mark.slow
def test_another_process_publishes_into_the_same_registry(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    registry = open_registry(path)

    async def run() -> tuple[float, float]:
        async with publisher(path) as other:
            return await other.publish(0, 1, seed=1), await other.publish(1, 1, seed=2)

    first, second = asyncio.run(run())
    assert first < second
    assert [len(registry.describe(DEFAULT_TENANT, name(number)).versions) for number in (0, 1)] == [1, 2]
