"""`GET /tasks/{task}/history`: who did what to one task, in parts, and nothing of anybody else's."""

from collections.abc import Callable

import pytest
from support.adapters import make_adapter
from support.http import check_problem
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, Keyring, bearer

from adapters import Traffic
from adapters.files import to_files
from backbone import Backbone

Serve = Callable[..., RunningServer]


@pytest.fixture
def server(place: str, serve: Serve) -> RunningServer:
    """A server with keys."""
    return serve(registry=place, require_keys=True, admin_key=ADMIN_KEY)


@pytest.mark.slow
def test_a_tasks_history_tells_who_did_what_and_when(server: RunningServer, tiny: Backbone) -> None:
    keyring, client = Keyring(server), server.client
    writers = {}
    for tenant in ("acme", "zeta"):
        keyring.tenant(tenant)
        writers[tenant] = keyring.key(tenant, "publish")
    adapters = [make_adapter(tiny, seed=seed) for seed in range(2)]
    for tenant, task in (("acme", "sst2"), ("zeta", "sst2"), ("acme", "topic")):
        for adapter in adapters:
            parts = [("files", (name, data)) for name, data in to_files(adapter).items()]
            client.post(f"/tasks/{task}/versions", files=parts, headers=bearer(writers[tenant])).raise_for_status()
    # what another process does to the registry is in it too
    server.registry.set_traffic("acme", "sst2", Traffic(canary=1, percent=5), actor="cli")
    ours = bearer(writers["acme"])
    client.delete("/tasks/sst2/traffic", headers=ours).raise_for_status()
    client.put("/tasks/sst2/aliases/blue", json={"version": 1}, headers=ours).raise_for_status()
    client.delete("/tasks/sst2/aliases/blue", headers=ours).raise_for_status()
    client.delete("/tasks/sst2/versions/1", headers=ours).raise_for_status()

    whole = client.get("/tasks/sst2/history", headers=ours).raise_for_status().json()
    writer = f"key:{writers['acme'].split('_')[1]}"
    first, second = (adapter.digest for adapter in adapters)
    told = [(e["actor"], e["action"], e["version"], e["adapter"], e["alias"]) for e in whole["entries"]]
    assert told == [
        (writer, "published", 1, first, None),
        (writer, "alias_set", 1, first, "production"),
        (writer, "published", 2, second, None),
        (writer, "alias_set", 2, second, "production"),
        ("cli", "traffic_set", None, None, None),
        (writer, "traffic_set", None, None, None),
        (writer, "alias_set", 1, first, "blue"),
        (writer, "alias_deleted", 1, first, "blue"),
        (writer, "version_deleted", 1, first, None),
    ]
    assert [e["traffic"] and e["traffic"]["canary"] for e in whole["entries"][4:6]] == [1, None]
    assert {(e["tenant"], e["task"]) for e in whole["entries"]} == {("acme", "sst2")}
    assert whole["complete"] is True

    found, since = [], 0
    while True:
        query = {"since": since, "limit": 2}
        part = client.get("/tasks/sst2/history", params=query, headers=ours).raise_for_status().json()
        found += part["entries"]
        since = part["position"]
        if part["complete"]:
            break
    assert found == whole["entries"]
    audit = client.get("/admin/audit/tasks?limit=1000", headers=bearer(ADMIN_KEY)).raise_for_status().json()
    assert [e for e in audit["entries"] if (e["tenant"], e["task"]) == ("acme", "sst2")] == found


@pytest.mark.slow
def test_a_history_of_nothing_is_not_found_and_a_bad_question_refused(server: RunningServer) -> None:
    admin = bearer(ADMIN_KEY)
    check_problem(server.client.get("/tasks/nothing/history", headers=admin), 404, "not_found", "no task 'nothing'")
    for query in ("limit=0", "limit=1001", "since=-1", "since=x"):
        check_problem(server.client.get(f"/tasks/sst2/history?{query}", headers=admin), 422, "invalid_request")
