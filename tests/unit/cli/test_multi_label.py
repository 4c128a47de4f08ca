"""Multi-label tasks on the command line: task init, data check, train, evaluate, push, classify, promote."""

import json
from pathlib import Path

import pytest
from support.cli import Answer, superpos
from support.server import RunningServer
from support.threads import on_one_thread
from support.training import topic_rows, write_rows

from adapters.files import from_files, read_folder

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

TASK = """\
name: topics
template: "text: {text}"
labels: {sports: sports, business: business, capital: capital}
kind: multi_label
max_tokens: 32
data:
  train: train.csv
  validation: validation.jsonl
  label_separator: ";"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a task whose training rows are a CSV file."""
    made = tmp_path_factory.mktemp("topics")
    lines = [f"{row['text']},{';'.join(row['label'])}" for row in topic_rows(240, seed=1)]  # type: ignore[arg-type]
    (made / "train.csv").write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    write_rows(made / "validation.jsonl", topic_rows(60, seed=2))
    (made / "topics.yaml").write_text(TASK, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def trained(folder: Path, tiny_t5: Path) -> Answer:
    """Return what training a head answered; its run is in `run`."""
    options = ("--method", "head", "--backbone", tiny_t5, "--out", folder / "run", "--no-report", "--threads", "1")
    with on_one_thread():
        return superpos("train", folder / "topics.yaml", *options)


def test_training_prints_the_metrics_of_the_kind_and_how_it_was_calibrated(trained: Answer, folder: Path) -> None:
    assert trained.code == 0, trained.stderr
    for title in ("micro F1", "macro F1", "mAP", "exact match"):
        assert title in trained.text
    assert "label thresholds 0." in trained.text
    assert from_files(read_folder(folder / "run" / "adapter")).manifest.calibration.label_thresholds is not None


def test_a_prompt_gets_a_learned_readout_and_words_are_refused(folder: Path, tiny_t5: Path) -> None:
    options = (
        "--max-steps",
        "1",
        "--num-sampled-tokens",
        "32",
        "--backbone",
        tiny_t5,
        "--no-report",
        "--no-baselines",
        "--plain",
    )
    answer = superpos("train", folder / "topics.yaml", "--out", folder / "prompt", *options)
    assert answer.code == 0, answer.stderr
    assert json.loads((folder / "prompt" / "run.json").read_text())["arguments"]["readout"] == "pooled"
    refusal = superpos("train", folder / "topics.yaml", "--readout", "words", "--out", folder / "words", *options)
    assert "task 'topics' is multi_label, which needs --readout soft, pooled or joint, not 'words'" in refusal.refusal()
    both = superpos("train", folder / "topics.yaml", "--readout", "auto", "--out", folder / "auto", *options)
    assert both.code == 0, both.stderr
    assert {path.name for path in (folder / "auto").iterdir()} >= {"soft", "pooled", "joint"}
    assert not (folder / "auto" / "words").exists()


def test_evaluation_has_a_table_of_labels(trained: Answer, folder: Path, tiny_t5: Path) -> None:
    answer = superpos("evaluate", folder / "run", folder / "topics.yaml", "--backbone", tiny_t5)
    assert answer.code == 0, answer.stderr
    for word in ("threshold", "precision", "recall", "AP", "sports", "business", "capital"):
        assert word in answer.text
    options = ("--calibrate", "auto", "--abstain-precision", "0.9", "--backbone", tiny_t5)
    refusal = superpos("evaluate", folder / "run", folder / "topics.yaml", *options).refusal()
    assert "abstain_precision is 0.9, which a multi-label task does not have" in refusal


def test_a_multi_label_adapter_is_pushed_shown_and_asked(trained: Answer, folder: Path, server: RunningServer) -> None:
    to = ("--to", server.url)
    assert superpos("push", folder / "run", "topics", *to).code == 0
    shown = superpos("show", "topics", "--from", server.url)
    assert shown.code == 0, shown.stderr
    answer = superpos("classify", "topics", "the sports business", "lazy dog over", "--server", server.url)
    assert answer.code == 0, answer.stderr
    assert "sports, business" in answer.text or "business, sports" in answer.text
    assert "no label" in answer.text
    found = superpos("classify", "topics", "lazy dog over", "--json", "--server", server.url)
    assert json.loads(found.stdout)["predictions"][0]["labels"] == []


def test_rows_are_checked_and_drafted(folder: Path, tiny_t5: Path) -> None:
    checked = superpos("data", "check", folder / "topics.yaml", "--backbone", tiny_t5)
    assert checked.code == 0, checked.stdout
    lines = [f"{row['text']},{';'.join(row['label'])}" for row in topic_rows(60, seed=4)]  # type: ignore[arg-type]
    (folder / "rows.csv").write_text("\n".join(["text,tags", *lines]) + "\n", encoding="utf-8")
    out = folder / "drafted.yaml"
    drafted = superpos("task", "init", folder / "rows.csv", "--out", out, "--backbone", tiny_t5)
    assert drafted.code == 0, drafted.stderr
    assert "multi_label" in drafted.text
    text = out.read_text(encoding="utf-8")
    assert "kind: multi_label" in text
    assert "label_separator: ;" in text or 'label_separator: ";"' in text
    assert superpos("data", "check", out, "--backbone", tiny_t5).code == 0
    (folder / "bad.csv").write_text("text,label\n" + "clear,sports;sprots\n" * 30, encoding="utf-8")
    bad = folder / "bad.yaml"
    bad.write_text(TASK.replace("train.csv", "bad.csv"), encoding="utf-8")
    found = superpos("data", "check", bad, "--backbone", tiny_t5)
    assert found.code == 1
    assert "'sprots', did you mean 'sports'?" in found.text
