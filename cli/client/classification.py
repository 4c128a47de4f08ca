"""Classification of any number of lines: requests within the server's limits, and a result or refusal per line."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from adapters import strict_json
from adapters.strict_json import AmbiguousJson
from cli.client.targets import Refused, Server
from cli.console import CommandError

_ROW_CODES = ("invalid_input", "text_too_long", "body_too_large", "inference_failed")
"""Codes of refusals that a single row can cause, so that the other rows of its request are sent again."""
_MAX_WAITS = 10
_MAX_WAIT_S = 60


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers to lines, all by one version."""

    head: dict[str, Any]
    """Task, version, adapter and backbone; empty if every line was refused."""
    lines: tuple["dict[str, Any] | Refusal", ...]
    """The server's prediction for each line, or why there is none."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a line was not classified."""

    cause: CommandError

    @property
    def reason(self) -> str:
        """The server's message without the place in its request, or the client's."""
        if not isinstance(self.cause, Refused):
            return str(self.cause)
        return self.cause.reason.removeprefix("inputs[0]: ").removeprefix("body.inputs.0: ")


def classify_lines(
    server: Server, ref: str, lines: Sequence[str], *, truncate: str, on_progress: Callable[[str], None]
) -> Answers:
    """Classify lines in requests that the server's limits allow.

    Later requests name the version that answered the first one. A request that is refused because of a row is halved
    until only such rows are left.

    Args:
        lines: texts, or JSON objects with the fields of a task
        on_progress: called with the state in words, before each request and each wait

    Raises:
        CommandError: the first request failed for another reason than its rows, for example an unknown task
    """
    limits = server.request("GET", "limits").json()
    found: list[dict[str, Any] | Refusal | None] = [_refused_here(line) for line in lines]
    good = [number for number, refusal in enumerate(found) if refusal is None]
    waiting = list(_requests(good, lines, limits["max_rows_per_request"], limits["max_body_bytes"]))[::-1]
    head: dict[str, Any] = {}
    while waiting:
        numbers = waiting.pop()
        on_progress(f"line {numbers[0] + 1} of {len(lines)}")
        body = {"inputs": [_input(lines[number]) for number in numbers], "truncate": truncate}
        try:
            answer = _send(server, ref, body, on_progress)
        except CommandError as exc:
            if not _is_of_a_row(exc):
                if not head:
                    raise
                numbers = [*numbers, *(number for request in waiting for number in request)]
                waiting = []
            elif len(numbers) > 1:
                middle = len(numbers) // 2
                waiting += [numbers[middle:], numbers[:middle]]
                continue
            for number in numbers:
                found[number] = Refusal(exc)
            continue
        for number, prediction in zip(numbers, answer.pop("predictions"), strict=True):
            found[number] = prediction
        head = head or answer
        ref = f"{head['task']}@{head['version']}"
    return Answers(head, tuple(each for each in found if each is not None))


def _requests(numbers: Sequence[int], lines: Sequence[str], max_rows: int, max_bytes: int) -> Iterator[list[int]]:
    """Divide line numbers into requests of at most `max_rows` rows and about three quarters of `max_bytes`."""
    request: list[int] = []
    size = 0
    for number in numbers:
        more = len(json.dumps(lines[number]).encode()) + 2
        if request and (len(request) == max_rows or size + more > 0.75 * max_bytes):
            yield request
            request, size = [], 0
        request.append(number)
        size += more
    if request:
        yield request


def _send(server: Server, ref: str, body: object, on_progress: Callable[[str], None]) -> dict[str, Any]:
    """Send a request, and send it again after the time that a busy server names."""
    for attempt in range(_MAX_WAITS):
        try:
            answer: dict[str, Any] = server.request("POST", "classify", ref, json=body).json()
            return answer
        except Refused as refused:
            wait_s = refused.retry_after_s
            if refused.status != 429 or wait_s is None or wait_s > _MAX_WAIT_S or attempt == _MAX_WAITS - 1:
                raise
            on_progress(f"waiting {wait_s} s: {refused.reason}")
            time.sleep(wait_s)
    raise AssertionError


def _is_of_a_row(refused: CommandError) -> bool:
    if not isinstance(refused, Refused):
        return False
    return refused.code in _ROW_CODES or any(place.startswith("body.inputs") for place in refused.locations)


def _refused_here(line: str) -> Refusal | None:
    """Refuse a line that cannot be sent: not in UTF-8, half of a surrogate pair, or a JSON object with a key twice."""
    try:
        line.encode()
    except UnicodeEncodeError as exc:
        return Refusal(CommandError(f"character {exc.start + 1} is {line[exc.start]!r}, expected text in UTF-8"))
    try:
        if line.lstrip().startswith("{"):
            strict_json.loads(line)
    except AmbiguousJson as exc:
        return Refusal(CommandError(str(exc)))
    except (ValueError, RecursionError):
        return None  # a text that begins with a brace
    return None


def _input(line: str) -> object:
    """Return the fields that a line holds as a JSON object, or else the line as text."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return line
    return value if isinstance(value, dict) else line
