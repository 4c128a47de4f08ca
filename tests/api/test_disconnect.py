"""A caller who hangs up: the work ends, whoever it belongs to, and an answer already there is not lost."""

import asyncio

import pytest
from fastapi import Request

from service.api.inference import while_connected
from service.errors import ClientDisconnected


def request(left: asyncio.Event) -> Request:
    async def receive() -> dict[str, str]:
        await left.wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http"}, receive)


def test_work_is_cancelled_when_the_caller_leaves_and_the_handler_goes_on() -> None:
    async def handle() -> list[str]:
        left, told = asyncio.Event(), []

        async def work() -> None:
            left.set()
            try:
                await asyncio.Event().wait()
            finally:
                told.append("work ended")

        with pytest.raises(ClientDisconnected):
            await while_connected(request(left), work())
        await asyncio.sleep(0)  # no cancellation is left over for what follows
        return [*told, "handler ended"]

    assert asyncio.run(handle()) == ["work ended", "handler ended"]


def test_an_answer_that_comes_as_the_caller_leaves_is_no_cancellation_of_what_follows() -> None:
    async def handle() -> int:
        left = asyncio.Event()

        async def work() -> int:
            left.set()
            await asyncio.sleep(0)  # the watcher is about to end
            return 1

        answer = await while_connected(request(left), work())
        for _ in range(5):
            await asyncio.sleep(0)
        return answer

    assert asyncio.run(handle()) == 1


def test_a_cancellation_from_elsewhere_stays_one() -> None:
    async def handle() -> None:
        async with asyncio.timeout(0):
            await while_connected(request(asyncio.Event()), asyncio.Event().wait())

    with pytest.raises(TimeoutError):
        asyncio.run(handle())


def test_an_error_of_the_work_is_the_handlers() -> None:
    async def work() -> None:
        raise ValueError("of the work")

    async def handle() -> None:
        await while_connected(request(asyncio.Event()), work())

    with pytest.raises(ValueError, match="of the work"):
        asyncio.run(handle())
