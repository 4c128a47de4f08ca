"""The playground in a browser: tasks side by side, versions compared, code to copy, corrections."""

from support.console import People, check_accessible, check_fits
from support.server import RunningServer
from support.tenancy import bearer


def test_two_tasks_and_a_version_answer_one_text(people: People) -> None:
    page = people.open(people.key("acme", "classify"), "?task=sentiment")
    page.get_by_label("text", exact=True).fill("a gripping film")
    page.get_by_text("Add a task or a version").click()
    page.get_by_label("Search by name").fill("sent")
    page.get_by_role("button", name="sentiment version 1").click()
    page.get_by_role("button", name="Remove sentiment@1").wait_for()  # the search has been loaded again
    page.get_by_label("Search by name").fill("topic")
    page.get_by_role("button", name="topic", exact=True).click()
    page.get_by_role("button", name="Remove topic").wait_for()
    assert page.get_by_label("text", exact=True).input_value() == "a gripping film", "typed texts stay"
    assert page.url.endswith("?task=sentiment&task=sentiment%401&task=topic"), "and not in the address"
    page.get_by_label("text", exact=True).press("Control+Enter")
    page.get_by_role("region", name="Answer of sentiment@1").wait_for()
    assert page.locator(".result").count() == 3
    page.get_by_role("heading", name="sentiment: 2 against 1").wait_for()
    page.get_by_text("Copy as curl").click()
    assert '"inputs": ["a gripping film"]' in page.locator(".copy code").first.text_content()
    page.get_by_role("button", name="Remove topic").click()
    page.get_by_role("button", name="Remove topic").wait_for(state="detached")
    check_accessible(page)
    page.set_viewport_size({"width": 390, "height": 800})
    check_fits(page)


def test_a_task_with_two_fields_has_two_text_areas(people: People) -> None:
    page = people.open(people.key("acme", "classify"), "?task=pair")
    areas = page.locator("textarea")
    assert areas.count() == 2
    for index in range(2):
        areas.nth(index).fill(f"sentence {index}")
    page.get_by_role("button", name="Classify").click()
    page.get_by_role("region", name="Answer of pair").wait_for()


def test_a_wrong_answer_is_corrected_with_one_click(people: People, server: RunningServer) -> None:
    page = people.open(people.key("acme", "classify"), "?task=sentiment")
    page.get_by_label("text", exact=True).fill("flat and overlong")
    page.get_by_role("button", name="Classify").click()
    page.get_by_text("Wrong? Say what it is").click()
    page.get_by_label("It is").select_option("negative")
    page.get_by_role("button", name="Keep the correction").click()
    page.get_by_text("Kept: the text is negative.").wait_for()
    publisher = bearer(people.key("acme", "publish"))
    listed = server.client.get("/tasks/sentiment/feedback?view=corrections", headers=publisher).json()["rows"]
    assert [list(row["input"].values()) for row in listed] == [["flat and overlong"]]
    server.client.delete("/feedback?all=true", headers=publisher).raise_for_status()


def test_another_tenants_task_does_not_exist_here(people: People) -> None:
    page = people.open(people.key("acme", "classify"), "?task=secret")
    page.get_by_text("no task 'secret'").wait_for()
    page.get_by_text("Add a task or a version").click()
    page.get_by_label("Search by name").fill("secret")
    page.get_by_text("No task's name contains “secret”.").wait_for()


def test_a_refusal_is_said_in_the_page(people: People) -> None:
    page = people.open(people.key("acme", "classify"), "?task=sentiment")
    page.get_by_label("text", exact=True).fill("long " * 2_000)
    page.get_by_role("button", name="Classify").click()
    page.locator(".result .error").wait_for()
    page.get_by_label("Too long a text").select_option("end")
    page.get_by_role("button", name="Classify").click()
    page.get_by_text("tokens cut").wait_for()
