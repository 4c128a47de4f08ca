"""Every page of the console, light and dark, wide and on a phone: readable, accessible, without an error."""

from collections.abc import Callable

import pytest
from support.adapters import make_adapter
from support.console import People, check_accessible, check_fits
from support.server import RunningServer
from support.tenancy import ADMIN_KEY

from backbone import Backbone

PAGES = (
    "",
    "score",
    "tasks",
    "tasks/sentiment",
    "tasks/sentiment/versions/1",
    "publish?task=sentiment",
    "queue",
    "queue?task=sentiment",
    "queue?task=sentiment&view=corrections",
    "tenants",
    "audit",
    "audit?log=tasks",
)
OPERATORS = ("tenants", "tenants/acme", "live", "system")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible_and_fit_a_phone(people: People, scheme: str) -> None:
    for key, paths in ((people.key("acme", "admin"), PAGES), (ADMIN_KEY, OPERATORS)):
        page = people.open(key, color_scheme=scheme)
        for path in paths:
            page.set_viewport_size({"width": 1280, "height": 900})
            page.goto(f"/console/{path}")
            page.get_by_role("heading", level=1).first.wait_for()
            check_accessible(page)
            page.set_viewport_size({"width": 390, "height": 800})
            check_fits(page)


def test_pages_work_on_a_server_without_keys(serve: Callable[..., RunningServer], tiny: Backbone) -> None:
    server = serve(bundled=False)
    server.upload("sentiment", make_adapter(tiny))
    for path in {*PAGES, *OPERATORS} - {"queue?task=sentiment&view=corrections", "tenants/acme"}:
        answer = server.client.get(f"/console/{path}")
        assert answer.status_code == 200, path
        assert "sign-in" not in answer.text
    for path in ("tasks/sentiment?before=" + "9" * 5_000, "audit?since=" + "9" * 5_000, "audit?since=-1"):
        assert server.client.get(f"/console/{path}").status_code == 200, path[:30]


def test_a_page_is_used_by_keyboard_from_its_first_link(people: People) -> None:
    page = people.open(people.key("acme", "publish"), "tasks")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Publish an adapter"
