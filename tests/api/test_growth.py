"""Growth outside quotas, over HTTP: aliases are refused beyond their limits, and the log does not grow with flips."""

from collections.abc import Callable

import pytest
from support.adapters import make_adapter
from support.http import check_problem
from support.server import RunningServer
from support.waiting import eventually

from adapters.files import to_files
from backbone import Backbone

Serve = Callable[..., RunningServer]


@pytest.mark.slow
def test_an_upload_with_hundreds_of_aliases_is_refused_and_leaves_nothing(serve: Serve, tiny: Backbone) -> None:
    server = serve(bundled=False)
    files = [("files", (name, data)) for name, data in to_files(make_adapter(tiny)).items()]
    names = [f"a{number}" for number in range(900)]
    refused = server.client.post("/tasks/sentiment/versions", files=files, data={"alias": names})
    check_problem(refused, 409, "quota_exceeded", "sentiment", "900 aliases", "its limit is 100")
    assert server.registry.changes() == []


@pytest.mark.slow
def test_aliases_of_a_tenant_are_counted_over_its_tasks(serve: Serve, tiny: Backbone) -> None:
    server = serve(bundled=False, max_aliases_per_tenant=4, max_aliases_per_task=3, max_task_names=3)
    for task in ("one", "two"):
        server.upload(task, make_adapter(tiny))
        put = server.client.put(f"/tasks/{task}/aliases/best", json={"version": 1})
        assert put.status_code == 200
    over = server.client.put("/tasks/one/aliases/third", json={"version": 1})
    check_problem(over, 409, "quota_exceeded", "tenant 'default' would have 5 aliases, its limit is 4")
    files = [("files", (name, data)) for name, data in to_files(make_adapter(tiny, seed=1)).items()]
    over = server.client.post("/tasks/three/versions", files=files)
    check_problem(over, 409, "quota_exceeded", "would have 5 aliases")
    assert server.client.put("/tasks/one/aliases/best", json={"version": 1}).status_code == 200  # it is there
    none = {"data": {"alias": ""}}
    server.client.post("/tasks/three/versions", files=files, **none).raise_for_status()
    names = server.client.post("/tasks/four/versions", files=files, **none)
    check_problem(names, 409, "quota_exceeded", "would have used 4 names of tasks")


def test_tasks_are_listed_in_parts_by_name(serve: Serve, tiny: Backbone) -> None:
    server = serve(bundled=False)
    names = ["b", "a.1", "c-x", "b2", "d_", "0", "a"]
    adapter = make_adapter(tiny)
    for name in names:
        server.upload(name, adapter)
    whole = server.client.get("/tasks").json()
    assert [each["task"] for each in whole["tasks"]] == sorted(names)
    assert (whole["total"], whole["cursor"]) == (7, None)
    for limit in (1, 3, 7, 1_000):
        found, cursor = [], ""
        while cursor is not None:
            after = {"cursor": cursor} if cursor else {}
            part = server.client.get("/tasks", params={"limit": limit, **after}).json()
            assert len(part["tasks"]) == min(limit, 7 - len(found))
            assert part["total"] == 7
            found, cursor = found + part["tasks"], part["cursor"]
        assert found == whole["tasks"]
    for task in ("a.1", "b2"):  # a cursor is a place in the order, whether or not its task still exists
        server.client.delete(f"/tasks/{task}/aliases/production").raise_for_status()
        server.client.delete(f"/tasks/{task}/versions/1").raise_for_status()
    rest = server.client.get("/tasks", params={"cursor": "a.1"}).json()
    assert ([each["task"] for each in rest["tasks"]], rest["total"]) == (["b", "c-x", "d_"], 5)
    server.upload("a.2", adapter)
    assert server.client.get("/tasks", params={"cursor": "a", "limit": 1}).json()["cursor"] == "a.2"
    assert server.client.get("/tasks", params={"cursor": "zz"}).json() == {"tasks": [], "total": 6, "cursor": None}
    for wrong in ({"limit": 0}, {"limit": 1_001}, {"limit": "x"}, {"cursor": "no name"}, {"cursor": ""}):
        check_problem(server.client.get("/tasks", params=wrong), 422, "invalid_request", next(iter(wrong)))


@pytest.mark.slow
def test_a_server_trims_the_log_while_two_of_them_serve(
    serve: Serve, tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.log_trimmer._INTERVAL_S", 0.05)
    a, b = (serve(bundled=False, max_log_entries=10) for _ in range(2))
    for seed in range(2):
        a.upload("sentiment", make_adapter(tiny, seed=seed))
    for number in range(60):
        at = (a, b)[number % 2]
        at.client.put("/tasks/sentiment/aliases/production", json={"version": 1 + number % 2}).raise_for_status()
    eventually(lambda: len(a.registry.changes()) < 25)
    for server in (a, b):
        eventually(lambda server=server: server.classify("sentiment", "x").json()["version"] == 2)
        history = server.client.get("/tasks/sentiment/history").json()
        assert {entry["action"] for entry in history["entries"]} <= {"published", "alias_set"}
        assert history["complete"]
    assert a.client.post("/tasks/sentiment/rollback", json={}).json()["version"] == 1
