# Written by scripts/sync_client.py from _async/bulk.py: change that file.
"""Sends the requests of a stream of rows, and yields their outcomes in order."""

import time
from collections.abc import Iterator

from superpos_client import calls
from superpos_client._sync.io import Jobs, each
from superpos_client._sync.transport import Transport
from superpos_client.answers import Options, Prediction, Row, Rows
from superpos_client.calls import Call
from superpos_client.errors import SuperposError
from superpos_client.stream import Outcome, Plan, Request, Stream


def run(
    transport: Transport,
    ref: str,
    rows: Rows,
    *,
    options: Options,
    plan: Plan,
    timeout_s: float | None,
) -> Iterator[Outcome]:
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
    limits = transport.limits()
    stream = Stream(limits, plan, max_bytes=calls.room_for_rows(limits, options))
    seconds = limits.max_timeout_ms / 1_000 if timeout_s is None else timeout_s
    pin = plan.pin
    source, jobs = each(rows), Jobs[Request, list[Prediction]]()

    def send(call: Call[list[Prediction]]) -> list[Prediction]:
        return transport.send(call, seconds, waits_when_busy=False)

    try:
        while True:
            while (request := _next_request(stream, source)) is not None:
                jobs.start(request, send, calls.classify(ref, request.rows, options))
            for outcome in stream.take():
                yield outcome
            if stream.is_done:
                return
            for ended, result in jobs.ended(stream.wait_s(time.monotonic())):
                if isinstance(result, SuperposError):
                    stream.failed(ended, result, time.monotonic())
                elif isinstance(result, Exception):
                    raise result
                else:
                    stream.answered(ended, result, time.monotonic())
                    if pin:
                        ref, pin = f"{result[0].task}@{result[0].version}", False
    finally:
        jobs.stop()


def _next_request(stream: Stream, source: Iterator[Row]) -> Request | None:
    """Return the next request, for which rows are read if needed."""
    while (request := stream.next_request(time.monotonic())) is None and stream.wants_rows:
        try:
            row = next(source)
        except StopIteration:
            stream.end()
        else:
            stream.add(row)
    return request
