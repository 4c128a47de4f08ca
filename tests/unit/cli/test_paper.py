"""`superpos paper`: grids that are run, resumed, printed and rendered."""

import re
from pathlib import Path
from typing import Literal

import pytest
from support.cli import Desk, superpos

from training.paper.published import published_rows

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_table_is_run_printed_and_gone_on_with(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "grid"
    options = [
        *("--tasks", desk.task.stem, "--task-files", desk.task.parent, "--backbone", desk.tiny_t5, "--out", folder),
        *("--max-steps", "2", "--limit", "20", "--eval-rows", "10", "--threads", "1", "--plain"),
    ]
    left = superpos("paper", "table1", *options, "--methods", "simple,simple-lr0.3", "--dry-run")
    name = desk.task.stem
    assert left.stdout.split() == [f"{name}/simple/seed0", f"{name}/simple-lr0.3/seed0"]
    assert not folder.exists()

    first = superpos("paper", "table1", *options, "--methods", "simple")
    assert first.code == 0, first.stderr
    assert re.search(r"Simple PT.*0\.01.*off", first.stdout)
    assert "best constant answer" in first.stdout
    assert "published" not in first.text, "no task is of the paper"
    assert "paper's backbones" not in first.text

    more = superpos("paper", "table2", *options, "--methods", "simple,simple-lr0.3")
    assert more.code == 0, more.stderr
    assert re.findall(r"^(\S+)  score", more.stderr, re.MULTILINE) == [f"{name}/simple-lr0.3/seed0"], "trained again"

    written = superpos("paper", "results", folder, "--json", tmp_path / "r" / "a.json", "--backbone", desk.tiny_t5)
    assert written.code == 0, written.stderr
    rendered = superpos("paper", "render", tmp_path / "r" / "a.json", "--out", tmp_path / "r" / "page.md")
    assert rendered.code == 0, rendered.stderr
    assert "a.json](results/a.json): 2 runs" in (tmp_path / "r" / "page.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("table", "method"), [("table1", "simple"), ("table3", "one-shot")])
def test_the_papers_own_rows_are_printed_below_ours(
    desk: Desk, tmp_path: Path, table: Literal["table1", "table3"], method: str
) -> None:
    rows = desk.task.with_name("rte.yaml")
    rows.write_text(desk.task.read_text(encoding="utf-8").replace("name: topic", "name: rte"), encoding="utf-8")
    options = [
        *("--tasks", "rte", "--task-files", desk.task.parent, "--backbone", desk.tiny_t5, "--out", tmp_path / "grid"),
        *("--max-steps", "2", "--limit", "20", "--eval-rows", "10", "--threads", "1", "--seeds", "0"),
    ]
    answer = superpos("paper", table, *options, "--methods", method)
    assert answer.code == 0, answer.stderr
    lines = [re.split(r"\s*[│┃]\s*", line.strip("│┃ ")) for line in answer.stdout.splitlines()]
    printed = {tuple(line[i] for i in (0, 2, 3, 4)) for line in lines if line[0].startswith("published")}
    known = published_rows(table, "tiny")
    assert len(known) == {"table1": 18, "table3": 7}[table]
    dropouts = {None: "–", True: "on", False: "off"}
    assert printed == {
        (
            f"published, {row.backbone.rpartition('/')[2]}: {row.title}",
            dropouts[row.dropout],
            row.cells["rte"].printed,
            "–" if row.average is None else f"{row.average} *",
        )
        for row in known
    }
    assert len(printed) == len(known)
    assert "is not one of the paper's backbones: compare the order of the methods, not numbers" in answer.text


def test_a_grid_that_cannot_be_is_refused(desk: Desk, tmp_path: Path) -> None:
    files = ["--task-files", desk.task.parent, "--backbone", desk.tiny_t5, "--out", tmp_path / "grid"]
    unknown = superpos("paper", "fig2", *files, "--tasks", desk.task.stem, "--methods", "prefix")
    assert unknown.refusal().startswith("method 'prefix' is not a variant of the paper, expected one of ")
    assert "no-such.yaml: cannot be read" in superpos("paper", "table1", *files, "--tasks", "no-such").refusal()
    seeds = superpos("paper", "table1", *files, "--tasks", desk.task.stem, "--seeds", "0,x").refusal()
    assert seeds == "--seeds is '0,x', expected whole numbers separated by commas"
    empty = superpos("paper", "results", tmp_path, "--json", tmp_path / "r.json", "--backbone", desk.tiny_t5)
    assert empty.refusal() == f"{tmp_path} has no finished run of a grid"
    (tmp_path / "bad.json").write_text("{}")
    bad = superpos("paper", "render", tmp_path / "bad.json").refusal()
    assert bad.startswith(f"{tmp_path / 'bad.json'}: not the results of a grid: ")


def test_the_papers_relatives_have_a_table_of_their_own(desk: Desk, tmp_path: Path) -> None:
    options = [
        *("--tasks", desk.task.stem, "--task-files", desk.task.parent, "--backbone", desk.tiny_t5),
        *("--max-steps", "2", "--limit", "20", "--eval-rows", "10", "--threads", "1", "--out", tmp_path / "grid"),
    ]
    name = desk.task.stem
    left = superpos("paper", "relatives", *options, "--dry-run")
    assert left.stdout.split() == [f"{name}/{each}/seed0" for each in ("superpos", "lora", "houlsby", "one-shot")], (
        "those that need no start"
    )
    done = superpos("paper", "relatives", *options, "--methods", "lora,houlsby,one-shot", "--plain")
    assert done.code == 0, done.stderr
    for title in ("LoRA", "Adapters", "One-shot, untrained"):
        assert title in done.stdout
    lacking = superpos("paper", "relatives", *options, "--methods", "mpt").refusal()
    assert lacking == "method 'mpt' starts from a shared prompt, expected its folder (--shared)"
