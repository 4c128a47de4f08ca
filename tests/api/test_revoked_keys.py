"""A revoked key of the settings, on a real server that starts again."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.http import check_problem
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, Keyring, bearer

from service.tenancy.api_keys import ApiKey

Serve = Callable[..., RunningServer]


@pytest.mark.slow
def test_a_revoked_key_of_the_settings_does_not_work_again_after_a_restart(
    place: str, serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(registry=place, require_keys=True, admin_key=ADMIN_KEY)
    other = Keyring(server).key("default", "operator")
    path = f"/admin/tenants/default/keys/{ADMIN_KEY.split('_')[1]}"
    assert server.client.delete(path, headers=bearer(other)).status_code == 204
    for key in (ADMIN_KEY, ApiKey.new(ADMIN_KEY.split("_")[1]).text):
        caplog.clear()
        (tmp_path / "key").write_text(key, encoding="utf-8")
        again = serve(registry=place, require_keys=True, admin_key_file=tmp_path / "key")
        check_problem(again.client.get("/tasks", headers=bearer(key)), 401, "unauthenticated")
        assert again.client.get("/admin/tenants", headers=bearer(other)).status_code == 200
        logged = "".join(record.getMessage() for record in caplog.records)
        assert "admin_key_refused" in logged
        assert "a revoked id stays revoked" in logged
        assert key not in logged
    # the tenant's name and its keys, deleted, stay so as well
    assert again.client.post("/admin/tenants", json={"id": "acme"}, headers=bearer(other)).status_code == 201
    made = again.client.post("/admin/tenants/acme/keys", json={}, headers=bearer(other)).json()["key"]
    assert again.client.delete("/admin/tenants/acme", headers=bearer(other)).status_code == 204
    third = serve(registry=place, require_keys=True, admin_key=made)
    check_problem(third.client.get("/tasks", headers=bearer(made)), 401, "unauthenticated")
    answer = third.client.post("/admin/tenants", json={"id": "acme"}, headers=bearer(other))
    check_problem(answer, 409, "conflict", "was deleted, and its name cannot be used again")
    assert server.client.get("/tasks", headers=bearer(ADMIN_KEY)).status_code == 401
