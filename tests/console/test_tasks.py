"""The list of tasks in a browser: search, parts, what the cards say, and how long a long list takes."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.adapters import make_adapter
from support.console import People, check_accessible, check_fits
from support.reports import with_report
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, Keyring, bearer

from adapters import PromptAdapter
from adapters.files import to_files
from backbone import Backbone
from benchmarks.console import fill
from service.console.views.tasks import PAGE_SIZE


@pytest.fixture(scope="module")
def scored(server: RunningServer, tiny: Backbone) -> RunningServer:
    """The server with a task whose card has a score and baselines, and with a canary."""
    key = Keyring(server).key("acme", "publish")
    for seed, score in ((11, 0.81), (12, 0.85)):
        server.upload("mails", with_report(make_adapter(tiny, seed=seed), score=score), key=key)
    body = {"canary": 1, "percent": 10}
    server.client.put("/tasks/mails/traffic", json=body, headers=bearer(key)).raise_for_status()
    return server


@pytest.mark.parametrize("role", ["classify", "publish", "admin"])
def test_the_table_says_what_answers_and_how_well(people: People, scored: RunningServer, role: str) -> None:
    page = people.open(people.key("acme", role), "tasks")
    row = page.get_by_role("row", name="mails")
    text = row.inner_text()
    for part in ("version 2", "canary 1: 10 %", "0.850", "accuracy", "constant answer 0.600", "by key:"):
        assert part in text, f"{part}: {text}"
    assert page.get_by_role("row", name="sentiment").inner_text().count("not recorded") == 1
    assert page.get_by_role("link", name="Publish an adapter").count() == (role != "classify")
    assert page.get_by_text("secret").count() == 0, "a task of another tenant"
    check_accessible(page)
    page.set_viewport_size({"width": 390, "height": 800})
    check_fits(page)


def test_the_search_is_the_servers(people: People, scored: RunningServer) -> None:
    page = people.open(people.key("acme", "classify"), "tasks")
    page.get_by_label("Search by name").fill("mai")
    page.get_by_text("1 task with “mai” in the name").wait_for()
    assert page.locator("#list tbody tr").count() == 1
    page.get_by_label("Search by name").fill("secret")
    page.get_by_text("No task's name contains “secret”.").wait_for()
    page.get_by_label("Search by name").fill("")
    page.get_by_role("link", name="mails").click()
    page.get_by_role("heading", name="mails", exact=True).wait_for()


def test_a_tenant_without_tasks_is_shown_how_to_make_one(people: People, server: RunningServer) -> None:
    Keyring(server).tenant("empty")
    page = people.open(people.key("empty", "publish"), "tasks")
    page.get_by_text("superpos task init mails.csv").wait_for()
    check_accessible(page)
    page = people.open(people.key("empty", "classify"), "tasks")
    page.get_by_text("your key cannot publish one").wait_for()


def scored_adapter(backbone: Backbone, seed: int) -> PromptAdapter:
    return with_report(make_adapter(backbone, seed=seed), score=0.9)


@pytest.mark.slow
def test_the_first_part_of_ten_thousand_tasks_comes_within_300_ms(
    serve: Callable[..., RunningServer], tiny: Backbone, tmp_path: Path
) -> None:
    # each task of the first part has another card to read
    uploads = [to_files(scored_adapter(tiny, number)) for number in range(PAGE_SIZE)]
    fill(tmp_path / "registry.sqlite", uploads, 10_000)
    server = serve(require_keys=True, admin_key=ADMIN_KEY, bundled=False)
    same_origin = {"Sec-Fetch-Site": "same-origin"}
    signed_in = server.client.post("/console/sign-in", data={"key": ADMIN_KEY}, headers=same_origin)
    assert signed_in.status_code == 303
    began = time.perf_counter()
    page = server.client.get("/console/tasks")
    elapsed_s = time.perf_counter() - began
    assert "10,000 tasks" in page.text
    assert page.text.count("0.900") == PAGE_SIZE
    assert elapsed_s < 0.3, f"{elapsed_s:.3f} s"
