"""The plan of a stream, without I/O: under any outcomes, each row has one outcome, in order and within the limits."""

import random
from collections.abc import Iterator

import pytest

from superpos_client import (
    DeadlineExceeded,
    Forbidden,
    Invalid,
    Limits,
    Prediction,
    RateLimited,
    ServerFault,
    SuperposError,
    Unavailable,
)
from superpos_client.errors import FieldError
from superpos_client.stream import LOOKAHEAD, MAX_FAULTS, Plan, Request, Stream, Window

LIMITS = Limits(
    max_rows_per_request=32,
    max_tasks_per_request=4,
    max_text_chars=100,
    max_body_bytes=400,
    max_upload_bytes=1_000,
    default_timeout_ms=1_000,
    max_timeout_ms=2_000,
)


def answer(row: bytes) -> Prediction:
    return Prediction(label=row.decode(), score=1, scores={}, task="t", version=1, digest="sha256:0", backbone="b")


def invalid(place: int, *, named: bool = True) -> SuperposError:
    detail = f"inputs[{place}]: the text is empty" if named else "a text is empty"
    return Invalid(f"refused: {detail}", status=422, code="invalid_input", detail=detail)


def drive(
    rows: list[object], plan: Plan, *, seed: int, bad: frozenset[str] = frozenset(), names_place: bool = True
) -> Iterator[Prediction | SuperposError]:
    """Send the requests of a stream to nobody: outcomes in random order, with random 429, 503 and refused rows."""
    chance, now = random.Random(seed), 0.0
    stream, source, sent = Stream(LIMITS, plan, max_bytes=LIMITS.max_body_bytes), iter(rows), list[Request]()
    while not stream.is_done:
        while (request := stream.next_request(now)) is None and stream.wants_rows:
            row = next(source, None)
            stream.add(row) if row is not None else stream.end()
        if request is not None:
            assert len(request.rows) <= LIMITS.max_rows_per_request
            assert sum(map(len, request.rows)) + len(request.rows) <= LIMITS.max_body_bytes
            sent.append(request)
            assert len(sent) <= plan.concurrency
            continue
        yield from stream.take()
        if not sent:
            now += stream.wait_s(now) or 0
            continue
        ended = sent.pop(chance.randrange(len(sent)))
        now += 0.1
        refused = [place for place, row in enumerate(ended.rows) if row.decode().strip('"') in bad]
        lot = chance.random()
        if lot < 0.2:
            stream.failed(ended, RateLimited("busy", status=429, retry_after_s=chance.choice([None, 0, 2])), now)
        elif refused:
            stream.failed(ended, invalid(refused[0], named=names_place), now)
        elif lot < 0.25:
            stream.failed(ended, Unavailable("away", status=503), now)
        else:
            stream.answered(ended, [answer(row) for row in ended.rows], now)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("names_place", [True, False])
def test_each_row_has_one_outcome_in_order_whatever_becomes_of_requests(seed: int, names_place: bool) -> None:
    chance = random.Random(seed)
    rows: list[object] = [f"{number:03}" + "x" * chance.randrange(60) for number in range(300)]
    for place in chance.sample(range(300), 12):
        rows[place] = chance.choice([3, "y" * 500, "half of a pair: \ud800"])
    bad = frozenset(str(rows[place]) for place in chance.sample(range(300), 12))
    plan = Plan(chunk=chance.choice([None, 1, 7, 100]), concurrency=chance.choice([1, 3, 8]))
    found = list(drive(rows, plan, seed=seed, bad=bad, names_place=names_place))
    assert len(found) == len(rows)
    for number, (row, outcome) in enumerate(zip(rows, found, strict=True)):
        if isinstance(outcome, Prediction):
            assert outcome.label == f'"{row}"'
            assert row not in bad
        else:
            assert outcome.row == number
            assert row in bad or not isinstance(row, str) or len(row) > 400 or "\ud800" in row or outcome.status == 503


def test_rows_are_read_only_as_they_are_needed() -> None:
    read: list[int] = []

    def rows() -> Iterator[str]:
        for number in range(10_000):
            read.append(number)
            yield str(number)

    stream, source = Stream(LIMITS, Plan(chunk=4, concurrency=2), max_bytes=400), rows()
    requests: list[Request] = []
    while stream.wants_rows or len(requests) < 2:
        if (request := stream.next_request(0)) is not None:
            requests.append(request)
        else:
            stream.add(next(source))
    assert len(read) == 8
    # the oldest request is not answered, all later ones are: memory stays bounded
    for _ in range(1_000):
        stream.answered(requests[-1], [answer(row) for row in requests.pop().rows], 1)
        while (request := stream.next_request(1)) is None and stream.wants_rows:
            stream.add(next(source))
        if request is None:
            break
        requests.append(request)
    assert len(read) <= 4 * LOOKAHEAD * 2
    assert list(stream.take()) == []


def test_the_window_halves_once_for_requests_sent_together_and_grows_by_one_per_round() -> None:
    window = Window(16)
    for _ in range(16):
        window.refused(sent_at=1.0, now=2.0)
    assert window.size == 8
    window.refused(sent_at=3.0, now=4.0)
    assert window.size == 4
    for _ in range(5):
        window.succeeded()
    assert window.size == 5
    for _ in range(1_000):
        window.succeeded()
    assert window.size == 16
    for sent_at in range(10, 30):
        window.refused(sent_at=float(sent_at), now=float(sent_at))
    assert window.size == 1


def test_a_deadline_of_the_server_makes_the_window_smaller() -> None:
    stream = Stream(LIMITS, Plan(chunk=1, concurrency=4), max_bytes=400)
    requests = []
    for number in range(12):
        stream.add(str(number))
    while (request := stream.next_request(0)) is not None:
        requests.append(request)
    assert len(requests) == 4
    for request in requests:
        stream.failed(request, DeadlineExceeded("late", status=504), 1)
    assert sum(stream.next_request(1) is not None for _ in range(4)) == 2
    assert [type(outcome) for outcome in stream.take()] == [DeadlineExceeded] * 4


def test_every_row_that_a_refusal_names_is_left_out_at_once() -> None:
    stream = Stream(LIMITS, Plan(chunk=6), max_bytes=400)
    for number in range(6):
        stream.add(str(number))
    request = stream.next_request(0)
    assert request is not None
    errors = tuple(FieldError(f"body.inputs.{place}.sentence", "expected a string", "3") for place in (1, 4))
    detail = "body.inputs.1.sentence: expected a string"
    stream.failed(request, Invalid("no", status=422, code="invalid_request", detail=detail, errors=errors), 1)
    rest = stream.next_request(1)
    assert rest is not None
    assert rest.rows == [b'"0"', b'"2"', b'"3"', b'"5"']


def test_an_error_that_no_row_causes_ends_the_stream() -> None:
    stream = Stream(LIMITS, Plan(), max_bytes=400)
    stream.add("a")
    stream.end()
    request = stream.next_request(0)
    assert request is not None
    with pytest.raises(Forbidden):
        stream.failed(request, Forbidden("no", status=403, code="forbidden"), 1)


def failing(texts: set[str], *, rows: int) -> tuple[dict[int, object], int]:
    """Drive a stream whose server fails at some texts; the rows' outcomes and the number of requests."""
    stream = Stream(LIMITS, Plan(chunk=32), max_bytes=400)
    for number in range(rows):
        stream.add(str(number))
    stream.end()
    num_requests, found = 0, []
    while not stream.is_done:
        while (request := stream.next_request(0)) is not None:
            num_requests += 1
            if texts & {row.decode().strip('"') for row in request.rows}:
                stream.failed(request, ServerFault("no", status=500, code="internal_error"), 0)
            else:
                stream.answered(request, [answer(row) for row in request.rows], 0)
        found += stream.take()
    return dict(enumerate(found)), num_requests


def test_a_failure_of_the_server_is_narrowed_down_to_its_row() -> None:
    found, num_requests = failing({"3", "30"}, rows=32)
    assert {place for place, outcome in found.items() if isinstance(outcome, ServerFault)} == {3, 30}
    assert all(isinstance(outcome, ServerFault | Prediction) for outcome in found.values())
    assert num_requests <= 2 * 2 * 6  # two paths through halves of 32 rows


def test_a_server_that_fails_at_everything_is_not_asked_for_each_row() -> None:
    found, num_requests = failing(set(map(str, range(320))), rows=320)
    assert all(isinstance(outcome, ServerFault) for outcome in found.values())
    assert num_requests <= MAX_FAULTS + 2 * 10


@pytest.mark.parametrize(("name", "value"), [("chunk", 0), ("concurrency", 0), ("concurrency", -1)])
def test_a_plan_without_requests_is_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}, expected at least 1"):
        Plan(**{name: value})
