"""Tenants, keys, audit and system in a browser."""

import pytest
from support.console import People, check_accessible, check_fits, reloaded
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, Keyring, bearer


def works(server: RunningServer, key: str) -> bool:
    return server.client.get("/tasks", headers=bearer(key)).status_code == 200


def test_an_operator_makes_a_tenant_with_limits_and_a_key(people: People, server: RunningServer) -> None:
    page = people.open(ADMIN_KEY, "tenants")
    page.get_by_role("link", name="acme", exact=True).wait_for()
    check_accessible(page)
    page.get_by_label("New tenant").fill("Not a name")
    page.get_by_role("button", name="Create").click()
    page.locator(".notice.bad").wait_for()
    page.get_by_label("New tenant").fill("bakery")
    page.get_by_role("button", name="Create").click()
    page.get_by_role("heading", name="bakery", exact=True).wait_for()
    page.get_by_label("requests per s", exact=True).fill("50")
    page.get_by_label("retention days", exact=True).fill("7")
    with reloaded(page):
        page.get_by_role("button", name="Change the limits").click()
    page.get_by_text("The limits have changed.").wait_for()
    info = server.client.get("/admin/tenants/bakery", headers=bearer(ADMIN_KEY)).json()
    assert (info["requests_per_s"], info["retention_days"], info["max_tasks"]) == (50, 7, None)
    page.get_by_label("requests per s", exact=True).fill("many")
    page.get_by_role("button", name="Change the limits").click()
    page.get_by_text("requests_per_s is 'many', expected a number").wait_for()
    page.set_viewport_size({"width": 390, "height": 800})
    check_fits(page)


def test_a_secret_is_shown_once_rotated_and_revoked(people: People, server: RunningServer) -> None:
    Keyring(server).tenant("florist")
    page = people.open(people.key("florist", "admin"), "tenants")
    page.get_by_role("heading", name="florist", exact=True).wait_for()
    assert page.get_by_role("option", name="operator").count() == 0, "no role above one's own"
    page.get_by_label("Role").select_option("classify")
    page.get_by_label("Note").fill("web shop")
    page.get_by_role("button", name="Make a key").click()
    shown = page.locator("#keys .copy code")
    shown.wait_for()
    first = shown.inner_text()
    assert works(server, first)
    check_accessible(page)
    page.reload()
    page.get_by_text("web shop").wait_for()
    assert first not in page.content(), "shown once"
    row = page.get_by_role("listitem").filter(has_text="web shop")
    row.get_by_label("The old secret ends").select_option("0")
    row.get_by_role("button", name="Rotate").click()
    shown.wait_for()
    second = shown.inner_text()
    assert second != first
    assert works(server, second)
    assert not works(server, first)
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("listitem").filter(has_text="web shop").get_by_role("button", name="Revoke").click()
    page.get_by_text("is revoked.").wait_for()
    page.get_by_text("web shop").wait_for(state="detached")
    assert not works(server, second)


def test_an_administrator_sees_no_other_tenant(people: People) -> None:
    page = people.open(people.key("acme", "admin"), "tenants")
    page.get_by_role("heading", name="acme", exact=True).wait_for()
    assert page.get_by_role("button", name="Change the limits").count() == 0
    assert page.request.get("/console/tenants/zeta").status == 404
    assert page.request.get("/console/system").status == 403
    assert page.request.get("/console/live").status == 403
    check_accessible(page)


@pytest.mark.parametrize("role", ["classify", "publish"])
def test_others_have_neither_keys_nor_audit(people: People, role: str) -> None:
    page = people.open(people.key("acme", role))
    for path in ("tenants", "audit", "live", "system"):
        assert page.request.get(f"/console/{path}").status == 403, path
    assert page.get_by_role("navigation").get_by_role("link").count() == (3 if role == "classify" else 4)


def test_the_audit_has_both_logs_in_parts(people: People, server: RunningServer) -> None:
    keyring = Keyring(server)
    for _ in range(60):
        keyring.change("acme", weight=1.0)
    page = people.open(ADMIN_KEY, "audit")
    page.get_by_text("tenant updated").first.wait_for()
    assert page.locator("tbody tr").count() <= 50
    check_accessible(page)
    page.get_by_role("link", name="Earlier").click()
    page.get_by_role("link", name="Later").wait_for()
    page.get_by_role("link", name="Tasks").last.click()
    page.get_by_text("published").first.wait_for()
    check_accessible(page)
    page.set_viewport_size({"width": 390, "height": 800})
    check_fits(page)
    page = people.open(people.key("zeta", "admin"), "audit?log=tasks&since=0")
    page.get_by_text("secret").first.wait_for()
    assert page.get_by_text("sentiment").count() == 0, "a task of another tenant"


def test_the_system_page_shows_state_and_settings_without_secrets(people: People) -> None:
    page = people.open(ADMIN_KEY, "system")
    page.get_by_text("ready", exact=True).wait_for()
    page.get_by_text("SUPERPOS_MAX_BATCH_TOKENS").wait_for()
    page.get_by_text("set, not shown").first.wait_for()
    assert ADMIN_KEY.rpartition("_")[2] not in page.content()
    check_accessible(page)
    page.set_viewport_size({"width": 390, "height": 800})
    check_fits(page)
