"""The adapters that come with the package: what their cards and the README say of them, and what they are for."""

import re
from pathlib import Path

import pytest

from adapters.files import BUNDLED, bundled_adapters, from_files
from backbone import Backbone
from scripts.train_bundled import RUNS
from training.data.examples import Example
from training.scoring.adapter_answers import answers
from training.scoring.evaluation import tokenize_examples
from training.task.task_file import load_task_file

ROOT = Path(__file__).parents[3]
ADAPTERS = {task: from_files(files) for task, files in bundled_adapters().items()}


def test_the_bundled_adapters_are_those_that_the_script_trains() -> None:
    assert sorted(ADAPTERS) == sorted(RUNS)


@pytest.mark.parametrize("task", sorted(ADAPTERS))
@pytest.mark.slow
def test_a_bundled_adapter_is_of_its_task_file_and_of_the_embedded_backbone(task: str, embedded: Backbone) -> None:
    adapter = ADAPTERS[task]
    file = load_task_file(ROOT / f"examples/tasks/{task}.yaml", variables={"SUPERPOS_DATA": "/rows"})
    assert adapter.spec == file.spec
    assert adapter.manifest.backbone.fingerprint == embedded.identity.fingerprint


@pytest.mark.parametrize("task", sorted(ADAPTERS))
def test_a_bundled_adapter_knows_more_than_a_constant_answer_and_how_sure_it_may_be(task: str) -> None:
    metrics = ADAPTERS[task].manifest.provenance.metrics
    assert not metrics.get("collapsed")
    assert metrics["report_score"] > metrics["report_constant_score"]
    assert metrics["report_ece"] <= metrics["report_raw_ece"] + 0.02, "its calibration made it worse"
    card = (BUNDLED / task / "README.md").read_text(encoding="utf-8")
    assert "## Calibration" in card
    assert "Not measured" not in card


@pytest.mark.parametrize(
    ("task", "fields", "expected"),
    [
        ("sst2", {"sentence": "a gripping film"}, "positive"),
        ("ag_news", {"text": "The striker scored twice as his club won the cup final."}, "sports"),
        ("trec", {"question": "Where is the highest mountain of Africa?"}, "location"),
        ("banking77", {"text": "I have lost my card"}, "lost_or_stolen_card"),
        ("stsb", {"sentence1": "A man plays the guitar.", "sentence2": "A dog runs in the snow."}, "0.0"),
    ],
)
@pytest.mark.slow
def test_a_bundled_adapter_gives_a_plain_example_its_label(
    embedded: Backbone, task: str, fields: dict[str, str], expected: str
) -> None:
    adapter = ADAPTERS[task]
    label = adapter.spec.label_names.index(expected)
    rows = tokenize_examples(embedded, adapter.spec, [Example(adapter.spec.render(fields), label, fields=fields)])
    assert answers(embedded, adapter, rows).argmax(axis=1).tolist() == [label]


def test_the_readme_says_what_the_bundled_adapters_provenance_says() -> None:
    said = re.findall(r"^\| `(\w+)` \|.*?((?:\| [\d.]+ ){6})\|$", README, re.MULTILINE)
    assert [task for task, _ in said] == sorted(ADAPTERS)
    for task, cells in said:
        metrics = ADAPTERS[task].manifest.provenance.metrics
        for column, shown in zip(COLUMNS, cells.strip("| ").split(" | "), strict=True):
            # baselines of an adapter that records none are of another run
            if column in metrics or not column.startswith("baseline"):
                assert shown == f"{metrics[column]:.3f}", (task, column)


COLUMNS = (
    "report_score",
    "baseline_tfidf_score",
    "baseline_head_score",
    "baseline_joint_score",  # no adapter records one
    "report_constant_score",
    "report_ece",
)
README = (ROOT / "README.md").read_text(encoding="utf-8")
