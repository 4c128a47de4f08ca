"""Every page of the console, light and dark, wide and on a phone: readable, accessible, without an error."""

import pytest
from support.console import People, check_accessible, check_fits
from support.tenancy import ADMIN_KEY

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


def test_a_page_is_used_by_keyboard_from_its_first_link(people: People) -> None:
    page = people.open(people.key("acme", "publish"), "tasks")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Publish an adapter"
