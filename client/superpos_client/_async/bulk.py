"""Sends the requests of a stream of rows, and yields their outcomes in order."""

import time
from collections.abc import AsyncIterator

from superpos_client import calls
from superpos_client._async.io import Jobs, each
from superpos_client._async.transport import AsyncTransport
from superpos_client.answers import AsyncRows, Options, Prediction, Row
from superpos_client.calls import Call
from superpos_client.errors import SuperposError
from superpos_client.stream import Outcome, Plan, Request, Stream


async def run(
    transport: AsyncTransport,
    ref: str,
    rows: AsyncRows,
    *,
    options: Options,
    plan: Plan,
    timeout_s: float | None,
) -> AsyncIterator[Outcome]:
    """Yield the outcome of each row.

    Args:
        transport: sends the requests
        ref: the task
        rows: read as they are needed
        options: of each request
        plan: of the stream
        timeout_s: of each request; by default the longest that the server allows

    Raises:
        SuperposError: no row could be answered, or the plan raises the errors of rows
    """
    limits = await transport.limits()
    stream = Stream(limits, plan, max_bytes=calls.room_for_rows(limits, options))
    seconds = limits.max_timeout_ms / 1_000 if timeout_s is None else timeout_s
    pin = plan.pin
    source, jobs = each(rows), Jobs[Request, list[Prediction]]()

    async def send(call: Call[list[Prediction]]) -> list[Prediction]:
        return await transport.send(call, seconds, waits_when_busy=False)

    try:
        while True:
            while (request := await _next_request(stream, source)) is not None:
                jobs.start(request, send, calls.classify(ref, request.rows, options))
            for outcome in stream.take():
                yield outcome
            if stream.is_done:
                return
            for ended, result in await jobs.ended(stream.wait_s(time.monotonic())):
                if isinstance(result, SuperposError):
                    stream.failed(ended, result, time.monotonic())
                elif isinstance(result, Exception):
                    raise result
                else:
                    stream.answered(ended, result, time.monotonic())
                    if pin:
                        ref, pin = f"{result[0].task}@{result[0].version}", False
    finally:
        await jobs.stop()


async def _next_request(stream: Stream, source: AsyncIterator[Row]) -> Request | None:
    """Return the next request, for which rows are read if needed."""
    while (request := stream.next_request(time.monotonic())) is None and stream.wants_rows:
        try:
            row = await anext(source)
        except StopAsyncIteration:
            stream.end()
        else:
            stream.add(row)
    return request
