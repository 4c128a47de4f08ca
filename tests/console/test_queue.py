"""The label queue in a browser: labels by keyboard, second thoughts, and corrections deleted."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page
from support.console import People, check_accessible, check_fits
from support.server import RunningServer
from support.tenancy import Keyring, bearer
from support.waiting import eventually

TEXTS = [f"a film of the kind {word}" for word in ("quick", "wet", "brown", "world", "news")]


@pytest.fixture
def kept(server: RunningServer) -> Iterator[str]:
    """A key of a tenant that keeps five answers of `sentiment` and two of the multi-label task `topic`."""
    key = Keyring(server).key("acme", "publish")
    for task, texts in (("sentiment", TEXTS), ("topic", TEXTS[:2])):
        server.client.post(f"/classify/{task}", json={"inputs": texts}, headers=bearer(key)).raise_for_status()
    eventually(lambda: rows(server, key, "least_confident") == len(TEXTS))
    yield key
    server.client.delete("/feedback?all=true", headers=bearer(key)).raise_for_status()


def rows(server: RunningServer, key: str, view: str, task: str = "sentiment") -> int:
    listed = server.client.get(f"/tasks/{task}/feedback", headers=bearer(key)).raise_for_status().json()
    return int(listed["counts"][view])


def text(page: Page) -> str:
    return page.locator("[data-keys] .text").inner_text()


def press(page: Page, key: str) -> None:
    """Press a key once the card has the focus."""
    page.locator("[data-keys]:focus").wait_for()
    page.keyboard.press(key)


def test_texts_are_labelled_by_keyboard(people: People, kept: str, server: RunningServer) -> None:
    page = people.open(people.key("acme", "publish"), "queue")
    page.get_by_label("Search by name").fill("sent")
    page.get_by_role("link", name="sentiment").click()
    page.get_by_role("heading", name="What is this text?").wait_for()
    check_accessible(page)
    first = text(page)
    press(page, "1")
    page.get_by_text("Labelled negative.").wait_for()
    assert text(page) != first
    assert page.get_by_role("link", name="Least confident").inner_text().endswith("4")
    press(page, "u")
    page.wait_for_function("text => document.querySelector('[data-keys] .text')?.innerText === text", arg=first)
    press(page, "2")
    page.get_by_text("Labelled positive.").wait_for()
    second = text(page)
    press(page, "s")
    page.wait_for_function("text => document.querySelector('[data-keys] .text')?.innerText !== text", arg=second)
    press(page, "Enter")  # the answer is right
    page.get_by_role("link", name="All corrections").get_by_text("2").wait_for()
    assert rows(server, kept, "least_confident") == 3
    page.get_by_role("link", name="All corrections").click()
    page.get_by_text(first).wait_for()
    check_accessible(page)
    page.set_viewport_size({"width": 390, "height": 800})
    check_fits(page)
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("listitem").filter(has_text=first).get_by_role("button", name="Delete").click()
    page.get_by_text("Deleted: the correction and its text.").wait_for()
    page.get_by_text(first).wait_for(state="detached")
    assert rows(server, kept, "corrections") == 1


def test_keys_act_on_the_card_alone(people: People, kept: str, server: RunningServer) -> None:
    page = people.open(people.key("acme", "publish"), "queue?task=sentiment")
    page.get_by_role("heading", name="What is this text?").wait_for()
    page.get_by_role("link", name="Playground").focus()
    page.keyboard.press("1")
    assert rows(server, kept, "corrections") == 0


def test_a_text_may_have_several_labels_or_none(people: People, kept: str, server: RunningServer) -> None:
    page = people.open(people.key("acme", "admin"), "queue?task=topic")
    for box in page.get_by_role("checkbox").all():
        box.uncheck()
    page.get_by_role("button", name="Keep these").click()
    page.get_by_text("Labelled no label.").wait_for()
    for box in page.get_by_role("checkbox").all():
        box.check()
    page.get_by_role("button", name="Keep these").click()
    page.get_by_text("Labelled world, sports, business.").wait_for()
    page.get_by_text("Nothing more in this order").wait_for()
    assert rows(server, kept, "corrections", "topic") == 2


def test_a_tenant_that_keeps_no_texts_is_told_how(people: People, server: RunningServer) -> None:
    Keyring(server).tenant("forgetful")
    page = people.open(people.key("forgetful", "publish"), "queue")
    page.get_by_text("superpos tenant update forgetful --retention-days 30").wait_for()
    check_accessible(page)


def test_another_tenants_queue_is_not_found(people: People, kept: str) -> None:
    page = people.open(people.key("zeta", "admin"), "queue")
    assert page.get_by_role("link", name="sentiment").count() == 0
    for path in ("queue?task=sentiment", "queue/row?task=sentiment&view=least_confident"):
        assert page.request.get(f"/console/{path}").status == 404, path


def test_a_reader_has_no_queue(people: People, server: RunningServer) -> None:
    page = people.open(people.key("acme", "classify"))
    assert page.get_by_role("link", name="Label queue").count() == 0
    assert page.request.get("/console/queue").status == 403
