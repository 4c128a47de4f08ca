"""The client in front of a server that fails at scripted moments: rows, order, deadlines, and the retry budget."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Literal

import psutil
import pytest
from support.clients import FORMS, Form, ask
from support.faulty_proxy import BreaksOff, Drips, Fault, IsSilent, Refuses, Resets, Script, faulty_proxy
from support.server import RunningServer
from support.waiting import eventually

from superpos_client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    Invalid,
    NotFound,
    Prediction,
    RateLimited,
    SuperposError,
    Unavailable,
    Unreachable,
)
from superpos_client.stream import LOOKAHEAD

forms = pytest.mark.parametrize("form", FORMS)
ROWS = [f"film number {number}" for number in range(120)]


def of_each(**at: Fault) -> Script:
    """A script with a fault of some classifications, named `n0`, `n1`, …"""
    return lambda number: at.get(f"n{number}")


def answers(outcomes: list[Prediction | SuperposError]) -> list[dict]:
    assert all(isinstance(each, Prediction) for each in outcomes), outcomes
    return [each.model_dump(exclude={"request_id"}) for each in outcomes]


@pytest.fixture(scope="module")
def expected(shared_server: RunningServer) -> list[dict]:
    """The answers without any fault; all of them differ, so that no row can be taken for another."""
    with Client(shared_server.url) as client:
        found = answers(client.classify("sentiment", ROWS))
    assert len({each["score"] for each in found}) == len(ROWS)
    return found


@forms
@pytest.mark.slow
def test_no_row_is_lost_or_doubled_and_the_order_is_kept_whatever_fails(
    shared_server: RunningServer, expected: list[dict], form: Form
) -> None:
    script = of_each(
        n0=Refuses(429, "0"),
        n1=Resets("before"),
        n2=Refuses(503, "0"),
        n3=IsSilent(0.3),
        n5=BreaksOff(),
        n6=Resets("after"),
        n8=Refuses(504),
        n9=Refuses(429, "0"),
        n11=BreaksOff(unframed=True),
        n12=Refuses(502, body=b"<html>"),
        n14=Drips(0.0005),
    )
    with faulty_proxy(shared_server.url, script) as proxy:
        found = ask(form, proxy.url, lambda client: client.classify_many("sentiment", ROWS, chunk=8, concurrency=4))
        assert answers(found) == expected
        met = {type(each.fault) for each in proxy.classifications}
    assert met == {type(None), Refuses, Resets, IsSilent, BreaksOff, Drips}


@forms
def test_an_error_is_returned_in_the_place_of_its_rows(
    shared_server: RunningServer, expected: list[dict], form: Form
) -> None:
    rows: list[object] = list(ROWS[:40])
    rows[3], rows[17], rows[18], rows[39] = "word " * 200, "", {"nothing": "here"}, None
    found = ask(
        form, shared_server.url, lambda client: client.classify_many("sentiment", rows, chunk=16, on_error="return")
    )
    wrong = {place: each for place, each in enumerate(found) if isinstance(each, SuperposError)}
    assert {place: (type(each), each.row) for place, each in wrong.items()} == {
        place: (Invalid, place) for place in (3, 17, 18, 39)
    }
    assert wrong[3].code == "text_too_long"
    assert wrong[39].status is None
    assert "inputs[" not in "".join(map(str, wrong.values()))
    right = [place for place in range(40) if place not in wrong]
    assert answers([found[place] for place in right]) == [expected[place] for place in right]


@forms
def test_the_first_error_is_raised_in_order_after_the_rows_before_it(shared_server: RunningServer, form: Form) -> None:
    rows = [*ROWS[:20], "", *ROWS[20:40]]
    taken: list[Prediction] = []

    def take(client: Client) -> None:
        for prediction in client.classify_many("sentiment", iter(rows), chunk=4):
            taken.append(prediction)

    async def take_async(client: AsyncClient) -> None:
        async for prediction in client.classify_many("sentiment", iter(rows), chunk=4):
            taken.append(prediction)

    with pytest.raises(Invalid) as caught:
        ask(form, shared_server.url, take if form == "sync" else take_async)
    assert caught.value.row == 20
    assert "row 20" in caught.value.__notes__
    assert len(taken) == 20


@forms
def test_an_unknown_task_ends_a_stream_instead_of_failing_every_row(shared_server: RunningServer, form: Form) -> None:
    with faulty_proxy(shared_server.url, lambda _: None) as proxy:
        with pytest.raises(NotFound, match="no task 'nothing'"):
            ask(form, proxy.url, lambda client: client.classify_many("nothing", ROWS, chunk=4, on_error="return"))
        assert len(proxy.classifications) <= 8 * LOOKAHEAD


@forms
@pytest.mark.slow
def test_a_busy_server_is_waited_for_and_gets_fewer_requests_at_a_time(
    shared_server: RunningServer, expected: list[dict], form: Form
) -> None:
    """The first eight requests are refused, each for a second; after it, the window is smaller than before."""

    def script(number: int) -> Fault | None:
        return Refuses(429, "1") if number < 8 else IsSilent(1) if number < 12 else None

    waits: list[float] = []

    def stream(client: Client) -> object:
        return client.classify_many("sentiment", ROWS, chunk=2, on_wait=lambda seconds, _: waits.append(seconds))

    with faulty_proxy(shared_server.url, script) as proxy:
        assert answers(ask(form, proxy.url, stream, max_retries=0)) == expected
        first = proxy.classifications[:8]
        resumed = proxy.classifications[8:]
        assert resumed[0].at - max(each.at for each in first) >= 1
        assert resumed[3].at < resumed[0].at + 1 <= resumed[4].at, "four at a time"
    assert waits
    assert set(waits) == {1.0}


def test_a_server_that_stays_busy_ends_the_stream_when_patience_does(shared_server: RunningServer) -> None:
    with faulty_proxy(shared_server.url, lambda _: Refuses(429, "30")) as proxy, Client(proxy.url) as client:
        began = time.monotonic()
        with pytest.raises(RateLimited):
            list(client.classify_many("sentiment", ROWS, patience=20, on_error="return"))
        assert time.monotonic() - began < 15, "it waited for what it had no patience for"


@forms
@pytest.mark.parametrize("fault", [IsSilent(5), Drips(0.05)], ids=["silent", "slow"])
@pytest.mark.slow
def test_the_deadline_is_held(shared_server: RunningServer, form: Form, fault: Fault) -> None:
    with faulty_proxy(shared_server.url, lambda _: fault) as proxy:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.5 s"):
            ask(form, proxy.url, lambda client: client.classify("sentiment", "a film"), timeout=0.5)
        assert 0.45 < time.monotonic() - began < 4
        assert len(proxy.classifications) == 1


@forms
@pytest.mark.slow
def test_the_deadline_covers_retries_and_is_sent_to_the_server(shared_server: RunningServer, form: Form) -> None:
    with faulty_proxy(shared_server.url, lambda _: Resets()) as proxy:
        began = time.monotonic()
        with pytest.raises(Unreachable):
            ask(form, proxy.url, lambda client: client.classify("sentiment", "a film"), timeout=1.5, max_retries=50)
        assert time.monotonic() - began < 4, "fifty retries take longer"
        sent = [json.loads(each.body)["timeout_ms"] for each in proxy.classifications]
    assert len(sent) >= 2
    assert 1_000 < sent[0] <= 1_500
    assert sent == sorted(sent, reverse=True)


def test_a_deadline_beyond_what_the_server_allows_is_sent_as_the_most_that_it_does(
    shared_server: RunningServer,
) -> None:
    with faulty_proxy(shared_server.url, lambda _: None) as proxy, Client(proxy.url, timeout=3_600) as client:
        client.classify("sentiment", "a film")
        assert json.loads(proxy.classifications[0].body)["timeout_ms"] == shared_server.settings.max_timeout_ms


@pytest.mark.slow
def test_retries_stay_within_a_tenth_of_the_calls(shared_server: RunningServer) -> None:
    calls = 60
    with faulty_proxy(shared_server.url, lambda _: Refuses(503)) as proxy, Client(proxy.url) as client:
        for _ in range(calls):
            with pytest.raises(Unavailable):
                client.classify("sentiment", "a film")
        assert calls < len(proxy.classifications) <= calls + 10 + calls / 10


@pytest.mark.slow
def test_retry_after_is_obeyed_and_not_waited_for_beyond_the_deadline(shared_server: RunningServer) -> None:
    script = of_each(n0=Refuses(429, "1"), n2=Refuses(429, "60"))
    with faulty_proxy(shared_server.url, script) as proxy, Client(proxy.url) as client:
        client.classify("sentiment", "a film")
        first, second = proxy.classifications
        assert second.at - first.at >= 1
        began = time.monotonic()
        with pytest.raises(RateLimited) as caught:
            client.classify("sentiment", "a film")
        assert time.monotonic() - began < 5
        assert caught.value.retry_after_s == 60


@forms
@pytest.mark.slow
def test_a_refused_connection_is_tried_again_and_then_named(form: Form) -> None:
    with socket.socket() as taken:  # bound and not listening: nothing else can have the port
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unreachable, match=rf"cannot reach {url}: .+; is 'superpos serve' running\?"):
            ask(form, url, lambda client: client.classify("sentiment", "a film"), max_retries=1)


@forms
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_write_that_may_have_arrived_is_reported_and_not_sent_again(
    server: RunningServer, form: Form, when: Literal["before", "after"]
) -> None:
    with faulty_proxy(server.url, lambda _: Resets(when), counted="/tasks") as proxy:
        with pytest.raises(Unreachable):
            ask(form, proxy.url, lambda client: client.tasks.set_alias("sentiment", "green", 1))
        assert len(proxy.seen) == 1
    assert ("green" in server.client.get("/tasks/sentiment").json()["aliases"]) == (when == "after")


def test_a_stream_that_is_left_early_stops_asking(shared_server: RunningServer) -> None:
    def endless() -> Iterator[str]:
        while True:
            yield "a film"

    with faulty_proxy(shared_server.url, lambda _: None) as proxy, Client(proxy.url) as client:
        stream = client.classify_many("sentiment", endless(), chunk=2, concurrency=2)
        assert next(stream).label in ("negative", "positive")
        stream.close()
        asked = [len(proxy.classifications)]

        def is_quiet() -> bool:
            time.sleep(0.2)
            asked.append(len(proxy.classifications))
            return asked[-1] == asked[-2]

        eventually(is_quiet, within_s=5)  # what was on its way has arrived
        assert asked[-1] <= 2 * LOOKAHEAD


def test_a_client_that_is_closed_during_a_request_answers_it_and_then_leaves_no_connection(
    shared_server: RunningServer,
) -> None:
    with faulty_proxy(shared_server.url, lambda _: IsSilent(0.3)) as proxy:
        client = Client(proxy.url)
        answered: list[Prediction] = []
        asking = threading.Thread(target=lambda: answered.append(client.classify("sentiment", "a film")))
        asking.start()
        while not proxy.classifications:
            time.sleep(0.01)
        client.close()
        with pytest.raises(RuntimeError, match="the client is closed"):
            client.classify("sentiment", "a film")
        asking.join()
        assert answered
        port = int(proxy.url.rpartition(":")[2])
        ours = psutil.Process().net_connections("tcp4")
        assert [each for each in ours if each.raddr and each.raddr.port == port] == []
