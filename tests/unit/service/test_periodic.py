"""A periodic call continues after any error, reports it once, and recovers."""

import asyncio

import pytest

from adapters import RegistryUnavailable
from service.periodic import PeriodicTask


class Calls:
    """Succeeds, or raises what stands next in the plan."""

    def __init__(self, *plan: Exception | None) -> None:
        self.plan = list(plan)
        self.downs: list[str] = []
        self.ups = 0
        self.done = asyncio.Event()

    async def __call__(self) -> None:
        error = self.plan.pop(0) if self.plan else None
        if not self.plan:
            self.done.set()
        if error is not None:
            raise error

    def up(self) -> None:
        self.ups += 1


def task_of(calls: Calls) -> PeriodicTask:
    return PeriodicTask(
        "test", calls, interval_s=0.001, on_down=lambda error: calls.downs.append(str(error)), on_up=calls.up
    )


@pytest.mark.parametrize("error", [RegistryUnavailable("away"), KeyError("a bug"), ValueError("another")])
def test_an_error_marks_the_task_degraded_until_a_call_succeeds(error: Exception) -> None:
    async def run() -> None:
        calls = Calls(error, error, None)
        task = task_of(calls)
        await task.run_once()
        await task.run_once()
        assert task.degraded
        assert calls.downs == [str(error)]
        await task.run_once()
        assert not task.degraded
        assert calls.ups == 1

    asyncio.run(run())


@pytest.mark.parametrize("error", [RegistryUnavailable("away"), KeyError("a bug")])
def test_the_loop_outlives_any_error(error: Exception) -> None:
    async def run() -> None:
        calls = Calls(error, error, error, None)
        task = task_of(calls)
        task.start()
        await asyncio.wait_for(calls.done.wait(), 10)
        await task.stop()
        assert not task.degraded

    asyncio.run(run())


@pytest.mark.slow
def test_the_loop_outlives_a_bug_that_lasts_for_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.periodic.MAX_BACK_OFF_S", 0.001)

    async def run() -> None:
        calls = Calls(*[KeyError("a bug")] * 1_200, None)
        task = task_of(calls)
        task.start()
        await asyncio.wait_for(calls.done.wait(), 60)
        await task.stop()
        assert not task.degraded
        assert calls.ups == 1

    asyncio.run(run())


def test_an_outage_that_reads_differently_is_reported_again() -> None:
    async def run() -> None:
        calls = Calls(RegistryUnavailable("away"), RegistryUnavailable("away"), RegistryUnavailable("emptied"))
        task = task_of(calls)
        for _ in range(3):
            await task.run_once()
        assert calls.downs == ["away", "emptied"]

    asyncio.run(run())


def test_a_task_that_is_stopped_cancels_the_call_under_way() -> None:
    async def run() -> None:
        entered, cancelled = asyncio.Event(), False

        async def wait() -> None:
            nonlocal cancelled
            entered.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled = True
                raise

        task = PeriodicTask("test", wait, interval_s=0.001, call_first=True)
        task.start()
        await asyncio.wait_for(entered.wait(), 10)
        await task.stop()
        assert cancelled

    asyncio.run(run())
