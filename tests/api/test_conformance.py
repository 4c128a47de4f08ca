"""The server does what its OpenAPI document says: schemathesis with every check on, its short profile."""

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from support.adapters import PAIR, make_adapter
from support.http import check_problem
from support.server import RunningServer
from support.waiting import eventually

from adapters.files import to_files
from backbone import Backbone
from service.api.problems import FRAMEWORK_CODES, PROBLEM_TYPES
from verification.conformance import NO_ANSWER_BY_CHANCE, check

KEY = f"sp_root_{secrets.token_urlsafe(32)}"


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., RunningServer], tiny: Backbone) -> RunningServer:
    """With keys, and the tasks that the document's examples name."""
    started = serve_module(require_keys=True, admin_key=KEY, default_task="sst2")
    for task, adapter in (
        ("sst2", make_adapter(tiny)),
        ("sst2", make_adapter(tiny, seed=1)),
        ("rte", make_adapter(tiny, PAIR)),
    ):
        started.registry.publish("default", task, to_files(adapter), actor="test")
    with httpx2.Client(base_url=started.url, headers={"Authorization": f"Bearer {KEY}"}) as client:
        eventually(lambda: client.get("/tasks/rte").is_success)
        client.patch("/admin/tenants/default", json={"retention_days": 1}).raise_for_status()
    return started


@pytest.mark.slow
def test_every_operation_does_what_the_document_says(server: RunningServer) -> None:
    found = check(server.url, KEY, max_examples=2, phases="examples,coverage,fuzzing", timeout_s=240)
    assert found.passed, found.text
    paths = server.client.get("/openapi.json").json()["paths"]
    operations = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert set(found.answers) == operations
    assert found.never_succeeded() <= set(NO_ANSWER_BY_CHANCE)
    assert found.num_requests > 20 * len(operations)


@pytest.mark.slow
def test_every_operation_documents_its_errors_with_their_body(server: RunningServer) -> None:
    document = server.client.get("/openapi.json").json()
    assert set(document["components"]["securitySchemes"]) == {"HTTPBearer", "APIKeyHeader"}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            name = f"{method.upper()} {path}"
            errors = {status: body for status, body in operation["responses"].items() if status >= "400"}
            assert all("$ref" in str(body["content"]) for body in errors.values()), name
            assert "security" not in operation or {"401", "403", "429"} <= set(errors), name
            if "requestBody" in operation:
                assert {"400", "413", "415", "422"} <= set(errors), name


NUMBER = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
LIMITS = {
    "string": {"minLength", "maxLength", "pattern", "format"},
    "array": {"minItems", "maxItems", "uniqueItems"},
    "number": NUMBER,
    "integer": NUMBER,
    "object": {"minProperties", "maxProperties"},
}


def schemas_within(value: object) -> Iterator[dict[str, object]]:
    """Every schema of one type, at any depth."""
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from schemas_within(each)


@pytest.mark.slow
def test_every_limit_in_the_document_is_one_of_its_type(server: RunningServer) -> None:
    """JSON Schema ignores the others without a word: what they were to say would stand nowhere."""
    schemas = list(schemas_within(server.client.get("/openapi.json").json()))
    assert len(schemas) > 100
    for schema in schemas:
        others = set().union(*LIMITS.values()) - LIMITS.get(str(schema["type"]), set())
        assert not others & set(schema), schema


@pytest.mark.slow
def test_the_document_describes_fields_of_requests_and_of_answers(server: RunningServer) -> None:
    schemas = server.client.get("/openapi.json").json()["components"]["schemas"]
    described = {
        ("ClassifyRequest", "top_k"): "Number of best labels",
        ("Ready", "degraded"): "The registry cannot be read",
        ("Prediction", "scores"): "Calibrated probabilities",
        ("AuditEntry", "position"): "log",
    }
    for (schema, field), part in described.items():
        assert part in schemas[schema]["properties"][field]["description"], (schema, field)


def test_a_method_that_a_path_does_not_take_names_all_that_it_takes(server: RunningServer) -> None:
    for path, allowed in {
        "/tasks/sst2/aliases/canary": "DELETE, GET, HEAD, PUT",
        "/admin/tenants": "GET, HEAD, POST",
        "/openapi.json": "GET, HEAD",
    }.items():
        refused = server.client.options(path)
        check_problem(refused, 405, "method_not_allowed", path, allowed)
        assert refused.headers["Allow"] == allowed


@pytest.mark.slow
def test_the_api_document_tells_every_code_with_its_status_and_every_path(server: RunningServer) -> None:
    text = (Path(__file__).parents[2] / "docs/api.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| (\d{3}) \| `(\w+)` \|", text, flags=re.MULTILINE))
    table = {(kind.status, kind.code) for kind in PROBLEM_TYPES.values()}
    framework = {(status, code) for status, code in FRAMEWORK_CODES.items()}
    elsewhere = {(400, "malformed_json"), (500, "internal_error")}
    assert told == {(str(status), code) for status, code in table | framework | elsewhere}
    paths = server.client.get("/openapi.json").json()["paths"]
    first = {path.split("/")[1] for path in paths}
    assert {part for part in first if f"/{part}" not in text} == set()
