"""`superpos classify` within the server's limits: any number of lines, and a refused line fails alone."""

import json
import subprocess
import threading
import time
from collections.abc import Callable

import pytest
from support.adapters import make_adapter
from support.cli import CONSOLE_SCRIPT, superpos
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, Keyring, bearer

from adapters.files import to_files
from backbone import Backbone

Serve = Callable[..., RunningServer]
LIMITS = {"max_rows_per_request": 4, "max_text_chars": 600, "max_body_bytes": 1_000}


@pytest.fixture(scope="module")
def small(serve_module: Serve, tiny: Backbone) -> RunningServer:
    """Start a server with low limits."""
    server = serve_module(**LIMITS)
    server.upload("sentiment", make_adapter(tiny))
    return server


def classified(server: RunningServer, lines: list[str]) -> tuple[int, dict, str]:
    answer = superpos(
        "classify", "sentiment", "--json", "--server", server.url, stdin="".join(f"{line}\n" for line in lines)
    )
    return answer.code, json.loads(answer.stdout), answer.stderr


@pytest.mark.slow
def test_the_client_asks_for_the_limits_and_splits_any_number_of_lines(small: RunningServer) -> None:
    assert LIMITS.items() <= small.client.get("/limits").json().items()
    lines = [f"film number {number}" for number in range(19)]
    code, answer, _ = classified(small, lines)
    assert code == 0
    alone = [small.classify("sentiment", line).json()["predictions"][0] for line in lines]
    assert answer["predictions"] == alone
    assert (answer["task"], answer["version"]) == ("sentiment", 1)


def test_lines_that_were_cut_or_barely_read_are_told_of_by_their_number(small: RunningServer) -> None:
    lines = ["a film", "it is wet and " * 20, "天気天気"]
    answer = superpos("classify", "sentiment", "--truncate", "end", "--server", small.url, *lines)
    assert answer.code == 0
    told = answer.stderr.splitlines()
    assert [line.split(":")[0] for line in told] == ["line 2", "line 3"]
    assert "field 'sentence' was truncated by" in told[0]
    assert "100 % of the characters" in told[1]


def test_requests_are_split_by_bytes_too(small: RunningServer) -> None:
    """Four of these lines are more than a body may hold."""
    code, answer, _ = classified(small, ["ä gripping film. " * 20] * 6)
    assert code == 1  # the lines have more tokens than the task allows, but no request was too large
    assert all("text_too_long" in each["refused"] for each in answer["predictions"])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("word " * 100, "text_too_long"),
        ("x" * 601, "characters, expected at most 600"),
        ("y" * 2_000, "body_too_large"),
        ('{"nothing": "of the kind"}', "sentence"),
        ('{"sentence": 3}', "expected a string"),
    ],
    ids=["tokens", "characters", "bytes", "another field", "not a text"],
)
@pytest.mark.slow
def test_a_line_over_a_limit_fails_alone(small: RunningServer, bad: str, reason: str) -> None:
    lines = ["a gripping film", "flat", bad, "overlong", "fine", "dull"]
    code, answer, stderr = classified(small, lines)
    assert code == 1
    refused = [number for number, each in enumerate(answer["predictions"], 1) if "refused" in each]
    assert refused == [3]
    assert reason in answer["predictions"][2]["refused"]
    assert "line 3: " in stderr
    assert stderr.splitlines()[-1] == "superpos: 1 of 6 lines were refused"
    table = superpos("classify", "sentiment", "--server", small.url, stdin="\n".join(lines))
    assert table.code == 1
    assert table.stdout.count("refused") == 1


@pytest.mark.slow
def test_bytes_that_are_not_utf_8_fail_alone(small: RunningServer) -> None:
    done = subprocess.run(
        [CONSOLE_SCRIPT, "classify", "sentiment", "--server", small.url, "--json"],
        input=b"\xef\xbb\xbfa gripping film\r\ngr\xfc\xdf\r\nflat\n",
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert b"line 2: character 3 is '\\udcfc', expected text in UTF-8" in done.stderr
    first, second, third = json.loads(done.stdout)["predictions"]
    assert (second.keys(), first["label"]) == (
        {"refused"},
        small.classify("sentiment", "a gripping film").json()["predictions"][0]["label"],
    )
    assert third["tokens"] == small.classify("sentiment", "flat").json()["predictions"][0]["tokens"]


def test_one_text_that_is_refused_is_a_refusal_of_the_command(small: RunningServer) -> None:
    refusal = superpos("classify", "sentiment", "x" * 601, "--server", small.url).refusal()
    assert refusal.startswith(f"{small.url} refused: ")
    assert "no task 'nothing'" in superpos("classify", "nothing", *"abcdefg", "--server", small.url).refusal()


@pytest.mark.slow
def test_a_rate_limit_is_waited_for(serve: Serve, tiny: Backbone) -> None:
    """The limit is lifted as soon as the server has refused a request, which the command waits for."""
    server = serve(require_keys=True, admin_key=ADMIN_KEY, max_rows_per_request=2)
    keyring = Keyring(server)
    keyring.tenant("acme", requests_per_s=1)
    key = keyring.key("acme", "publish")
    parts = [("files", (name, data)) for name, data in to_files(make_adapter(tiny)).items()]
    server.client.post("/tasks/sentiment/versions", files=parts, headers=bearer(key)).raise_for_status()

    def refusals() -> float:
        series = 'superpos_requests_answered_total{route="/classify/{ref}",status="429"}'
        lines = server.client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))

    def lift() -> None:
        deadline = time.monotonic() + 30
        while not refusals() and time.monotonic() < deadline:
            time.sleep(0.02)
        keyring.change("acme", requests_per_s=None)

    lifting = threading.Thread(target=lift)
    lifting.start()
    answer = superpos("classify", "sentiment", *("dull film " * 30).split(), "--server", server.url, "--key", key)
    lifting.join()
    assert answer.code == 0, answer.stderr
    assert answer.stdout.count("0.") >= 60
    assert refusals()
