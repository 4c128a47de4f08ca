"""A megabyte of nonsense costs little: nothing looks at more values, or reports more errors, than it needs."""

import json
import re
from collections.abc import Iterator
from itertools import cycle

import psutil
import pytest
from support.adapters import SENTIMENT
from support.http import check_problem
from support.server import RunningServer

from adapters import strict_json

JSON = "application/json"
MEGABYTE = 1_000_000
MAX_ANSWER_BYTES = 65_536
Schema = dict[str, object]


@pytest.fixture(scope="module")
def server(shared_server: RunningServer) -> RunningServer:
    return shared_server


def arrays_and_objects(document: Schema) -> Iterator[tuple[str, str, Schema, list[str]]]:
    """Yield the method and path of every operation with a JSON body, its schema, and the names of its members."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                schema = resolved(document, content["application/json"]["schema"])
                yield method.upper(), path, schema, list(schema.get("properties", {}))


def resolved(document: Schema, schema: Schema) -> Schema:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def filled(path: str) -> str:
    names = {"ref": "sentiment", "task": "sentiment", "model": "sentiment", "version": "1", "alias": "canary"}
    return re.sub(r"{(\w+)}", lambda found: names.get(found[1], "x"), path)


WRONG = cycle(
    json.dumps(value)
    for value in (
        [0] * (MEGABYTE // 3),
        [{}] * (MEGABYTE // 4),
        [[]] * (MEGABYTE // 4),
        {str(number): number for number in range(80_000)},
        [{"a": [0] * 800}] * 400,
    )
)


def bodies(members: list[str]) -> Iterator[str]:
    """Yield a megabyte of wrong items as the whole body, and one for every member."""
    yield next(WRONG)
    yield from (f'{{"{member}": {next(WRONG)}}}' for member in members)


@pytest.mark.slow
def test_a_megabyte_of_wrong_items_is_refused_in_few_words_on_every_route(server: RunningServer) -> None:
    document = server.client.get("/openapi.json").json()
    operations = list(arrays_and_objects(document))
    assert len(operations) > 10
    for method, path, _, members in operations:
        for body in bodies(members):
            answer = server.client.request(method, filled(path), content=body, headers={"Content-Type": JSON})
            assert 400 <= answer.status_code < 500, (method, path, answer.text[:200])
            assert len(answer.content) <= MAX_ANSWER_BYTES, (method, path)
            assert len(answer.json().get("errors", ())) <= 20


@pytest.mark.slow
def test_refused_megabytes_are_freed_at_once(server: RunningServer) -> None:
    body = b'{"inputs": [' + b"{}," * (MEGABYTE // 3) + b"{}]}"
    process = psutil.Process()
    for count in (5, 40):
        before = process.memory_info().rss
        for _ in range(count):
            answer = server.client.post("/classify/sentiment", content=body, headers={"Content-Type": JSON})
            check_problem(answer, 422, "invalid_request", "more than 9216 values in all")
    assert process.memory_info().rss - before < 200 << 20, "22 MB of parsed JSON each wait for the garbage collector"


@pytest.mark.parametrize(
    ("body", "mention"),
    [
        ({"inputs": [0] * 2_500}, "inputs has 2500 items, expected at most 1024"),
        ({"inputs": [0] * 250_000}, "more than 9216 values in all"),
        ({str(number): 0 for number in range(5_000)}, "the body has 5000 members"),
        ({str(number): 0 for number in range(100_000)}, "more than 9216 values in all"),
        ({"inputs": [{"sentence": [""] * 100}] * 1_000}, "more than 9216 values in all"),
    ],
)
@pytest.mark.slow
def test_a_large_array_or_object_is_refused_by_its_size(server: RunningServer, body: object, mention: str) -> None:
    check_problem(server.client.post("/classify/sentiment", json=body), 422, "invalid_request", mention)


def test_the_largest_request_is_not_too_large(server: RunningServer) -> None:
    field = SENTIMENT.fields[0]
    answer = server.classify("sentiment", [{field: f"text {number}"} for number in range(256)])
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"]) == 256


def test_thousands_of_unknown_parameters_are_reported_by_the_first(server: RunningServer) -> None:
    answer = server.client.get("/tasks?" + "&".join(f"p{number}=x" for number in range(8_000)))
    check_problem(answer, 422, "invalid_request", "p0")
    assert len(answer.json()["errors"]) == 20


@pytest.mark.parametrize("path", ["/x" * 20_000, "/classify/" + "a" * 40_000])
def test_what_a_caller_sends_comes_back_shortened(server: RunningServer, path: str) -> None:
    for answer in (server.client.get(path), server.client.post(path, json={"inputs": "x" * 300_000, "y" * 9_000: 1})):
        assert answer.status_code in {400, 404, 405, 414, 422}
        assert len(answer.content) < 4_000


def test_values_are_counted_before_they_are_parsed_and_commas_of_texts_are_none() -> None:
    texts = json.dumps({"inputs": ["a, b" * 100, 'say "x", \\\\', "\\", ",,,"]}).encode()
    strict_json.check_count(texts, max_values=3)
    for text in (b"[0" + b",0" * 4 + b"]", b'{"a": [",", ",", ",", ",", ","]}'):
        with pytest.raises(strict_json.LargeJson, match="more than 3 values"):
            strict_json.check_count(text, max_values=3)


def test_values_are_counted_without_a_look_at_the_text_in_them() -> None:
    strict_json.check_size({"a": ["x" * 100] * 10}, max_items=10, max_values=11)
    for value, place in (([0] * 11, "the body"), ({"a": [[0] * 11]}, "a.0")):
        with pytest.raises(strict_json.LargeJson, match=f"{place} has 11 items, expected at most 10"):
            strict_json.check_size(value, max_items=10, max_values=1_000)
    deep: object = []
    for _ in range(900):
        deep = [deep]
    strict_json.check_size(json.loads(json.dumps(deep)), max_items=1, max_values=1_000)
