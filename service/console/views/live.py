"""Live: rates, latencies, errors and queues of now, sent by the server while the page is open."""

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from service.console.live import BEAT_S, MAX_WATCHERS, Beat
from service.console.page import Page
from service.console.views.route import ViewRoute
from service.errors import QueueFull, Unauthenticated

_EVENTS = "text/event-stream"
_RETRY_MS = 1_000
"""After which a browser asks again when the stream ends."""
_POLL_S = 0.2


async def show(page: Page) -> Response:
    """Show the page, which opens the stream."""
    return await page.render("live.html", beat_s=BEAT_S)


async def stream(page: Page) -> Response:
    """Send a beat every two seconds, until the session, the server or the reader ends."""
    if page.console.live.is_full:
        raise QueueFull(
            f"{MAX_WATCHERS} live pages are open, the most that a process serves: close one", retry_after_s=5
        )
    return StreamingResponse(_events(page), media_type=_EVENTS)


async def _events(page: Page) -> AsyncIterator[str]:
    feed, drain, seen = page.console.live, page.request.scope["state"]["drain"], 0
    yield f"retry: {_RETRY_MS}\n\n"
    with feed.watched():
        while not drain.is_draining:
            if feed.number == seen or not feed.beats:
                await asyncio.sleep(_POLL_S)
                continue
            seen = feed.number
            try:
                await page.console.access.visit(page.request)
            except Unauthenticated:
                return
            html = await page.text("_live.html", **_values(page, list(feed.beats)))
            yield "event: beat\n" + "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"


def _values(page: Page, beats: list[Beat]) -> dict[str, object]:
    settings = page.console.runtime.settings
    return {
        "beat": beats[-1],
        "rows": [(index, each.rows_per_s) for index, each in enumerate(beats)],
        "latencies": [(index, value) for index, each in enumerate(beats) if (value := each.latencies_ms["p95"])],
        "max_queue_rows": settings.max_queue_rows * settings.workers,
        "max_queue_tokens": settings.max_queue_tokens * settings.workers,
        "workers": settings.workers,
        "beat_s": BEAT_S,
        "seconds": round(len(beats) * BEAT_S),
    }


ROUTES = [
    ViewRoute("GET", "/live", show, role="operator"),
    ViewRoute("GET", "/live/stream", stream, role="operator"),
]
