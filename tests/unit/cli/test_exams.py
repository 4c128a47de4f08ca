"""Two exams are not compared as one: `promote --rows`, `evaluate --rows`, and the rows that a card names."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from support.cli import QUICK, QUICK_WORDS, TASK, Desk, superpos
from support.training import easy_rows, write_rows

from adapters import PromptAdapter
from adapters.exams import RIGHT, ROWS_SHA256, exam_of
from adapters.files import CARD, from_files, read_folder, to_files, write_folder
from adapters.registry.opening import open_registry

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory, tiny_t5: Path) -> Desk:
    """Make a task whose report rows are held out of its only file, and a run of it."""
    folder = tmp_path_factory.mktemp("single")
    (folder / "topic.yaml").write_text(TASK.replace("  validation: validation.jsonl\n", ""), encoding="utf-8")
    write_rows(
        folder / "train.jsonl", [row | {"text": f"{row['text']} {n}"} for n, row in enumerate(easy_rows(120, seed=1))]
    )
    trained = superpos("train", folder / "topic.yaml", "--backbone", tiny_t5, "--out", folder / "run", *QUICK_WORDS)
    assert trained.code == 0, trained.stderr
    return Desk(folder, tiny_t5, trained)


def test_a_card_names_its_rows_by_content_whatever_their_order_and_file(desk: Desk, tmp_path: Path) -> None:
    data = desk.adapter.manifest.provenance.data
    assert re.fullmatch(r"[0-9a-f]{64}", str(data[ROWS_SHA256]))
    assert str(data[RIGHT]).startswith("60:")
    assert f"| report rows | `{data[ROWS_SHA256]}` |" in (desk.run / "adapter" / CARD).read_text(encoding="utf-8")
    write_rows(tmp_path / "train.jsonl", easy_rows(40, seed=5))
    write_rows(tmp_path / "other.jsonl", easy_rows(60, seed=2)[::-1])
    (tmp_path / "t.yaml").write_text(
        TASK.replace("validation.jsonl", "other.jsonl").replace(
            "{sports: sports, business: business}", "{business: b, sports: s}"
        ),
        encoding="utf-8",
    )
    superpos(
        "train",
        tmp_path / "t.yaml",
        "--backbone",
        desk.tiny_t5,
        "--out",
        tmp_path / "run",
        *QUICK[2:],
        "--readout",
        "words",
        "--epochs",
        1,
    )
    again = from_files(read_folder(tmp_path / "run" / "adapter"))
    assert exam_of(again) == exam_of(desk.adapter)
    write_rows(tmp_path / "other.jsonl", easy_rows(59, seed=2))
    superpos(
        "train",
        tmp_path / "t.yaml",
        "--backbone",
        desk.tiny_t5,
        "--out",
        tmp_path / "less",
        *QUICK[2:],
        "--readout",
        "words",
        "--epochs",
        1,
    )
    assert exam_of(from_files(read_folder(tmp_path / "less" / "adapter"))) != exam_of(desk.adapter)


def test_evaluate_warns_where_rows_were_trained_on(single: Desk, desk: Desk) -> None:
    options = ("--backbone", single.tiny_t5)
    seen = superpos("evaluate", single.run, single.task, "--rows", "train", *options)
    assert "108 of the 120 rows also trained this adapter or chose its epoch" in seen.stderr
    unseen = superpos("evaluate", single.run, single.task, "--rows", "report", *options)
    assert (unseen.code, unseen.stderr) == (0, "")
    figures = single.adapter.manifest.provenance.metrics
    assert f"{figures['report_accuracy']:.4f}" in unseen.text
    assert f"{figures['report_loss']:.4f}" in unseen.text
    # rows of another file, some of which were trained on
    rows = [json.loads(line) for line in (desk.folder / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    fresh = [{"text": f"sports {number}", "label": "sports"} for number in range(10)]
    write_rows(desk.folder / "mixed.jsonl", rows[:5] + fresh)
    task = desk.write("mixed.yaml", TASK.replace("validation.jsonl", "mixed.jsonl"))
    mixed = superpos("evaluate", desk.run, task, "--backbone", desk.tiny_t5)
    assert mixed.code == 0, mixed.stderr
    assert re.search(r"\b[5-9] of the 15 rows also trained this adapter", mixed.stderr) or "15 of" in mixed.stderr
    refusal = superpos("evaluate", single.run, single.task, *options).refusal()
    assert "--rows report" in refusal
    other = superpos("evaluate", single.run, desk.task, "--rows", "report", *options).refusal()
    assert "was not trained on the rows" in other


def test_promote_scores_both_versions_on_rows_that_are_at_hand(desk: Desk, tmp_path: Path) -> None:
    """The cards of these two are from different rows, and the worse one has the better figure."""
    place = tmp_path / "r.sqlite"
    good = desk.adapter
    manifest = good.manifest.provenance
    other = {**manifest.data, ROWS_SHA256: "0" * 64}
    flattered = manifest.model_copy(update={"data": other, "metrics": {**manifest.metrics, "report_accuracy": 1.0}})
    noise = np.random.default_rng(0).normal(0, 1, good.prompt.shape).astype(np.float32)
    bad = PromptAdapter(noise, good.manifest.model_copy(update={"provenance": flattered}))
    for name, adapter in (("good", good), ("bad", bad)):
        write_folder(tmp_path / name, to_files(adapter))
        assert (
            superpos("push", tmp_path / name, "topic", "--to", place, *(["--no-alias"] if name == "bad" else [])).code
            == 0
        )
    refusal = superpos("promote", "topic", 2, "--to", place).refusal()
    advice = re.search(r"'superpos (promote --rows) TASK.yaml'", refusal)
    assert advice is not None
    options = ("--rows", desk.task, "--backbone", desk.tiny_t5)
    refused = superpos("promote", "topic", 2, "--to", place, *options).refusal()
    assert re.search(
        r"report_accuracy: the version has 0\.\d+, production [\d.]+ \(-0\.\d+ on the same 60 rows, 95 % ", refused
    )
    assert "use --force" in refused
    assert superpos("promote", "topic", 2, "--to", place, "--force").code == 0
    done = superpos("promote", "topic", 1, "--to", place, *options)
    assert done.code == 0, done.stderr
    assert "compared here: +0." in done.stdout
    assert open_registry(place).describe("default", "topic").aliases == {"production": 1}
