"""The client's surface: the same with and without `async`, every route of the server, every member of its answers."""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, get_args, get_type_hints

import httpx2
import pandas as pd
import pytest
from pydantic import BaseModel
from support.server import RunningServer

import superpos_client
from scripts.sync_client import PACKAGE, generated
from superpos_client import AsyncClient, Client, SuperposError, feedback, jobs, resources
from superpos_client._async import io as with_async
from superpos_client._sync import io as without
from superpos_client.answers import ANSWER_FIELDS, Limits, Prediction
from superpos_client.server import Server

NAMESPACES = ("tasks", "feedback", "jobs", "tenants", "keys", "audit")
CALLS: dict[str, Callable[[Client], object]] = {
    "classify": lambda client: client.classify("t", "a"),
    "classify_tasks": lambda client: client.classify_tasks(["t", "u"], "a"),
    "classify_many": lambda client: list(client.classify_many("t", ["a"])),
    "frame": lambda client: client.frame("t", _frame(), text="a"),
    "limits": lambda client: client.limits(),
    "readiness": lambda client: client.readiness(),
    "usage": lambda client: client.usage(),
    "usage_csv": lambda client: client.usage_csv(),
    "request": lambda client: client.request("GET", "/"),
    "tasks.list": lambda client: client.tasks.list(),
    "tasks.page": lambda client: client.tasks.page(cursor="s", limit=3),
    "tasks.get": lambda client: client.tasks.get("t"),
    "tasks.versions": lambda client: client.tasks.versions("t"),
    "tasks.adapter": lambda client: client.tasks.adapter("t", 1),
    "tasks.files": lambda client: client.tasks.files("t", 1),
    "tasks.file": lambda client: client.tasks.file("t", 1, "README.md"),
    "tasks.download": lambda client: client.tasks.download("t", 1, "/nowhere"),
    "tasks.publish": lambda client: client.tasks.publish("t", {"superpos.json": b"{}"}),
    "tasks.delete_version": lambda client: client.tasks.delete_version("t", 1),
    "tasks.alias": lambda client: client.tasks.alias("t"),
    "tasks.set_alias": lambda client: client.tasks.set_alias("t", "a", 1),
    "tasks.delete_alias": lambda client: client.tasks.delete_alias("t", "a"),
    "tasks.traffic": lambda client: client.tasks.traffic("t"),
    "tasks.set_traffic": lambda client: client.tasks.set_traffic("t", canary=2, percent=5),
    "tasks.end_traffic": lambda client: client.tasks.end_traffic("t"),
    "tasks.roll_back": lambda client: client.tasks.roll_back("t"),
    "tasks.promote": lambda client: client.tasks.promote("t", 2),
    "tasks.history": lambda client: list(client.tasks.history("t")),
    "tasks.train": lambda client: client.tasks.train("t", [("a", "b")], corrections_since=1),
    "jobs.list": lambda client: client.jobs.list("t"),
    "jobs.get": lambda client: client.jobs.get("j"),
    "jobs.wait": lambda client: client.jobs.wait("j"),
    "jobs.cancel": lambda client: client.jobs.cancel("j"),
    "jobs.delete": lambda client: client.jobs.delete("j"),
    "feedback.correct": lambda client: client.feedback.correct("a", request_id="r"),
    "feedback.state": lambda client: client.feedback.state(),
    "feedback.page": lambda client: client.feedback.page("t"),
    "feedback.list": lambda client: list(client.feedback.list("t")),
    "feedback.export": lambda client: client.feedback.export("t"),
    "feedback.delete": lambda client: client.feedback.delete(who="ann"),
    "tenants.list": lambda client: client.tenants.list(),
    "tenants.get": lambda client: client.tenants.get("a"),
    "tenants.create": lambda client: client.tenants.create("a", max_tasks=3),
    "tenants.update": lambda client: client.tenants.update("a", suspended=True),
    "tenants.delete": lambda client: client.tenants.delete("a"),
    "keys.list": lambda client: client.keys.list("a"),
    "keys.create": lambda client: client.keys.create("a", expires_at=datetime(2030, 1, 1, tzinfo=UTC)),
    "keys.update": lambda client: client.keys.update("a", "k", default_task="t"),
    "keys.rotate": lambda client: client.keys.rotate("a", "k"),
    "keys.revoke": lambda client: client.keys.revoke("a", "k"),
    "audit.accounts": lambda client: list(client.audit.accounts()),
    "audit.tasks": lambda client: list(client.audit.tasks()),
}
"""Every method that sends something."""
SEND_NOTHING = {"close", "local", "with_options"}

NOT_COVERED = {
    "the routes of other protocols, which have their own clients": re.compile(
        r"\w+ /(v1|v2|tei)(/.*)?|POST /predict|GET /(info|health)"
    ),
    "for load balancers and orchestrators": re.compile(r"GET /healthz/(live|startup)"),
    "for Prometheus": re.compile(r"GET /metrics"),
    "links for people": re.compile(r"GET /"),
}


def _frame() -> Any:
    return pd.DataFrame({"a": ["a"]})


def _methods(kind: type) -> dict[str, Callable[..., Any]]:
    return {
        name: member
        for name, member in inspect.getmembers(kind, callable)
        if not name.startswith("_") and not isinstance(member, type)
    }


def _surface(client: object) -> dict[str, Callable[..., Any]]:
    found = _methods(type(client))
    for namespace in NAMESPACES:
        kind = type(getattr(client, namespace))
        found |= {f"{namespace}.{name}": method for name, method in _methods(kind).items()}
    return found


def test_the_generated_files_are_current() -> None:
    for path, text in generated().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python -m scripts.sync_client"
    names = {path.name for path in (PACKAGE / "_async").glob("*.py")}
    assert {path.name for path in (PACKAGE / "_sync").glob("*.py")} == names


def test_both_clients_have_the_same_methods_and_parameters() -> None:
    plain, other = _surface(Client("http://localhost")), _surface(AsyncClient("http://localhost"))
    assert {name.replace("aclose", "close") for name in other} == set(plain)
    for name, method in plain.items():
        theirs = other["aclose" if name == "close" else name]
        for ours, its in zip(
            inspect.signature(method).parameters.values(), inspect.signature(theirs).parameters.values(), strict=True
        ):
            assert (ours.name, ours.kind, ours.default) == (its.name, its.kind, its.default), name
        assert inspect.getdoc(method), name


def test_the_primitives_of_both_have_the_same_names() -> None:
    def names(module: object) -> set[str]:
        return {
            f"{name}.{part}"
            for name in ("Pool", "Jobs")
            for part in vars(getattr(module, name))
            if not part.startswith("_")
        } | {name for name in ("exchange", "each", "sleep") if hasattr(module, name)}

    assert names(with_async) == names(without)


@pytest.fixture(scope="module")
def sent() -> dict[str, list[str]]:
    """The requests of every method, as `METHOD /path`."""
    found: dict[str, list[str]] = {}
    for name, call in CALLS.items():
        requests: list[str] = []

        def answer(request: httpx2.Request, requests: list[str] = requests) -> httpx2.Response:
            requests.append(f"{request.method} {request.url.path}")
            if request.url.path == "/limits":
                members = dict.fromkeys(Limits.model_fields, 10_000)
                return httpx2.Response(200, json=members)
            if request.url.path.endswith("/files"):
                return httpx2.Response(200, json={"files": ["README.md"]})
            return httpx2.Response(404, json={"code": "not_found", "detail": "no"})

        with httpx2.Client(transport=httpx2.MockTransport(answer)) as http, suppress(SuperposError):
            call(Client("http://localhost", http_client=http))
        found[name] = requests
    return found


def test_every_method_is_called() -> None:
    assert set(_surface(Client("http://localhost"))) == set(CALLS) | SEND_NOTHING


def test_every_route_is_covered_or_has_a_reason(shared_server: RunningServer, sent: dict[str, list[str]]) -> None:
    paths = shared_server.client.get("/openapi.json").json()["paths"]
    routes = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    covered = {
        route
        for route in routes
        for requests in sent.values()
        for request in requests
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(route)), request)
    } - {"GET /"}  # what `request` was called with
    left = {route for route in routes - covered if not any(each.fullmatch(route) for each in NOT_COVERED.values())}
    assert left == set()
    for reason, pattern in NOT_COVERED.items():
        assert any(pattern.fullmatch(route) for route in routes - covered), f"{reason}: there are none"
    known = [re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(route)) for route in routes]
    for name, requests in sent.items():
        assert requests, name
        for request in requests:
            assert any(re.fullmatch(route, request) for route in known), f"{name} sends {request}"


SCHEMAS = {
    "AdapterBody": resources.Adapter,
    "AliasBody": resources.Alias,
    "AuditEntry": resources.AuditEntry,
    "ChangeBody": resources.Change,
    "DriftReport": resources.Drift,
    "FeedbackCounts": feedback.FeedbackCounts,
    "FeedbackDeletion": feedback.FeedbackDeletion,
    "FeedbackList": feedback.FeedbackPage,
    "FeedbackReceipt": feedback.Correction,
    "FeedbackRowBody": feedback.FeedbackRow,
    "FeedbackState": feedback.FeedbackState,
    "Flip": resources.Flip,
    "GivenAnswer": feedback.GivenAnswer,
    "CurvePoint": jobs.CurvePoint,
    "JobBody": jobs.Job,
    "JobDetail": jobs.JobDetail,
    "JobResultBody": jobs.JobResult,
    "Progress": jobs.JobProgress,
    "KeyBody": resources.Key,
    "Limits": Limits,
    "MoveBody": resources.Move,
    "NewKeyBody": resources.NewKey,
    "Prediction": Prediction,
    "PromotionBody": resources.Promotion,
    "PublishResponse": resources.Publication,
    "ShadowAnswer": feedback.ShadowAnswer,
    "ShadowReport": resources.Shadow,
    "TaskDetail": resources.TaskDetail,
    "TaskList": resources.TaskPage,
    "TaskSummary": resources.Task,
    "TenantBody": resources.Tenant,
    "TrafficBody": resources.Traffic,
    "UsageBody": resources.Usage,
    "UsageNumbers": resources.UsageNumbers,
    "UsageRowBody": resources.UsageRow,
    "VersionBody": resources.Version,
}
OWN_FIELDS = {resources.Alias: {"etag"}, resources.Traffic: {"etag"}, Prediction: set(ANSWER_FIELDS)}
"""Fields that come from headers, or from the answer around the object."""


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_model_has_the_members_of_the_servers(shared_server: RunningServer, name: str) -> None:
    schemas = shared_server.client.get("/openapi.json").json()["components"]["schemas"]
    schema = schemas.get(name) or schemas[f"{name}-Output"]
    model: type[BaseModel] = SCHEMAS[name]
    members = {str(field.validation_alias or field_name) for field_name, field in model.model_fields.items()}
    assert members - OWN_FIELDS.get(model, set()) == set(schema["properties"])


def test_every_model_is_compared() -> None:
    made = {
        member
        for module in (resources, feedback, jobs)
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, BaseModel) and member.__module__ == module.__name__
    }
    # the first leaves out what operators see, the second is a file
    assert made - set(SCHEMAS.values()) == {resources.Readiness, feedback.Dataset}


def test_the_limits_of_a_tenant_are_those_that_the_server_takes(shared_server: RunningServer) -> None:
    schemas = shared_server.client.get("/openapi.json").json()["components"]["schemas"]
    assert set(get_type_hints(resources.TenantLimits)) == set(schemas["TenantChange"]["properties"])
    roles = schemas["KeyRequest"]["properties"]["role"]["enum"]
    assert set(get_args(resources.Role)) == set(roles)


def test_everything_public_has_a_docstring_and_a_place_in_all() -> None:
    def public() -> Iterator[str]:
        for name in superpos_client.__all__:
            if inspect.isclass(member := getattr(superpos_client, name)):
                assert inspect.getdoc(member), name
                yield name

    errors = {
        name
        for name, member in inspect.getmembers(superpos_client.errors, inspect.isclass)
        if issubclass(member, SuperposError)
    }
    assert errors <= set(public())
    assert set(inspect.signature(Server.of).parameters) == {"url", "api_key"}
