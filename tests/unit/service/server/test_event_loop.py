"""The event loop yields to a running batch, as threads do, and a round handles few events of each tenant."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from selectors import EVENT_READ

import pytest

from service.engine.activity import ModelActivity
from service.server.event_loop import FairSelector, ServerLoop

_ROUNDS = 5


class Watched(threading.Event):
    """An event that remembers how long it was waited for, and whether it was set."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[tuple[float, bool]] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None, "the loop would hang"
        was_set = super().wait(timeout)
        self.waits.append((timeout, was_set))
        return was_set


def _compute(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def _model(*, runs: bool) -> tuple[ModelActivity, Watched]:
    """Return the activity of a model that runs a batch, or none; and its event."""
    activity, idle = ModelActivity(), Watched()
    activity.idle = idle
    if not runs:
        idle.set()
    return activity, idle


def _run(activity: ModelActivity, callback: Callable[[], None]) -> None:
    """Run a loop that always has work."""

    async def rounds() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ServerLoop)
        loop.yield_to(activity)
        for _ in range(_ROUNDS):
            callback()
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=ServerLoop) as runner:
        runner.run(rounds())


@pytest.mark.parametrize("computed_s", [0.002, 0.05], ids=["short", "long"])
def test_a_loop_that_computes_sleeps_while_a_batch_runs(computed_s: float):
    activity, idle = _model(runs=True)
    _run(activity, lambda: _compute(computed_s))
    assert len(idle.waits) >= _ROUNDS
    assert all(min(2 * computed_s, 0.02) <= timeout <= 0.02 for timeout, _ in idle.waits[:_ROUNDS])


def test_without_a_running_batch_it_never_sleeps():
    activity, idle = _model(runs=False)
    _run(activity, lambda: _compute(0.002))
    assert len(idle.waits) >= _ROUNDS
    assert all(was_set for _, was_set in idle.waits)


def test_the_end_of_the_batch_wakes_it():
    activity, idle = _model(runs=True)

    def end_soon() -> None:
        idle.clear()
        _compute(0.1)
        threading.Timer(0.001, idle.set).start()

    _run(activity, end_soon)
    assert any(was_set for _, was_set in idle.waits)


def test_a_loop_that_hardly_computes_does_not_ask():
    activity, idle = _model(runs=True)
    _run(activity, lambda: None)
    assert len(idle.waits) < _ROUNDS


def test_answered_rows_pay_for_the_loops_time():
    activity, idle = _model(runs=True)

    def answer() -> None:
        _compute(0.002)
        activity.num_answers += 2

    _run(activity, answer)
    assert len(idle.waits) < _ROUNDS


def test_a_thread_that_computes_pauses_while_a_batch_runs():
    activity, idle = _model(runs=True)
    pause = activity.pause()
    pause()
    assert not idle.waits  # it has hardly computed
    for computed_s in (0.005, 0.05):
        _compute(computed_s)
        pause()
    assert [timeout >= 0.01 for timeout, _ in idle.waits] == [True, True]
    assert idle.waits[1][0] == 0.02


def test_rows_that_were_answered_long_ago_pay_for_a_tenth_of_a_second():
    activity, idle = _model(runs=True)
    activity.num_answers = 1_000_000
    _run(activity, lambda: _compute(0.05))
    assert _ROUNDS - 2 <= len(idle.waits) <= _ROUNDS + 2


def test_events_are_served_while_a_batch_runs_for_ever():
    activity, _ = _model(runs=True)

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        _compute(0.002)
        writer.write(line.upper())
        await writer.drain()
        writer.close()

    async def answer() -> bytes:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ServerLoop)
        loop.yield_to(activity)
        async with await asyncio.start_server(shout, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"quiet\n")
            line = await reader.readline()
            writer.close()
        return line

    with asyncio.Runner(loop_factory=ServerLoop) as runner:
        assert runner.run(answer()) == b"QUIET\n"


def test_a_round_handles_few_events_of_each_tenant_and_all_others():
    selector = FairSelector()
    pairs = [socket.socketpair() for _ in range(30)]
    try:
        for number, (ours, theirs) in enumerate(pairs):
            selector.register(ours, EVENT_READ)
            theirs.send(b"x")
            if number < 28:  # the last two are no client's, such as a listening socket
                selector.tenants[ours.fileno()] = None if number < 20 else "acme"
        of_fileno = {ours.fileno(): number for number, (ours, _) in enumerate(pairs)}
        handled: set[int] = set()
        rounds = 0
        while len(handled) < len(pairs):
            ready = {of_fileno[key.fd] for key, _ in selector.select(0)}
            assert {28, 29} <= ready or rounds > 0
            assert len([number for number in ready if number < 20]) <= 2
            assert len([number for number in ready if 20 <= number < 28]) <= 2
            for number in ready:
                pairs[number][0].recv(1)
            handled |= ready
            rounds += 1
        assert rounds == 10, "twenty connections of one tenant, two in each round"
    finally:
        selector.close()
        for pair in pairs:
            for end in pair:
                end.close()


def test_a_connection_that_is_always_ready_excludes_no_other_of_its_tenant():
    selector = FairSelector()
    pairs = [socket.socketpair() for _ in range(8)]
    try:
        for ours, theirs in pairs:
            selector.register(ours, EVENT_READ)
            selector.tenants[ours.fileno()] = None
            theirs.send(b"x")  # never read
        seen = {key.fd for _ in range(200) for key, _ in selector.select(0)}
        assert seen == {ours.fileno() for ours, _ in pairs}
    finally:
        selector.close()
        for pair in pairs:
            for end in pair:
                end.close()
