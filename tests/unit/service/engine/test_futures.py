"""Awaiting another thread's futures: order, first failure, cancellation."""

import asyncio
import threading
from concurrent.futures import Future

import pytest

from service.engine.futures import gather


def answered_by_a_thread(futures: list[Future[int]], *, raising: int | None = None) -> threading.Thread:
    def answer() -> None:
        for number, future in reversed(list(enumerate(futures))):
            if number == raising:
                future.set_exception(ValueError(f"row {number}"))
            elif future.set_running_or_notify_cancel():
                future.set_result(number)

    return threading.Thread(target=answer)


def test_results_come_in_the_order_of_the_futures() -> None:
    for _ in range(50):  # answers race with the callbacks being set
        futures: list[Future[int]] = [Future() for _ in range(20)]
        thread = answered_by_a_thread(futures)
        thread.start()
        assert asyncio.run(gather(futures)) == list(range(20))
        thread.join()


def test_nothing_asked_is_nothing_answered() -> None:
    assert asyncio.run(gather([])) == []


def test_the_first_failure_is_raised_at_once_and_spares_the_rest() -> None:
    futures: list[Future[int]] = [Future() for _ in range(3)]
    futures[1].set_exception(ValueError("row 1"))
    with pytest.raises(ValueError, match="row 1"):
        asyncio.run(gather(futures))
    assert futures[0].cancelled()
    assert futures[2].cancelled()


def test_a_caller_who_leaves_cancels_what_has_not_begun() -> None:
    futures: list[Future[int]] = [Future() for _ in range(3)]
    futures[0].set_result(0)
    futures[1].set_running_or_notify_cancel()

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await gather(futures)

    asyncio.run(leave())
    assert not futures[1].cancelled()
    assert futures[2].cancelled()
    futures[1].set_result(1)  # too late for anybody, and no error


def test_an_answer_after_the_loop_has_closed_harms_nobody() -> None:
    future: Future[int] = Future()
    future.set_running_or_notify_cancel()

    async def leave() -> None:
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
        await gather([future])

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(leave())
    future.set_result(1)
