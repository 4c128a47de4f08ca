"""The page of a task in a browser: versions compared, traffic changed after a sentence, uploads, trainings."""

from pathlib import Path

import pytest
from support.adapters import edited, make_adapter
from support.console import People, check_accessible, check_fits, reloaded
from support.jobs import labelled, trainer_process
from support.reports import with_report
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, Keyring, bearer
from support.waiting import eventually

from adapters.files import CONFIG, MANIFEST, to_files
from backbone import Backbone


@pytest.fixture
def mails(server: RunningServer, tiny: Backbone) -> str:
    """A key with the role publish, of a tenant with a new task `mails` of three versions; the second serves."""
    keyring = Keyring(server)
    key = keyring.key("acme", "publish")
    for seed, score, form in ((21, 0.75, {}), (22, 0.85, {}), (23, 0.80, {"alias": ""})):
        server.upload("mails", with_report(make_adapter(tiny, seed=seed), score=score), key=key, **form)
    body = {"version": 2}
    server.client.put("/tasks/mails/aliases/production", json=body, headers=bearer(key)).raise_for_status()
    server.client.delete("/tasks/mails/traffic", headers=bearer(key)).raise_for_status()
    return key


def state(server: RunningServer, key: str, task: str = "mails") -> tuple[object, dict[str, object]]:
    info = server.client.get(f"/tasks/{task}", headers=bearer(key)).json()
    return info["aliases"].get("production"), info["traffic"]


def test_versions_are_compared_with_their_intervals(people: People, mails: str) -> None:
    page = people.open(people.key("acme", "classify"), "tasks/mails")
    page.locator("[name=first]").select_option("2")
    page.locator("[name=second]").select_option("1")
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("Version 2 scores higher, and the 95 % intervals do not overlap.").wait_for()
    page.get_by_text("figures of the cards").click()
    page.get_by_role("rowheader", name="report macro f1").wait_for()
    assert page.get_by_role("button", name="Roll back").count() == 0, "a reader changes nothing"
    check_accessible(page)


def test_traffic_changes_only_after_a_sentence_says_how(people: People, mails: str, server: RunningServer) -> None:
    page = people.open(people.key("acme", "publish"), "tasks/mails")
    page.get_by_label("Canary").select_option("3")
    page.get_by_label("Percent of the requests").fill("10")
    page.get_by_label("Shadow").select_option("1")
    page.get_by_role("button", name="Change canary and shadow").click()
    page.get_by_text("Version 3 will answer 10 % of the requests for mails, and version 2 the other 90 %.").wait_for()
    page.get_by_text("Version 1 will compute every row as a shadow").wait_for()
    assert state(server, mails) == (2, {"canary": None, "percent": 0.0, "shadow": None})
    check_accessible(page)
    page.get_by_role("button", name="Leave it as it is").click()
    assert page.get_by_role("button", name="Confirm").count() == 0
    page.get_by_role("button", name="Change canary and shadow").click()
    with reloaded(page):
        page.get_by_role("button", name="Confirm").click()
    page.get_by_text("The traffic has changed.").wait_for()
    page.get_by_text("version 3, 10 %").wait_for()
    assert state(server, mails) == (2, {"canary": 3, "percent": 10.0, "shadow": 1})

    page.locator("#promote").select_option("3")
    page.get_by_role("button", name="Put in production").click()
    page.get_by_text("Version 3 will answer the requests for mails instead of version 2.").wait_for()
    page.get_by_text("It stops being the canary.").wait_for()
    page.get_by_role("button", name="Confirm").click()
    page.locator(".notice.bad", has_text="promotion_refused").wait_for()  # 0.80 against 0.85
    page.get_by_label("do not compare the metric").check()
    page.get_by_role("button", name="Put in production").click()
    page.get_by_text("Its metric is not compared").wait_for()
    with reloaded(page):
        page.get_by_role("button", name="Confirm").click()
    page.get_by_text("Version 3 is in production.").wait_for()
    assert state(server, mails)[0] == 3

    page.get_by_role("button", name="Roll back").click()
    page.get_by_text("Version 2 will answer the requests for mails again, instead of version 3.").wait_for()
    with reloaded(page):
        page.get_by_role("button", name="Confirm").click()
    page.get_by_text("Version 2 is in production again.").wait_for()
    assert state(server, mails)[0] == 2


def test_a_change_that_somebody_overtook_is_refused(people: People, mails: str, server: RunningServer) -> None:
    page = people.open(people.key("acme", "admin"), "tasks/mails")
    page.get_by_label("Canary").select_option("3")
    page.get_by_label("Percent of the requests").fill("5")
    page.get_by_role("button", name="Change canary and shadow").click()
    page.get_by_role("button", name="Confirm").wait_for()
    body = {"canary": 1, "percent": 50}
    server.client.put("/tasks/mails/traffic", json=body, headers=bearer(mails)).raise_for_status()
    page.get_by_role("button", name="Confirm").click()
    page.get_by_text("Somebody changed this in the meantime.").wait_for()
    assert state(server, mails)[1]["canary"] == 1
    page.get_by_label("Percent of the requests").fill("many")
    page.get_by_role("button", name="Change canary and shadow").click()
    page.get_by_text("percent is 'many', expected a number from 0 to 100").wait_for()


def test_a_version_shows_its_card_and_report(people: People, server: RunningServer, tiny: Backbone, mails: str) -> None:
    files = to_files(
        with_report(make_adapter(tiny, seed=31), score=0.9),
        card="---\nlicense: mit\n---\n# A card\n\n<b>bold</b> text\n",
    )
    parts = [("files", item) for item in files.items()]
    form = {"alias": ""}
    answer = server.client.post("/tasks/mails/versions", files=parts, data=form, headers=bearer(mails))
    number = answer.raise_for_status().json()["version"]
    page = people.open(people.key("acme", "publish"), f"tasks/mails/versions/{number}")
    page.get_by_role("heading", name="A card", level=3).wait_for()
    assert page.locator(".rendered").inner_text().endswith("<b>bold</b> text")
    assert "license: mit" not in page.inner_text("main")
    page.get_by_role("rowheader", name="TF-IDF + logistic regression").wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name=MANIFEST).click()
    assert Path(download.value.path()).read_bytes() == files[MANIFEST]
    check_accessible(page)
    page.set_viewport_size({"width": 390, "height": 800})
    check_fits(page)
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete this version").click()
    page.get_by_role("heading", name="mails", exact=True).wait_for()
    assert server.client.get(f"/tasks/mails/versions/{number}", headers=bearer(mails)).status_code == 404


def test_the_history_says_who_changed_what_and_when(people: People, mails: str, server: RunningServer) -> None:
    server.client.put(
        "/tasks/mails/traffic", json={"canary": 3, "percent": 10}, headers=bearer(mails)
    ).raise_for_status()
    page = people.open(mails, "tasks/mails")
    page.get_by_role("button", name="Who changed what, and when").click()
    rows = page.locator("#changes tbody tr")
    rows.first.wait_for()
    latest = rows.nth(0).inner_text()
    key_id = mails.split("_")[1]
    assert "canary 3: 10 %" in latest
    assert f"key:{key_id}" in latest
    assert any("version 2 as production" in text for text in rows.all_inner_texts())
    check_accessible(page)
    page.set_viewport_size({"width": 390, "height": 800})
    check_fits(page)
    reader = people.open(people.key("acme", "classify"), "tasks/mails")
    assert reader.get_by_role("button", name="Who changed what").count() == 0
    assert reader.request.get("/console/tasks/mails/history").status == 403


def test_an_adapter_is_dropped_and_each_check_reported(
    people: People, server: RunningServer, tiny: Backbone, tmp_path: Path
) -> None:
    page = people.open(people.key("acme", "publish"), "publish")
    page.get_by_label("Name of the task").fill("Not a name")
    page.get_by_role("button", name="Continue").click()
    page.get_by_text("expected 1 to 64 of a-z").wait_for()
    page.get_by_label("Name of the task").fill("dropped")
    page.get_by_role("button", name="Continue").click()
    good = to_files(make_adapter(tiny, seed=41))
    bad = edited(good, MANIFEST, lambda value: value["backbone"].update(fingerprint="sha256:" + "0" * 64))
    bad = edited(bad, CONFIG, lambda value: value.update(peft_type="LORA"))
    drop(page, bad)
    page.get_by_role("button", name="Publish").click()
    page.get_by_text("Refused, and nothing was stored.").wait_for()
    failed = page.locator(".checks .failed")
    assert failed.count() == 2
    assert "peft_type" in failed.nth(0).inner_text()
    assert "backbone" in failed.nth(1).inner_text().lower()
    assert page.locator(".checks .passed").count() == 2
    page.get_by_text("not checked: it needs the others").wait_for()
    check_accessible(page)
    drop(page, good)
    page.get_by_label("It becomes").select_option("production")
    page.get_by_role("button", name="Publish").click()
    page.get_by_text("Published as").wait_for()
    assert page.locator(".checks .passed").count() == 5
    page.get_by_role("link", name="Show the task").click()
    page.get_by_role("heading", name="dropped", exact=True).wait_for()
    assert state(server, people.key("acme", "publish"), "dropped")[0] == 1


def drop(page: object, files: dict[str, bytes]) -> None:
    """Drop files on the form, as a hand does."""
    transfer = page.evaluate_handle(
        """files => {
          const transfer = new DataTransfer();
          for (const [name, bytes] of files) transfer.items.add(new File([new Uint8Array(bytes)], name));
          return transfer;
        }""",
        [[name, list(data)] for name, data in files.items()],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    page.wait_for_function(f"document.querySelector('#files').files.length === {len(files)}")


def test_confidence_now_stands_next_to_that_of_the_held_out_rows(
    people: People, mails: str, server: RunningServer
) -> None:
    texts = [f"a film {number}" for number in range(220)]
    server.client.post("/classify/mails", json={"inputs": texts}, headers=bearer(mails)).raise_for_status()
    page = people.open(people.key("acme", "classify"), "tasks/mails")
    page.get_by_text("220 rows since").wait_for()
    page.get_by_text("As numbers").click()
    assert page.locator("svg.histogram rect").count() == 20
    check_accessible(page)


def test_shadow_flips_are_listed(people: People, mails: str, server: RunningServer) -> None:
    server.client.put("/tasks/mails/traffic", json={"shadow": 3}, headers=bearer(mails)).raise_for_status()
    texts = [f"the {word} film {number}" for number in range(40) for word in ("quick", "wet", "business")]
    server.client.post("/classify/mails", json={"inputs": texts}, headers=bearer(mails)).raise_for_status()
    url = "/tasks/mails"
    eventually(lambda: server.client.get(url, headers=bearer(mails)).json()["shadows"] != [])
    page = people.open(people.key("acme", "classify"), "tasks/mails")
    page.get_by_role("heading", name="Version 3 instead of 2").wait_for()
    page.get_by_text("with the same answer").wait_for()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_training_on_corrections_becomes_a_version(
    people: People, mails: str, server: RunningServer, tiny_t5: Path, tmp_path: Path
) -> None:
    page = people.open(people.key("acme", "publish"), "tasks/mails")
    page.get_by_text("There is no correction yet.").wait_for()
    for row in labelled(24):
        body = {"task": "mails", "input": row["input"], "label": row["label"]}
        server.client.post("/feedback", json=body, headers=bearer(mails)).raise_for_status()
    page.reload()
    page.get_by_label("Train on the corrections since").select_option("0")
    with reloaded(page):
        page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_text("Queued: a training on 24 corrections.").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("cancelled", exact=True).wait_for()
    page.get_by_label("Train on the corrections since").select_option("0")
    page.locator("[name=method]").select_option("head")
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_role("button", name="Cancel").wait_for()
    with trainer_process(tiny_t5, str(server.settings.registry), tmp_path / "trainer"):
        page.get_by_text("succeeded", exact=True).wait_for(timeout=240_000)
    page.locator(".job").get_by_role("link", name="version").click()
    page.get_by_role("heading", name="Training report").wait_for()
    page.go_back()
    page.locator("svg.curve").first.wait_for()
    assert state(server, mails)[0] == 2, "not in production by itself"
    check_accessible(page)
    server.client.delete("/feedback?all=true", headers=bearer(mails)).raise_for_status()


def test_another_tenants_task_is_not_found(people: People, mails: str) -> None:
    page = people.stranger()
    page.goto("/console/sign-in?next=/console/")
    page.get_by_label("API key").fill(people.key("zeta", "admin"))
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()
    for path in (
        "tasks/mails",
        "tasks/mails/versions/1",
        "tasks/mails/compare?first=1&second=2",
        "tasks/nothing",
        "tasks/mails/history",
    ):
        answer = page.request.get(f"/console/{path}")
        assert answer.status == 404, path
        assert "no task" in answer.text()


def test_an_operator_sees_the_default_tenant(people: People) -> None:
    page = people.open(ADMIN_KEY, "tasks")
    page.get_by_role("heading", name="There is no task yet").wait_for()
