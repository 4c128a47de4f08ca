"""The live page in a browser: beats while it is open, a badge when they end, and beats again after a restart."""

import socket
import threading
from collections.abc import Callable

from playwright.sync_api import Browser
from support.adapters import make_adapter
from support.console import People, check_accessible, check_fits
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, bearer
from support.waiting import eventually

from backbone import Backbone
from service.console.live import TaskTraffic, Totals, beat_between, quantile_ms


def test_an_open_page_shows_what_is_asked(people: People, server: RunningServer) -> None:
    page = people.open(ADMIN_KEY, "live")
    page.get_by_text("live", exact=True).wait_for()
    is_over = threading.Event()
    key = people.key("acme", "classify")

    def ask() -> None:
        while not is_over.wait(0.05):
            server.client.post("/classify/sentiment", json={"inputs": ["a film"] * 4}, headers=bearer(key))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        row = page.get_by_role("row", name="sentiment acme")
        row.wait_for()
        cells = [float(cell) for cell in row.get_by_role("cell").all_inner_texts()]
        assert cells[1] > cells[0] > 0, "rows and requests per second"
        check_accessible(page)
        page.set_viewport_size({"width": 390, "height": 800})
        check_fits(page)
    finally:
        is_over.set()
        asking.join()
    live = server.app.state.runtime.monitoring.live  # type: ignore[attr-defined]
    assert live.sums()
    page.goto(f"{server.url}/console/system")
    eventually(lambda: not live.sums(), within_s=10)  # nobody watches, so nothing is counted


def test_the_badge_tells_when_the_stream_ends_and_the_page_survives_a_restart(
    serve: Callable[..., RunningServer], tiny: Backbone, chromium: Browser
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"require_keys": True, "admin_key": ADMIN_KEY, "bundled": False, "port": port}
    first = serve(**settings)
    first.upload("mails", make_adapter(tiny), key=ADMIN_KEY)
    people = People(first, chromium)
    page = people.open(ADMIN_KEY, "live")
    page.get_by_text("live", exact=True).wait_for()
    first.server.should_exit = True
    page.get_by_text("stale: the server sends nothing").wait_for()
    eventually(lambda: not first.server.started or _is_free(port), within_s=20)
    serve(**settings)
    page.get_by_text("live", exact=True).wait_for(timeout=20_000)
    people.complaints.clear()  # a browser reports requests to a server that is away
    people.leave()


def _is_free(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) != 0


def totals(at: float, **changes: object) -> Totals:
    values = {
        "answered": {},
        "buckets": {},
        "rows": 0.0,
        "batches": 0.0,
        "batch_rows": 0.0,
        "batch_adapters": 0.0,
        "refusals": {},
        "queue_rows": 0.0,
        "queue_tokens": 0.0,
        "by_task": {},
    }
    return Totals(at=at, **{**values, **changes})  # type: ignore[arg-type]


def test_a_beat_has_rates_of_the_time_between() -> None:
    before = totals(0.0, answered={"2xx": 100.0}, rows=400.0, batches=10.0, batch_rows=40.0, batch_adapters=10.0)
    after = totals(
        2.0,
        answered={"2xx": 130.0, "4xx": 6.0, "5xx": 2.0},
        rows=520.0,
        batches=20.0,
        batch_rows=160.0,
        batch_adapters=40.0,
        refusals={"rows": 6.0, "tokens": 0.0},
        by_task={("acme", "mails"): TaskTraffic(requests=12, rows=40, errors=2, queue_s=0.05, total_s=0.2)},
    )
    beat = beat_between(before, after)
    assert (beat.requests_per_s, beat.rows_per_s, beat.refused_per_s, beat.errors_per_s) == (19.0, 60.0, 3.0, 1.0)
    assert (beat.rows_per_batch, beat.tasks_per_batch, beat.refusals) == (12.0, 3.0, {"rows": 6.0})
    [task] = beat.tasks
    assert (task.requests_per_s, task.errors_per_s, task.queue_ms, task.total_ms) == (6.0, 1.0, 5.0, 20.0)


def test_a_quantile_is_the_bound_of_its_bucket() -> None:
    counts = {0.01: 50.0, 0.1: 95.0, float("inf"): 100.0}
    assert [quantile_ms(counts, share) for share in (0.5, 0.95, 0.99)] == [10.0, 100.0, 100.0]
    assert quantile_ms({}, 0.5) is None
