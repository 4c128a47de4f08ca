"""A file scored in a browser: preview, columns, progress, download, comparison with labels, and refusals."""

import csv
import json
import re
import tempfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from playwright.sync_api import Page
from support.console import People, check_accessible, check_fits
from support.server import RunningServer
from support.tenancy import bearer
from support.waiting import eventually

from service.console.file_scoring import MAX_ROWS, MAX_RUNS, MAX_RUNS_PER_TENANT

WORDS = ("quick", "wet", "brown", "world", "news", "gripping")


def choose(page: Page, path: Path, task: str) -> None:
    page.get_by_role("combobox", name="Task").fill(task)
    page.locator("#file").set_input_files(path)
    page.get_by_role("button", name="Preview").click()


def labelled_csv(folder: Path, number: int) -> Path:
    path = folder / "mails.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "body", "label"])
        for index in range(number):
            word = WORDS[index % len(WORDS)]
            rows.writerow([index, f'a "{word}", film {index}', ("negative", "positive")[index % 2]])
    return path


@pytest.mark.parametrize("role", ["classify", "admin"])
def test_a_thousand_rows_are_scored_compared_and_downloaded(
    people: People, server: RunningServer, tmp_path: Path, role: str
) -> None:
    number = 1_000 if role == "classify" else 12
    page = people.open(people.key("acme", role), "score")
    check_accessible(page)
    choose(page, labelled_csv(tmp_path, number), "sentiment")
    page.get_by_role("heading", name=f"{number:,} rows, 3 columns").wait_for()
    assert page.get_by_label("is in", exact=False).first.input_value() == "body", "the column with the longest texts"
    assert page.get_by_label("The right labels are in").input_value() == "label"
    check_accessible(page)
    page.get_by_label("also write the probability").check()
    page.get_by_role("button", name="Score with sentiment@2").click()
    page.get_by_role("heading", name=f"{number:,} rows scored by version 2").wait_for(timeout=120_000)
    page.get_by_text("Compared with the labels").wait_for()
    page.get_by_role("heading", name="By label").wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download scored.csv").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text(encoding="utf-8").splitlines()))
    assert len(rows) == number
    assert {"predicted_label", "predicted_score", "predicted_scores", "label"} <= set(rows[0])
    key = people.key("acme", "classify")
    body = {"inputs": [rows[7]["body"]]}
    answer = server.client.post("/classify/sentiment", json=body, headers=bearer(key)).json()["predictions"][0]
    assert rows[7]["predicted_label"] == answer["label"]
    assert float(rows[7]["predicted_score"]) == pytest.approx(answer["score"], abs=1e-5)
    check_accessible(page)
    page.set_viewport_size({"width": 390, "height": 800})
    check_fits(page)


def test_lines_with_two_fields_and_a_row_that_cannot_be_answered(people: People, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"a": f"one {index}", "b": f"two {index}"} for index in range(5)] + [{"a": "no second"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    page = people.open(people.key("acme", "publish"), "score?task=pair")
    choose(page, path, "pair")
    page.get_by_label("premise is in").select_option("a")
    page.get_by_label("hypothesis is in").select_option("b")
    page.get_by_role("button", name="Score with").click()
    page.get_by_text("1 row without an answer").wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download rejected.jsonl").click()
    [line] = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert "the row has no column 'b'" in line or "column 'b' has no value" in line


def test_parquet_is_read_in_a_process_of_its_own(people: People, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": [f"film {word}" for word in WORDS]}), path)
    page = people.open(people.key("acme", "classify"), "score")
    choose(page, path, "sentiment")
    page.get_by_role("button", name="Score with").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download scored.jsonl").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == [f"film {word}" for word in WORDS]
    path.write_bytes(b"PAR1 nothing of it")
    choose(page, path, "sentiment")
    page.get_by_text("not a Parquet file that the console can read").wait_for()


def test_a_small_parquet_file_of_gigabytes_is_refused(people: People, tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    text = pyarrow.array(["x" * 4_000_000] * 64)
    pyarrow.parquet.write_table(pyarrow.table({"text": text}), path, compression="zstd", use_dictionary=True)
    assert path.stat().st_size < 1 << 20
    page = people.open(people.key("acme", "classify"), "score")
    choose(page, path, "sentiment")
    page.get_by_text("its rows take more than 64 MiB as text").wait_for()


def test_what_cannot_be_scored_is_refused_with_the_reason(people: People, tmp_path: Path) -> None:
    page = people.open(people.key("acme", "classify"), "score")
    path = tmp_path / "notes.txt"
    path.write_text("text\n", encoding="utf-8")
    choose(page, path, "sentiment")
    page.get_by_text("the file's name ends with '.txt', expected .csv").wait_for()
    good = labelled_csv(tmp_path, 3)
    choose(page, good, "secret")
    page.get_by_text("no task 'secret'").wait_for()
    many = tmp_path / "many.csv"
    many.write_text("text\n" + "a film\n" * (MAX_ROWS + 1), encoding="utf-8")
    choose(page, many, "sentiment")
    page.get_by_text(f"the console scores at most {MAX_ROWS:,}").wait_for()
    choose(page, good, "sentiment")
    page.get_by_label("Values that are not labels' names").fill("1 positive")
    page.get_by_role("button", name="Score with").click()
    page.get_by_text("'1 positive' is not a pair, expected value=label").wait_for()
    page.get_by_label("Values that are not labels' names").fill("")
    page.get_by_label("The right labels are in").select_option("id")
    page.get_by_role("button", name="Score with").click()
    page.get_by_text("no row has a label to compare").wait_for()


def test_a_process_scores_few_files_at_once(people: People, server: RunningServer, tmp_path: Path) -> None:
    path = labelled_csv(tmp_path, 3_000)
    pages = [people.open(people.key("acme", "classify"), "score") for _ in range(MAX_RUNS_PER_TENANT + 1)]
    for page in pages:
        choose(page, path, "sentiment")
        page.get_by_role("button", name="Score with").wait_for()
    for page in pages:
        page.get_by_role("button", name="Score with").click()
        page.locator("[data-progress] span").filter(has_text=re.compile("rows|tenant")).wait_for()
    pages[-1].get_by_text(f"at most {MAX_RUNS_PER_TENANT} and {MAX_RUNS} may be: try again").wait_for()
    for page in pages[:-1]:
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("stopped", exact=True).wait_for()


def test_a_stopped_run_leaves_nothing_behind(people: People, server: RunningServer, tmp_path: Path) -> None:
    before = set(Path(tempfile.gettempdir()).glob("superpos-score-*"))
    page = people.open(people.key("acme", "classify"), "score")
    choose(page, labelled_csv(tmp_path, 5_000), "sentiment")
    page.get_by_role("button", name="Score with").click()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("stopped", exact=True).wait_for()
    page.get_by_role("button", name="Score with").wait_for()
    eventually(lambda: server.client.get("/healthz/ready").json()["queued_rows"] == 0)
    eventually(lambda: set(Path(tempfile.gettempdir()).glob("superpos-score-*")) <= before, within_s=20)
